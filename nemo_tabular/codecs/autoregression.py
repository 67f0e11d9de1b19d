"""Deviations of series from their mean enter; the weights of the last few in the next leave.

The order follows from the data (BIC), and the persistence is corrected for the bias of short series, so that
a random walk keeps being one.

Shapes: N series, T rows, L lags.
"""

import numpy as np

LAGS = 4
"""Most values that the next one is regressed on: a year of quarters."""
RIDGE = 1e-8
"""Of a value's square: keeps constant series solvable, and weighs nothing elsewhere."""


def autoregressions(off_NT: np.ndarray) -> np.ndarray:
    """Weights (N, LAGS), the latest value's first; NaN where missing.

    Least squares of order 0 to LAGS, whichever has the lowest BIC; an order needs more rows than twice its
    weights. Never explosive.
    """
    lagged = np.stack([shifted(off_NT, lag) for lag in range(LAGS + 1)])
    both = np.isfinite(lagged).all(0)
    now, *past = np.where(both, lagged, 0.0)
    x_NTL = np.stack(past, 2)
    count = both.sum(1)
    gram = np.einsum("ntl,ntm->nlm", x_NTL, x_NTL)
    cross, square = np.einsum("ntl,nt->nl", x_NTL, now), (now**2).sum(1)
    size = RIDGE * gram.trace(axis1=1, axis2=2) + 1e-200
    gram += size[:, None, None] * np.eye(LAGS)
    best, lowest = np.zeros((len(off_NT), LAGS)), count * np.log(square + size)
    for order in range(1, LAGS + 1):
        weights = np.linalg.solve(gram[:, :order, :order], cross[:, :order, None])[..., 0]
        left = np.maximum(square - (weights * cross[:, :order]).sum(1), 0)
        bic = count * np.log(left + size) + order * np.log(np.maximum(count, 1))
        better = (bic < lowest) & (count > 2 * order + 1)
        best[better, :order], best[better, order:] = weights[better], 0.0
        lowest = np.where(better, bic, lowest)
    return _stable(_persistent(best, count))


def shifted(values_NT: np.ndarray, lag: int) -> np.ndarray:
    """The values `lag` rows before; NaN before there are any."""
    out = np.full(values_NT.shape, np.nan)
    out[:, lag:] = values_NT[:, : values_NT.shape[1] - lag]
    return out


def corrected(persistence: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Kendall's correction (1954) of an autocorrelation that was estimated from so many rows; 1 at most."""
    return np.minimum(1, persistence + (1 + 3 * persistence) / np.maximum(count, 4))


def _persistent(weights_NL: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The sum of the weights, the coefficient of the level beside those of the changes, corrected."""
    total = weights_NL.sum(1)
    out = weights_NL.copy()
    out[:, 0] += np.where(total > 0, corrected(total, count) - total, 0.0)
    return out


def _stable(weights_NL: np.ndarray) -> np.ndarray:
    """Scaled until no root lies outside the unit circle."""
    series = len(weights_NL)
    companion = np.zeros((series, LAGS, LAGS))
    companion[:, 0] = weights_NL
    companion[:, np.arange(1, LAGS), np.arange(LAGS - 1)] = 1.0
    radius = np.abs(np.linalg.eigvals(companion)).max(1)
    shrink = 1 / np.maximum(radius, 1.0)
    return weights_NL * shrink[:, None] ** np.arange(1, LAGS + 1)
