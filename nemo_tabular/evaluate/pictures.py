"""Enter: a Report.
Leave: its pictures as PNG, each with a file name and words for those who cannot see it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nemo_tabular.evaluate.canvas import REAL, REAL_FILL, SYNTHETIC, Canvas, new_canvas, styled
from nemo_tabular.evaluate.matrices import association_parts, draw_matrix, draw_scale
from nemo_tabular.evaluate.panels import PANEL_HEIGHT, TITLE_HEIGHT, draw_panel
from nemo_tabular.evaluate.plots import chosen_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nemo_tabular.evaluate.report import Report

PANEL_WIDTH, MATRIX_SIZE = 3.3, 3.4
DPI = 150
MAX_COLUMNS = 60
"""Of more columns those with the lowest scores are drawn."""
TRAINING = "#555555"


@dataclass(frozen=True)
class Picture:
    """One picture; `section` says where it belongs: columns, associations, privacy, histories."""

    section: str
    name: str
    words: str
    png: bytes = field(repr=False)

    @property
    def file_name(self) -> str:
        return re.sub(r"[^\w.-]+", "_", f"{self.section}_{self.name}")[:80] + ".png"


def draw_pictures(report: Report) -> list[Picture]:
    """All pictures in the order of the page. Raises ConfigError without matplotlib."""
    with styled():
        return [*_columns(report), *_associations(report), *_closest_records(report), *_histories(report)]


def _picture(section: str, name: str, words: str, canvas: Canvas) -> Picture:
    data = io.BytesIO()
    canvas.page.savefig(data, format="png", dpi=DPI)
    return Picture(section, name, words, data.getvalue())


def _columns(report: Report) -> Iterator[Picture]:
    width, height = PANEL_WIDTH + 0.3, PANEL_HEIGHT + TITLE_HEIGHT + 0.2
    for number, column in enumerate(chosen_columns(report, MAX_COLUMNS), 1):
        canvas = new_canvas(width, height)
        real, synthetic = (t[column.name] for t in (report.tables.train, report.tables.synthetic))
        score = report.details.get("shapes", {}).get(column.name)
        draw_panel(canvas, (0.15, 0.1, PANEL_WIDTH), column, real, synthetic, score)
        similarity = "" if score is None else f", similarity {score:.3f}"
        words = f"{column.name}: real and synthetic distribution{similarity}"
        yield _picture("columns", f"{number:02d}_{column.name}", words, canvas)


def _associations(report: Report) -> Iterator[Picture]:
    names = [c.name for c in chosen_columns(report, MAX_COLUMNS)]
    if "association" not in report.details or len(names) < 2:
        return
    for part in association_parts(report, names):
        canvas = new_canvas(MATRIX_SIZE + 2.2, MATRIX_SIZE + 1.8)
        image = draw_matrix(canvas.axes(1.35, 0.5, MATRIX_SIZE, MATRIX_SIZE), *part, names, first=True)
        draw_scale(canvas, image, 1.45 + MATRIX_SIZE, 0.5, MATRIX_SIZE)
        yield _picture("associations", part[0], f"association of each pair of columns: {part[0]}", canvas)


# ---------------------------------------------------------------- curves


def _axes(canvas: Canvas, title: str) -> Axes:
    canvas.text(0.15, 0.12, title, size=9.5, weight="bold")
    axes = canvas.axes(0.5, 0.45, canvas.width - 0.7, canvas.height - 1.0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=2.5, pad=2, labelcolor="#555555")
    return axes


def _closest_records(report: Report) -> Iterator[Picture]:
    """Distribution functions: a table that copies starts high at the left, as the training table does."""
    found = report.details.get("closest_records")
    if not found:
        return
    canvas = new_canvas(5.6, 3.2)
    axes = _axes(canvas, "Share of rows that are nearer to a training row than this")
    largest = max(float(np.quantile(v, 0.995)) for v in found.values()) or 1.0
    kinds = (
        ("train", "the training table itself", TRAINING, ":"),
        ("held_out", "held-out real rows (natural)", REAL, "-"),
        ("synthetic", "synthetic rows", SYNTHETIC, "-"),
    )
    for name, label, colour, dash in kinds:
        values = np.sort(np.asarray(found[name]))
        shares = np.arange(1, len(values) + 1) / len(values)
        axes.step(np.r_[0, values], np.r_[0, shares], dash, where="post", color=colour, label=label)
    axes.set(xlim=(-0.01 * largest, largest), ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
    axes.set_xlabel("distance", size=8, color="#555555")
    axes.legend(frameon=False, loc="lower right", fontsize=8)
    yield _picture(
        "privacy",
        "closest_records",
        "distribution of the distance to the closest training row: synthetic, held-out and training rows",
        canvas,
    )


def _histories(report: Report) -> Iterator[Picture]:
    titles = {"lengths": "Rows in a history", "gaps": "Time from row to row"}
    for name, title in titles.items():
        found = report.details.get("histories", {}).get(name)
        if not found:
            continue
        canvas = new_canvas(PANEL_WIDTH + 0.3, 2.6)
        axes = _axes(canvas, title)
        edges = np.asarray(found["edges"])
        axes.stairs(found["real"], edges, fill=True, color=REAL_FILL)
        axes.stairs(found["real"], edges, color=REAL, linewidth=0.7)
        axes.stairs(found["synthetic"], edges, color=SYNTHETIC, linewidth=1.4)
        axes.set(xlim=(edges[0], edges[-1]), yticks=[])
        axes.set_xlabel(found["unit"], size=8, color="#555555")
        yield _picture("histories", name, f"{title}: real and synthetic distribution", canvas)
