"""Enter: a history and its sampled futures.
Leave: one PNG: a fan chart of every column, the past as a line and the future as bands around the median.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from .canvas import FAINT, GAP, MARGIN, PAGE, REAL, SYNTHETIC, Canvas, new_canvas, shortened, styled

BANDS = ((0.05, 0.95, 0.18), (0.1, 0.9, 0.3), (0.25, 0.75, 0.45))
"""Lower and upper level, and how opaque."""
HEIGHT, TITLE, HEADER = 2.4, 0.45, 0.95
SHOWN = 4
"""So many horizons of the past are drawn, at least `LEAST_PAST` rows."""
LEAST_PAST = 40
EXAMPLES = 3


def draw_fans(
    path: str | Path,
    columns: Sequence[str],
    past_TC: np.ndarray,
    paths_PHC: np.ndarray,
    *,
    past_times: Any = None,
    future_times: Any = None,
    given: Sequence[str] = (),
    title: str = "",
    dpi: int = 130,
) -> None:
    """Write the picture. `given`: columns whose path was given. Raises ConfigError without matplotlib, or for
    a path that does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ConfigError(f"{path}: the picture is a PNG; give a path that ends in .png")
    horizon = paths_PHC.shape[1]
    kept = min(len(past_TC), max(SHOWN * horizon, LEAST_PAST))
    times = np.arange(-kept + 1, 1) if past_times is None else np.asarray(past_times)[-kept:]
    ahead = np.arange(1, horizon + 1) if future_times is None else np.asarray(future_times)
    across = min(2, len(columns))
    rows = math.ceil(len(columns) / across)
    with styled():
        canvas = new_canvas(PAGE, HEADER + rows * (TITLE + HEIGHT + GAP) + MARGIN)
        _draw_header(canvas, title, len(paths_PHC))
        width = (PAGE - 2 * MARGIN - (across - 1) * GAP * 2) / across
        for c, name in enumerate(columns):
            left = MARGIN + 0.25 + (c % across) * (width + GAP * 2)
            top = HEADER + (c // across) * (TITLE + HEIGHT + GAP)
            words = shortened(name, 60) + (" (given)" if name in given else "")
            canvas.text(left, top + 0.05, words, size=11, weight="bold")
            axes = canvas.axes(left, top + TITLE, width - 0.25, HEIGHT)
            _draw_fan(axes, times, past_TC[-kept:, c], ahead, paths_PHC[:, :, c])
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        canvas.page.savefig(path, dpi=dpi)


def _draw_header(canvas: Canvas, title: str, paths: int) -> None:
    canvas.text(MARGIN, 0.25, title or "What may come", size=17, weight="bold")
    words = f"median and central 50, 80 and 90 % of {paths:,} sampled paths; thin: {EXAMPLES} of them"
    canvas.text(MARGIN, 0.6, words, size=9, color=FAINT)


def _draw_fan(
    axes: Any, times: np.ndarray, past_T: np.ndarray, ahead: np.ndarray, paths_PH: np.ndarray
) -> None:
    known = np.flatnonzero(np.isfinite(past_T))
    start = known[-1:]  # the fan opens at the last value that is known
    when = np.concatenate([times[start], ahead])

    def joined(values_H: np.ndarray) -> np.ndarray:
        return np.concatenate([past_T[start], values_H])

    for low, high, opaque in BANDS:
        lower, upper = np.quantile(paths_PH, [low, high], axis=0)
        axes.fill_between(when, joined(lower), joined(upper), color=SYNTHETIC, alpha=opaque, linewidth=0)
    for example in paths_PH[:EXAMPLES]:
        axes.plot(when, joined(example), color=SYNTHETIC, linewidth=0.5, alpha=0.7)
    axes.plot(when, joined(np.median(paths_PH, 0)), color=SYNTHETIC, linewidth=1.8)
    axes.plot(times[known], past_T[known], color=REAL, linewidth=1.4)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.margins(x=0.01)
