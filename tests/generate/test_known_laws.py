"""Series whose law is known: the shipped forecaster's paths against the true law of what comes next.

Many independent series of one law stand side by side as columns; bounds are stated in units of the truth. The
forecaster knows neither the law nor its order, and has 240 rows: it pays for that with up to half a standard
deviation in the mean of a second-order autoregression, with intervals up to four tenths too wide, and with a
third more variance where a column follows another with a lag.
"""

import numpy as np
import pytest

from nemo_tabular.codecs.residual import ResidualCodec
from nemo_tabular.evaluate.forecasts import covered, quantiles
from nemo_tabular.generate.choose import choose_codecs
from nemo_tabular.generate.paths import PathSampler
from nemo_tabular.models.series import SavedForecaster

ROWS, SERIES, STEPS, PATHS, BURN = 240, 40, 6, 200, 100


@pytest.fixture(scope="module")
def sampler() -> PathSampler:
    return PathSampler(SavedForecaster.shipped())


def paths_of(sampler: PathSampler, history: np.ndarray, codec: ResidualCodec | None = None) -> np.ndarray:
    """(P, H, C), columns independent of each other."""
    codecs = [codec or ResidualCodec()] * history.shape[1]
    return sampler.paths(sampler.read(history, codecs, dependent=False), STEPS, PATHS, 1)


def test_autoregression_of_second_order(sampler):
    rng, (a, b) = np.random.default_rng(0), (1.2, -0.5)
    y = np.zeros((BURN + ROWS + STEPS, SERIES))
    for t in range(2, len(y)):
        y[t] = a * y[t - 1] + b * y[t - 2] + rng.normal(size=SERIES)
    history, future = y[BURN:-STEPS], y[-STEPS:]
    mean, response = [history[-2], history[-1]], [0.0, 1.0]
    for _ in range(STEPS):
        mean.append(a * mean[-1] + b * mean[-2])
        response.append(a * response[-1] + b * response[-2])
    spread = np.sqrt(np.cumsum(np.square(response[1 : STEPS + 1])))
    paths = paths_of(sampler, history)
    error = (paths.mean(0) - np.array(mean[2:])) / spread[:, None]
    assert np.sqrt((error**2).mean(1)).max() < 0.6, "mean, in true standard deviations"
    low, high = quantiles(paths, [0.1, 0.9])
    width = (high - low).mean(1) / (2 * 1.2816 * spread)  # of the central 80 %, 1 for the true law
    assert width.min() > 0.85 and width.max() < 1.45
    assert 0.7 < covered(paths, future).mean() < 0.9
    true = (response[1] * response[2]) / (spread[0] * spread[1])  # correlation of steps 1 and 2
    found = [np.corrcoef(paths[:, 0, c], paths[:, 1, c])[0, 1] for c in range(SERIES)]
    assert np.mean(found) == pytest.approx(true, abs=0.12)


def test_season_with_noise(sampler):
    rng, period = np.random.default_rng(1), 12
    profile = 4 * rng.normal(size=(period, SERIES))
    clean = profile[np.arange(ROWS + STEPS) % period]
    y = clean + rng.normal(size=clean.shape)
    codecs = choose_codecs(sampler, y[:-STEPS, :8], period)
    assert sum(codec.season == period for codec in codecs) >= 6
    paths = paths_of(sampler, y[:-STEPS], ResidualCodec("level", season=period))
    off = np.abs(np.median(paths, 0) - clean[-STEPS:])
    assert off.mean() < 1.1, "one season's noise is sqrt(2 / pi) = .8 on average"
    assert 0.7 < covered(paths, y[-STEPS:]).mean() < 0.93


def test_volatility_that_moves(sampler):
    rng = np.random.default_rng(2)
    variance, y = np.ones(SERIES), np.zeros((BURN + ROWS + STEPS, SERIES))
    spreads = np.zeros_like(y)
    for t in range(len(y)):
        spreads[t] = np.sqrt(variance)
        y[t] = spreads[t] * rng.normal(size=SERIES)
        variance = 0.02 + 0.15 * y[t] ** 2 + 0.83 * variance
    paths = paths_of(sampler, y[BURN:-STEPS])
    said, true = np.log(paths[:, 0].std(0)), np.log(spreads[-STEPS])
    assert np.corrcoef(said, true)[0, 1] > 0.7
    assert (said - true).mean() == pytest.approx(0, abs=0.2)
    assert 0.7 < covered(paths, y[-STEPS:]).mean() < 0.9


def test_vector_autoregression_with_correlated_shocks(sampler):
    rng = np.random.default_rng(3)
    matrix, root = np.array([[0.5, 0.0], [0.4, 0.5]]), np.array([[1.0, 0.0], [0.6, 0.8]])
    y = np.zeros((600, 2))
    for t in range(1, len(y)):
        y[t] = matrix @ y[t - 1] + root @ rng.normal(size=2)
    errors, found = [], []
    for last in range(520, 600, 10):
        paths = sampler.paths(sampler.read(y[:last], [ResidualCodec()] * 2), 1, 400, 1)[:, 0]
        errors.append(paths.mean(0) - matrix @ y[last - 1])
        found.append(np.cov(paths.T))
    assert np.sqrt(np.mean(np.square(errors), 0)).max() < 0.45, "shocks have a standard deviation of 1"
    assert np.mean(found, 0) == pytest.approx(root @ root.T, abs=0.45)
