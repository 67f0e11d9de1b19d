"""Enter: the association matrices of a Report.
Leave: each drawn as coloured squares: real, synthetic, and their difference on its own scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nemo_tabular.evaluate.canvas import Canvas, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from nemo_tabular.evaluate.report import Report

Part = tuple[str, np.ndarray, str, float]
"""Title, matrix, colour map, and the value at both ends of it."""


def association_parts(report: Report, names: Sequence[str]) -> list[Part]:
    """The three matrices for these columns; the difference gets a scale that shows it, at least 0.1."""
    found = report.details["association"]
    keep = [list(found["columns"]).index(n) for n in names]
    real, synthetic = (np.asarray(found[k], dtype=float)[np.ix_(keep, keep)] for k in ("real", "synthetic"))
    difference = synthetic - real
    largest = float(np.nanmax(np.abs(difference), initial=0.0))
    scale = min(1.0, max(0.1, math.ceil(largest * 20) / 20))
    return [
        ("real", real, "RdBu_r", 1.0),
        ("synthetic", synthetic, "RdBu_r", 1.0),
        ("synthetic minus real", difference, "PuOr_r", scale),
    ]


def draw_matrix(
    axes: Axes,
    title: str,
    matrix: np.ndarray,
    colours: str,
    limit: float,
    names: Sequence[str],
    *,
    first: bool,
) -> Any:
    axes.set_facecolor("#DDDDDD")  # where a column is constant there is nothing to correlate
    image = axes.imshow(
        matrix, cmap=colours, vmin=-limit, vmax=limit, aspect="equal", interpolation="nearest"
    )
    axes.set_title(title, size=10.5, loc="left", pad=6)
    size = 7.5 if len(names) <= 20 else 6 if len(names) <= 32 else 4
    short = [shortened(n) for n in names]
    axes.set_xticks(range(len(names)), short, rotation=60, ha="right", rotation_mode="anchor", size=size)
    axes.set_yticks(range(len(names)), short if first else [""] * len(names), size=size)
    axes.tick_params(length=0, pad=3)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=0.8 if len(names) <= 32 else 0.3)
    axes.tick_params(which="minor", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def draw_scale(canvas: Canvas, image: Any, left: float, top: float, height: float) -> None:
    bar = canvas.page.colorbar(image, cax=canvas.axes(left, top, 0.13, height))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7, pad=2)
    bar.ax.locator_params(nbins=5)
