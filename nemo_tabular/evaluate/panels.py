"""Enter: one column of the real and of the synthetic table.
Leave: a panel of both: paired bars, a filled histogram under a line, or the share the commonest values cover.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from nemo_tabular.evaluate.canvas import (
    FAINT,
    REAL,
    REAL_FILL,
    SYNTHETIC,
    SYNTHETIC_FILL,
    Canvas,
    shortened,
)
from nemo_tabular.evaluate.fidelity import spikes_of
from nemo_tabular.evaluate.tables import ColumnView, text_lengths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANEL_HEIGHT, TITLE_HEIGHT, LABEL_WIDTH = 1.85, 0.5, 1.3
BARS = 8
"""Categories shown by name; the others together."""
SCATTERED = 0.2
"""Below this share of the named categories their bars would be slivers."""
BINS = 40
SET_ASIDE = 0.3
"""A value with at least this share would flatten the histogram of the others: it becomes a line of text."""


def draw_panel(
    canvas: Canvas,
    place: tuple[float, float, float],
    column: ColumnView,
    real: np.ndarray,
    synthetic: np.ndarray,
    score: float | None,
) -> None:
    """One column at `place` = (left, top, width) in inches; `score` is printed beside the name."""
    left, top, width = place
    canvas.text(left, top + 0.05, shortened(column.name, 30), size=9.5, weight="bold")
    if score is not None and not math.isnan(score):
        canvas.text(left + width, top + 0.07, f"{score:.3f}", size=8.5, color=FAINT, ha="right")
    indent = LABEL_WIDTH if column.discrete and not _scattered(column, real) else 0.0
    notes = _missing_note(real, synthetic)
    if np.isnan(real).all() and np.isnan(synthetic).all():
        notes = ["all missing"]
    else:
        axes = canvas.axes(left + indent, top + TITLE_HEIGHT, width - indent, PANEL_HEIGHT - 0.25)
        notes += _draw(axes, column, real, synthetic)
    canvas.text(left, top + 0.27, "   ".join(notes), size=7.5, color="#666666")


def _draw(axes: Axes, column: ColumnView, real: np.ndarray, synthetic: np.ndarray) -> list[str]:
    if not column.discrete:
        return _draw_histogram(axes, column, real, synthetic)
    if _scattered(column, real):
        return _draw_coverage(axes, column, real, synthetic)
    return _draw_bars(axes, column, real, synthetic)


def _missing_note(real: np.ndarray, synthetic: np.ndarray) -> list[str]:
    shares = np.isnan(real).mean(), np.isnan(synthetic).mean()
    return [f"missing: {_percent(shares[0])} / {_percent(shares[1])}"] if max(shares) > 0 else []


def _percent(share: float) -> str:
    if 0 < share < 0.0005:
        return "<0.1 %"
    return f"{100 * share:.1f} %" if share < 0.9995 or share == 1 else ">99.9 %"


# ---------------------------------------------------------------- categories


def _draw_bars(axes: Axes, column: ColumnView, real: np.ndarray, synthetic: np.ndarray) -> list[str]:
    names, p, q = bar_shares(column, real, synthetic)
    y = np.arange(len(names))
    thick = 0.38
    axes.barh(y - thick / 2, p, thick, color=REAL_FILL, edgecolor=REAL, linewidth=0.7)
    axes.barh(y + thick / 2, q, thick, color=SYNTHETIC_FILL, edgecolor=SYNTHETIC, linewidth=0.7)
    axes.set_yticks(y, names)
    axes.tick_params(axis="y", length=0)
    slots = max(len(names), 3)  # two bars must not fill the panel
    axes.set_ylim(slots - 0.4 - (slots - len(names)) / 2, -0.6 - (slots - len(names)) / 2)
    axes.set_xlim(0, max(p.max(), q.max(), 1e-9) * 1.04)
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter(lambda v, _: f"{100 * v:g} %")
    _clean(axes, left=True)
    return []


def _scattered(column: ColumnView, real: np.ndarray) -> bool:
    """So many values that the commonest, as bars, would be slivers: their cumulated share says more."""
    return len(column.levels) > 50 and float(np.mean(real < BARS)) < SCATTERED


def _draw_coverage(axes: Axes, column: ColumnView, real: np.ndarray, synthetic: np.ndarray) -> list[str]:
    """Cumulated share of the values in the real table's order: a value forgotten or made up bends it."""
    levels = len(column.levels)
    counts = (np.bincount(v[~np.isnan(v)].astype(np.int64), minlength=levels) for v in (real, synthetic))
    p, q = (np.concatenate([[0.0], np.cumsum(c) / max(c.sum(), 1)]) for c in counts)
    axes.fill_between(np.arange(levels + 1), p, color=REAL_FILL, linewidth=0)
    axes.plot(p, color=REAL, linewidth=0.9)
    axes.plot(q, color=SYNTHETIC, linewidth=1.4)
    axes.set(xlim=(0, levels), ylim=(0, 1.03))
    axes.set_yticks([0.5, 1], ["50 %", "100 %"])
    axes.tick_params(axis="y", length=0, pad=-4, labelsize=7, labelcolor="#555555")
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")
    axes.xaxis.set_major_formatter(lambda v, _: compact(v))
    axes.locator_params(axis="x", nbins=5, integer=True)
    _clean(axes, left=False)
    axes.grid(axis="y", color="#FFFFFF", linewidth=0.8)
    return [f"share covered by {levels:,} values"]


def bar_shares(
    column: ColumnView, real: np.ndarray, synthetic: np.ndarray
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names and shares (of all rows, missing ones too) of the commonest values, the rest under one name."""
    levels = len(column.levels)
    p, q = (
        np.bincount(v[~np.isnan(v)].astype(np.int64), minlength=levels) / len(v) for v in (real, synthetic)
    )
    names = [shortened(n) or "(empty)" for n in column.levels]
    if levels > BARS + 1:
        names = [*names[:BARS], f"{levels - BARS:,} others"]
        p, q = (np.append(s[:BARS], s[BARS:].sum()) for s in (p, q))
    return names, p, q


# ---------------------------------------------------------------- numbers and dates


def _draw_histogram(axes: Axes, column: ColumnView, real: np.ndarray, synthetic: np.ndarray) -> list[str]:
    """Shares by bin, real filled, synthetic as a line; returns what must be said beside it."""
    if column.kind == "text":
        real, synthetic = text_lengths(column, real), text_lengths(column, synthetic)
    notes = ["length of the text"] if column.kind == "text" else []
    aside = value_set_aside(real) if column.kind == "number" else None
    if aside is not None:
        shares = [_percent(float(np.mean(v == aside))) for v in (real, synthetic)]
        notes.append(f"without {aside:g} ({shares[0]} / {shares[1]})")
        real, synthetic = real[real != aside], synthetic[synthetic != aside]
    real, synthetic = real[~np.isnan(real)], synthetic[~np.isnan(synthetic)]
    edges, logarithmic = bin_edges(column, real, synthetic)
    p, q = (_bin_shares(v, edges) for v in (real, synthetic))
    axes.stairs(p, edges, fill=True, color=REAL_FILL)
    axes.stairs(p, edges, color=REAL, linewidth=0.7)
    axes.stairs(q, edges, color=SYNTHETIC, linewidth=1.4)
    axes.set_ylim(0, max(p.max(), q.max(), 1e-9) * 1.06)
    _number_axis(axes, column, edges, logarithmic)
    if logarithmic:
        notes.append("log scale")
    return notes


def _bin_shares(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Values beyond the outer edges count in the outer bins: a tail is never cut off unseen."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def value_set_aside(values: np.ndarray) -> float | None:
    """The one value that would dwarf the histogram of all others, if the column has one."""
    present = values[~np.isnan(values)]
    spikes = spikes_of(present) if len(present) else present
    if not len(spikes) or len(np.unique(present)) <= BINS:
        return None
    shares = [float(np.mean(present == s)) for s in spikes]
    best = int(np.argmax(shares))
    return float(spikes[best]) if shares[best] >= SET_ASIDE else None


def bin_edges(column: ColumnView, real: np.ndarray, synthetic: np.ndarray) -> tuple[np.ndarray, bool]:
    """Edges common to both, and whether they are spaced logarithmically.

    They span the real values between the 0.1 % and 99.9 % quantiles (the outer bins take what lies beyond).
    Whole numbers get bins of whole width, so that a spike is a spike and no comb of empty bins appears.
    """
    reference = real if len(real) else synthetic
    if not len(reference):
        return np.array([0.0, 1.0]), False
    low, high = np.quantile(reference, [0.001, 0.999])
    if (
        column.kind == "number"
        and low > 0
        and high / max(np.median(reference), 1e-300) > 15
        and high / low > 100
    ):
        return np.geomspace(low, high, BINS + 1), True
    if column.integer or column.kind == "text":
        width = max(1, math.ceil((high - low + 1) / BINS))
        low, high = math.floor(low), math.ceil(high)
        return np.arange(low - 0.5, high + width + 0.5, width), False
    if low == high:
        return np.array([low - 0.5, low + 0.5]), False
    return np.linspace(low, high, BINS + 1), False


def _number_axis(axes: Axes, column: ColumnView, edges: np.ndarray, logarithmic: bool) -> None:
    if logarithmic:
        axes.set_xscale("log")
        axes.minorticks_off()
    else:
        axes.locator_params(axis="x", nbins=5, integer=column.integer)
    axes.set_xlim(edges[0], edges[-1])
    if column.kind == "date":
        _date_ticks(axes, edges)
    else:
        axes.xaxis.set_major_formatter(lambda v, _: compact(v))
    axes.set_yticks([])
    _clean(axes, left=False)


def _date_ticks(axes: Axes, edges: np.ndarray) -> None:
    ticks = np.linspace(edges[0], edges[-1], 4)
    stamps = ticks.astype(np.int64).astype("datetime64[s]")
    days = (edges[-1] - edges[0]) / 86_400
    unit, cut = ("D", 10) if days > 3 else ("m", 16)
    names = [str(s.astype(f"datetime64[{unit}]"))[:cut].replace("T", " ") for s in stamps]
    axes.set_xticks(ticks, names)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def compact(value: float) -> str:
    """1500 -> 1.5k: a tick must not take more room than the gap to the next."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 if size > 1e3 else 10):
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _clean(axes: Axes, *, left: bool) -> None:
    for side in ("top", "right", *(() if left else ("left",))):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=2.5, pad=2)
    if left:
        axes.grid(axis="x", color="#EEEEEE", linewidth=0.8)
        axes.set_axisbelow(True)
