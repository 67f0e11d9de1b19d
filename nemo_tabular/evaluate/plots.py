"""Enter: a Report.
Leave: one PNG: every column real beside synthetic, and the association matrices with their difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nemo_tabular.errors import ConfigError
from nemo_tabular.evaluate.canvas import (
    FAINT,
    GAP,
    MARGIN,
    PAGE,
    REAL,
    REAL_FILL,
    SYNTHETIC,
    SYNTHETIC_FILL,
    Canvas,
    new_canvas,
    styled,
)
from nemo_tabular.evaluate.matrices import association_parts, draw_matrix, draw_scale
from nemo_tabular.evaluate.panels import PANEL_HEIGHT, TITLE_HEIGHT, draw_panel
from nemo_tabular.evaluate.tables import ColumnView

if TYPE_CHECKING:
    from nemo_tabular.evaluate.report import Report

ACROSS, HEADER = 4, 1.35


def draw_report(
    report: Report, path: str | Path, *, title: str = "", max_columns: int = 60, dpi: int = 130
) -> None:
    """Write the picture; of more than `max_columns` columns those with the worst shape scores, which it says.

    Raises ConfigError if matplotlib is not installed or the path does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(f"{path}: the picture is a PNG; give a path that ends in .png")
    columns = chosen_columns(report, max_columns)
    rows = math.ceil(len(columns) / ACROSS)
    grid = rows * (PANEL_HEIGHT + TITLE_HEIGHT + GAP)
    matrices = "association" in report.details and len(columns) > 1
    height = HEADER + grid + (_matrix_height() if matrices else 0) + MARGIN
    with styled():
        canvas = new_canvas(PAGE, height)
        _draw_header(canvas, report, title, len(columns))
        for i, column in enumerate(columns):
            real, synthetic = (t[column.name] for t in (report.tables.train, report.tables.synthetic))
            score = report.details.get("shapes", {}).get(column.name)
            draw_panel(canvas, _place(i), column, real, synthetic, score)
        if matrices:
            _draw_matrices(canvas, report, HEADER + grid, [c.name for c in columns])
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.page.savefig(path, dpi=dpi)


def chosen_columns(report: Report, limit: int) -> list[ColumnView]:
    """All columns, or the `limit` with the lowest shape scores, in the table's order."""
    columns = list(report.tables.columns)
    if len(columns) <= limit:
        return columns
    shapes = report.details.get("shapes", {})
    worst = set(sorted((c.name for c in columns), key=lambda n: shapes.get(n, 1.0))[:limit])
    return [c for c in columns if c.name in worst]


def _place(i: int) -> tuple[float, float, float]:
    """Left, top and width of panel i, its title included."""
    width = (PAGE - 2 * MARGIN - (ACROSS - 1) * GAP) / ACROSS
    top = HEADER + (i // ACROSS) * (PANEL_HEIGHT + TITLE_HEIGHT + GAP)
    return MARGIN + (i % ACROSS) * (width + GAP), top, width


# ---------------------------------------------------------------- header


def _draw_header(canvas: Canvas, report: Report, title: str, shown: int) -> None:
    t = report.tables
    canvas.text(MARGIN, 0.3, title or "Real and synthetic, column by column", size=17, weight="bold")
    words = [f"{t.train.rows:,} real rows, {t.synthetic.rows:,} synthetic rows", *_headline(report)]
    if shown < len(t.columns):
        words.append(f"the {shown} of {len(t.columns)} columns with the lowest shape scores")
    canvas.text(MARGIN, 0.68, "   ·   ".join(words), size=9.5, color="#555555")
    key = canvas.axes(PAGE - MARGIN - 2.6, 0.3, 2.6, 0.3)
    key.axis("off")
    key.set(xlim=(0, 2.6), ylim=(0, 0.3))
    for left, fill, line, name in (
        (0.35, REAL_FILL, REAL, "real"),
        (1.3, SYNTHETIC_FILL, SYNTHETIC, "synthetic"),
    ):
        key.bar(left, 0.17, 0.26, 0.06, color=fill, edgecolor=line, align="edge", linewidth=1.3)
        key.text(left + 0.36, 0.145, name, size=10.5, va="center")
    if "shapes" in report.details:
        key_words = "beside each name: similarity of the distributions, 1 = the same; a / b: real / synthetic"
        canvas.text(MARGIN, 0.92, key_words, size=8.5, color=FAINT)


def _headline(report: Report) -> list[str]:
    names = {"shapes": "column shapes", "trends": "pair trends", "c2st": "detection AUC"}
    words = []
    for name, title in names.items():
        if name in report.measured and not math.isnan(report.scores[name]):
            ceiling = report.measured[name].ceiling
            beside = "" if ceiling is None else f" (real rows {ceiling:.3f})"
            words.append(f"{title} {report.scores[name]:.3f}{beside}")
    return words


# ---------------------------------------------------------------- matrices


def _matrix_width() -> float:
    return (PAGE - 2 * MARGIN - 1.25 - 2 * GAP - 0.9) / 3


def _matrix_height() -> float:
    return _matrix_width() + 2.0


def _draw_matrices(canvas: Canvas, report: Report, top: float, names: Sequence[str]) -> None:
    canvas.text(MARGIN, top + 0.1, "How the columns depend on each other", size=13, weight="bold")
    words = (
        "rank correlation of two numbers, correlation ratio of a number and a category, "
        "Cramér's V of two categories"
    )
    canvas.text(MARGIN, top + 0.4, words, size=8.5, color="#666666")
    size, left = _matrix_width(), MARGIN + 1.25
    drawn = []
    for k, part in enumerate(association_parts(report, names)):
        axes = canvas.axes(left + k * (size + GAP) + (0.45 if k == 2 else 0), top + 0.95, size, size)
        drawn.append(draw_matrix(axes, *part, names, first=k == 0))
    draw_scale(canvas, drawn[1], left + 2 * size + GAP + 0.12, top + 0.95, size)
    draw_scale(canvas, drawn[2], left + 3 * size + 2 * GAP + 0.57, top + 0.95, size)
