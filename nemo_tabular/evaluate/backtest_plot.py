"""Enter: a Backtest.
Leave: one PNG: each model's CRPS relative to the seasonal naive by column, and how calibrated each model is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .backtest import Backtest
from .canvas import FAINT, GAP, MARGIN, PAGE, REAL, REAL_FILL, SYNTHETIC, new_canvas, shortened, styled
from .forecasts import PIT_BINS

HEADER, HEIGHT, TITLE = 0.95, 1.6, 0.35
BARS = 3.2
"""Inches for the relative scores, left of the histograms."""


def draw_backtest(result: Backtest, path: str | Path, *, title: str = "", dpi: int = 130) -> None:
    """Write the picture: one line a model. Raises ConfigError as `draw_fans` does."""
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(f"{path}: the picture is a PNG; give a path that ends in .png")
    scores = result.scores()
    columns = list(dict.fromkeys(scores.column))
    models = list(result.summary().index)
    width = (PAGE - 2 * MARGIN - BARS - GAP * len(columns)) / len(columns)
    with styled():
        canvas = new_canvas(PAGE, HEADER + len(models) * (TITLE + HEIGHT + GAP) + MARGIN)
        canvas.text(MARGIN, 0.25, title or "Forecasts of the past", size=17, weight="bold")
        words = (
            f"{len(result.truth):,} forecasts of {result.plan.horizon} steps; left: CRPS relative to the "
            "seasonal naive; right: where the truth fell in the forecast (PIT), flat if calibrated"
        )
        canvas.text(MARGIN, 0.6, words, size=9, color=FAINT)
        for row, model in enumerate(models):
            top = HEADER + row * (TITLE + HEIGHT + GAP)
            canvas.text(MARGIN, top, shortened(model, 40), size=11, weight="bold")
            found = scores[scores.model == model].set_index("column").rel_crps
            _draw_bars(canvas.axes(MARGIN + 0.8, top + TITLE, BARS - 0.8, HEIGHT), found.reindex(columns))
            for c, column in enumerate(columns):
                left = MARGIN + BARS + GAP + c * (width + GAP)
                axes = canvas.axes(left, top + TITLE, width, HEIGHT)
                _draw_pit(axes, result.pit(model, column), column)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.page.savefig(path, dpi=dpi)


def _draw_bars(axes: Any, relative: Any) -> None:
    places = np.arange(len(relative))[::-1]
    axes.barh(places, relative, color=[REAL if value <= 1 else SYNTHETIC for value in relative], height=0.6)
    axes.axvline(1, color=FAINT, linewidth=0.8)
    axes.set_yticks(places, [shortened(name, 12) for name in relative.index])
    axes.set_xlim(0, max(1.25, 1.1 * relative.max()))
    for place, value in zip(places, relative, strict=True):
        axes.text(0.03, place, f"{value:.3f}", va="center", color="white", size=8)
    _bare(axes)


def _draw_pit(axes: Any, shares: np.ndarray, column: str) -> None:
    left = np.arange(PIT_BINS) / PIT_BINS
    axes.bar(left, shares, 1 / PIT_BINS, align="edge", color=REAL_FILL, edgecolor=REAL, linewidth=0.8)
    axes.axhline(1 / PIT_BINS, color=FAINT, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, max(0.3, 1.1 * shares.max())), xticks=[0, 0.5, 1], yticks=[])
    axes.set_title(shortened(column, 20), size=8, loc="left")
    _bare(axes)


def _bare(axes: Any) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
