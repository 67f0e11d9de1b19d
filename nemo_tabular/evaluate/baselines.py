"""Enter: a history of columns.
Leave: samples of what comes next, by the classical methods that a forecaster has to beat.

Shapes: S samples, H steps, C columns, T rows, P lags.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConfigError

GRID = (np.arange(100) + 0.5) / 100
"""Levels of the quantiles that stand for a distribution where a method gives no paths."""
MOST_LAGS = 4


def filled(history_TC: np.ndarray) -> np.ndarray:
    """Missing values replaced by the last one before (at the start by the first after): what the classical
    methods need."""
    out = history_TC.astype(float).copy()
    for column in out.T:
        known = np.flatnonzero(np.isfinite(column))
        if len(known) == 0:
            raise ConfigError("a column without any value cannot be forecast")
        last = np.maximum(np.searchsorted(known, np.arange(len(column)), "right") - 1, 0)
        column[:] = column[known[last]]
    return out


class SeasonalNaive:
    """The value a season ago, with Gaussian errors of the size that this has made so far: the yardstick."""

    name = "seasonal naive"
    joint = False

    def __init__(self, season: int) -> None:
        self.season = season

    def fit(self, history: np.ndarray) -> None:
        """Nothing is to be learnt."""

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """Quantiles at `GRID` as samples; given paths change nothing."""
        from statistics import NormalDist

        known = filled(history)
        error = known[self.season :] - known[: -self.season]
        sigma = np.sqrt((error**2).mean(0))
        ahead = np.arange(horizon)
        last = known[len(known) - self.season + ahead % self.season]
        normal = np.array([NormalDist().inv_cdf(level) for level in GRID])
        width = np.sqrt(ahead // self.season + 1)[:, None] * sigma
        return last + normal[:, None, None] * width


class StatsForecast:
    """A model of Nixtla's statsforecast by its name, on each column by itself, refitted at every origin."""

    joint = False

    def __init__(self, model: str = "AutoARIMA", season: int = 1) -> None:
        """`model`: AutoARIMA, AutoETS, AutoTheta. Raises ConfigError where the package is missing."""
        try:
            from statsforecast import models
        except ImportError:
            raise ConfigError(
                f"{model} comes from statsforecast: pip install 'nemo-tabular[baselines]'"
            ) from None
        self.make = lambda: getattr(models, model)(season_length=season)

    def fit(self, history: np.ndarray) -> None:
        """The method fits itself to every history that it forecasts."""

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """Quantiles at `GRID` as samples; given paths change nothing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return np.stack([self._column(y, horizon) for y in filled(history).T], 2)

    def _column(self, y_T: np.ndarray, horizon: int) -> np.ndarray:
        widths = [round(float(200 * level - 100), 6) for level in GRID[len(GRID) // 2 :]]
        found: dict[str, Any] = self.make().forecast(y=y_T, h=horizon, level=widths)
        low = [_interval(found, "lo", width) for width in reversed(widths)]
        return np.stack(low + [_interval(found, "hi", width) for width in widths])


def _interval(found: dict[str, Any], side: str, width: float) -> np.ndarray:
    """One end of an interval; statsforecast writes the width into the name as it was given."""
    return np.asarray(found[f"{side}-{width}"])


class GaussianVAR:
    """A vector autoregression by least squares, its order by BIC, with Gaussian shocks: joint paths, and with
    given columns the exact conditional law of each step's shocks."""

    joint = True

    def __init__(self, samples: int = 1000, seed: int = 0, log: tuple[int, ...] = ()) -> None:
        """`log`: columns that are read as logarithms."""
        self.samples, self.seed, self.log = samples, seed, list(log)

    def fit(self, history: np.ndarray) -> None:
        """Choose the order, estimate coefficients and the covariance of the shocks."""
        y = self._read(filled(history))
        most = max(1, min(MOST_LAGS, (len(y) - 2) // (2 * y.shape[1] + 1)))
        fits = [_regression(y, lags, most) for lags in range(1, most + 1)]
        best = min(range(most), key=lambda i: fits[i][2])
        self.weights, self.covariance, _bic = _regression(y, best + 1, best + 1)
        self.lags = best + 1

    def _read(self, values: np.ndarray) -> np.ndarray:
        out = values.astype(float).copy()
        out[..., self.log] = np.log(out[..., self.log])
        return out

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """Sampled paths. What is given is conditioned on up to each step, not beyond."""
        rng = np.random.default_rng(self.seed)
        known = self._read(filled(history))
        columns = known.shape[1]
        told, free = sorted(given), [c for c in range(columns) if c not in given]
        path_SPC = np.repeat(known[None, -self.lags :], self.samples, 0)
        from_told = self.covariance[np.ix_(free, told)] @ np.linalg.pinv(self.covariance[np.ix_(told, told)])
        left = self.covariance[np.ix_(free, free)] - from_told @ self.covariance[np.ix_(told, free)]
        root = np.linalg.cholesky(left + 1e-12 * np.trace(left) * np.eye(len(free)))
        truth = np.full((horizon, columns), np.nan)
        for c in told:
            truth[:, c] = given[c]
        truth = self._read(truth)
        out = np.empty((self.samples, horizon, columns))
        for h in range(horizon):
            past = np.concatenate(
                [np.ones((self.samples, 1)), *(path_SPC[:, -k - 1] for k in range(self.lags))], 1
            )
            mean = past @ self.weights
            shock = np.broadcast_to(truth[h, told], mean[:, told].shape) - mean[:, told]
            out[:, h, told] = truth[h, told]
            noise = rng.standard_normal((self.samples, len(free))) @ root.T
            out[:, h, free] = mean[:, free] + shock @ from_told.T + noise
            path_SPC = np.concatenate([path_SPC, out[:, h : h + 1]], 1)
        out[..., self.log] = np.exp(out[..., self.log])
        return out


def _regression(y_TC: np.ndarray, lags: int, skip: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients (1 + lags * C, C), covariance (C, C) and BIC; the first `skip` rows are only looked back
    at."""
    rows, columns = len(y_TC) - skip, y_TC.shape[1]
    past = [y_TC[skip - k - 1 : len(y_TC) - k - 1] for k in range(lags)]
    x = np.concatenate([np.ones((rows, 1)), *past], 1)
    weights, *_ = np.linalg.lstsq(x, y_TC[skip:], rcond=None)
    error = y_TC[skip:] - x @ weights
    covariance = error.T @ error / rows
    _sign, log_determinant = np.linalg.slogdet(covariance + 1e-300 * np.eye(columns))
    bic = rows * log_determinant + np.log(rows) * weights.size
    return weights, error.T @ error / max(rows - x.shape[1], 1), float(bic)
