"""Enter: forecasts as samples, and what came true.
Leave: their scores, exact for the samples: CRPS, quantile loss, scaled error, coverage, PIT, variogram score.

Shapes: S samples (paths), H steps, C columns; any further leading axes of the truth are broadcast over.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..generate.crps import crps

__all__ = [
    "covered",
    "crps",
    "naive_scale",
    "pit",
    "pit_histogram",
    "quantile_loss",
    "quantiles",
    "variogram_score",
]

LEVELS = np.arange(1, 10) / 10
"""Quantiles of the weighted quantile loss: .1 to .9, as in GluonTS and its followers."""
PIT_BINS = 10
PAIRS_AT_ONCE = 2_000_000


def quantiles(samples_S: np.ndarray, levels: Sequence[float] | np.ndarray) -> np.ndarray:
    """(levels, ...) from samples (S, ...); sample i of n stands for the level (i + 1/2) / n."""
    return np.quantile(samples_S, levels, axis=0, method="hazen")


def quantile_loss(samples_S: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Twice the pinball loss, mean of the nine `LEVELS`: (...), in the truth's unit."""
    off = truth - quantiles(samples_S, LEVELS)
    level = LEVELS.reshape(-1, *[1] * truth.ndim)
    return 2 * np.maximum(level * off, (level - 1) * off).mean(0)


def naive_scale(history_TC: np.ndarray, season: int) -> np.ndarray:
    """(C,): mean absolute change from season to season, by which MASE divides; NaN where there is none."""
    change = np.abs(history_TC[season:] - history_TC[:-season])
    known = np.isfinite(change)
    total = np.where(known, change, 0.0).sum(0)
    return np.divide(total, known.sum(0), out=np.full(len(total), np.nan), where=total > 0)


def covered(samples_S: np.ndarray, truth: np.ndarray, share: float = 0.8) -> np.ndarray:
    """Whether the truth lies within the central interval of that share: bool (...)."""
    low, high = quantiles(samples_S, [(1 - share) / 2, (1 + share) / 2])
    return (truth >= low) & (truth <= high)


def pit(samples_S: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Share of the samples below the truth, ties counted half: (...) in [0, 1], uniform if calibrated."""
    return (samples_S < truth).mean(0) + (samples_S == truth).mean(0) / 2


def pit_histogram(values: np.ndarray) -> np.ndarray:
    """(PIT_BINS,) shares of PIT values, `1 / PIT_BINS` each if calibrated; NaN is left out."""
    known = values[np.isfinite(values)]
    counts, _edges = np.histogram(known, PIT_BINS, (0, 1))
    return counts / max(len(known), 1)


def variogram_score(samples_SD: np.ndarray, truth_D: np.ndarray, power: float = 0.5) -> float:
    """Scheuerer and Hamill (2015): how well the distances between coordinates (columns at steps) are
    foreseen.

    Mean over pairs of (|y_i - y_j|^p - mean |x_i - x_j|^p)^2. It sees a wrong dependence, which neither the
    scores above nor, hardly, the energy score do; it does not see a shift of all coordinates. Columns have to
    be brought to one scale before.
    """
    known = np.isfinite(truth_D)
    x, y = samples_SD[:, known], truth_D[known]
    one, two = np.triu_indices(len(y), 1)
    if not len(one):
        return float("nan")
    total = 0.0
    block = max(1, PAIRS_AT_ONCE // len(x))
    for first in range(0, len(one), block):
        i, j = one[first : first + block], two[first : first + block]
        foreseen = (np.abs(x[:, i] - x[:, j]) ** power).mean(0)
        total += float(((np.abs(y[i] - y[j]) ** power - foreseen) ** 2).sum())
    return total / len(one)
