"""Series whose law is known: the shipped forecaster's paths against the true law of what comes next.

Many independent series of one law stand side by side as columns. The forecaster knows neither the law nor its
order; it estimates. So it is held to what estimates from the rows that its network reads allow:

- Means: no worse than least squares of the true order, which knows the order, on those rows; both are run.
- Widths: those of the true law, wider by what an estimated mean adds, `sqrt(1 + rms error ** 2)`.
- Each within three standard errors of the mean over the series, from the sizes of the samples:
  `1 / sqrt(2 n)` for a scale estimated from n rows, `QUANTILE` for a width read off the paths,
  `sqrt(p (1 - p) / series)` for coverage.

A width is that of the central 80 %, because the tails of a forecast that has not seen many rows are, rightly,
heavier than Gaussian ones.
"""

import numpy as np
import pytest

from nemo_tabular.codecs.residual import ResidualCodec
from nemo_tabular.evaluate.forecasts import covered, quantiles
from nemo_tabular.generate.choose import choose_codecs
from nemo_tabular.generate.paths import PathSampler
from nemo_tabular.models.series import SavedForecaster

ROWS, SERIES, STEPS, PATHS, BURN = 240, 40, 6, 200, 100
NORMAL_80 = 2 * 1.2816  # width of the central 80 % of a standard normal
QUANTILE = (
    np.sqrt(2 * 0.1 * 0.9 / PATHS) / 0.1755 / NORMAL_80
)  # relative error of a width of `PATHS` normal paths
SURE = 3.0  # standard errors


@pytest.fixture(scope="module")
def sampler() -> PathSampler:
    return PathSampler(SavedForecaster.shipped())


def paths_of(sampler: PathSampler, history: np.ndarray, codecs=None) -> np.ndarray:
    """(P, H, C), columns independent of each other."""
    codecs = codecs or [ResidualCodec()] * history.shape[1]
    return sampler.paths(sampler.read(history, codecs, dependent=False), STEPS, PATHS, 1)


def width(paths: np.ndarray) -> np.ndarray:
    """Standard deviation of a normal law whose central 80 % are as wide."""
    low, high = quantiles(paths, [0.1, 0.9])
    return (high - low) / NORMAL_80


def width_error(rows: int, series: int = SERIES) -> float:
    """Relative standard error of the mean width over the series."""
    return float(np.sqrt((1 / (2 * rows) + QUANTILE**2) / series))


def coverage_error(forecasts: int) -> float:
    return float(np.sqrt(0.8 * 0.2 / forecasts))


def autoregression(weights: list[float], seed: int = 0) -> np.ndarray:
    rng, y = np.random.default_rng(seed), np.zeros((BURN + ROWS + STEPS, SERIES))
    for t in range(len(weights), len(y)):
        y[t] = sum(w * y[t - k] for k, w in enumerate(weights, 1)) + rng.normal(size=SERIES)
    return y[BURN:]


def foreseen(past: np.ndarray, weights: list[float], constant: float = 0.0) -> np.ndarray:
    """Means of the next `STEPS` rows."""
    rows = list(past[-len(weights) :])
    for _ in range(STEPS):
        rows.append(constant + sum(w * rows[-k] for k, w in enumerate(weights, 1)))
    return np.array(rows[len(weights) :])


def least_squares(history: np.ndarray, order: int, rows: int) -> np.ndarray:
    """Forecasts (H, C) by an autoregression of this order, each column's fitted to its last rows."""
    out = []
    for y in history[-rows:].T:
        x = np.column_stack([np.ones(rows - order), *(y[order - k : rows - k] for k in range(1, order + 1))])
        constant, *weights = np.linalg.lstsq(x, y[order:], rcond=None)[0]
        out.append(foreseen(y, weights, constant))
    return np.array(out).T


@pytest.mark.parametrize("weights", [[0.0], [0.7], [1.2, -0.5], [0.5, 0.3]], ids=str)
def test_autoregressions(sampler, weights):
    y = autoregression(weights)
    history, future = y[:-STEPS], y[-STEPS:]
    response = [0.0] * (len(weights) - 1) + [1.0]
    for _ in range(STEPS):
        response.append(sum(w * response[-k] for k, w in enumerate(weights, 1)))
    response = response[len(weights) - 1 : -1]
    spread = np.sqrt(np.cumsum(np.square(response)))[:, None]
    mean = foreseen(history, weights)
    paths = paths_of(sampler, history, choose_codecs(sampler, history))
    rows = sampler.model.rows

    def error(forecast: np.ndarray) -> np.ndarray:
        return np.sqrt((((forecast - mean) / spread) ** 2).mean(1))  # over the series, at each step

    chance = 1 + SURE / np.sqrt(2 * SERIES)
    allowed = np.sqrt(error(least_squares(history, len(weights), rows)) ** 2 + 1 / PATHS)
    assert (error(paths.mean(0)) < chance * allowed).all(), "means"
    found, sure = (width(paths) / spread).mean(1), SURE * width_error(rows)
    assert (found > 1 - sure).all() and (found < np.sqrt(1 + allowed**2) + sure).all(), "widths"
    assert covered(paths, future).mean() == pytest.approx(0.8, abs=SURE * coverage_error(SERIES))


def test_the_second_step_of_an_autoregression_follows_from_the_first(sampler):
    history = autoregression([1.2, -0.5])[:-STEPS]
    paths = paths_of(sampler, history, choose_codecs(sampler, history))
    found = [np.corrcoef(paths[:, 0, c], paths[:, 1, c])[0, 1] for c in range(SERIES)]
    true, rows = 1.2 / np.sqrt(1 + 1.2**2), sampler.model.rows
    slope = (1 + 1.2**2) ** -1.5  # of that correlation in the first weight
    one = np.hypot(slope * np.sqrt((1 - 0.5**2) / rows), (1 - true**2) / np.sqrt(PATHS))
    bias = slope * 2 / rows  # of a first weight by least squares with a mean, to order 1 / rows
    assert np.mean(found) == pytest.approx(true, abs=SURE * one / np.sqrt(SERIES) + bias)


def test_season_with_noise(sampler):
    """The value a season before is off by its own noise and the mean of the rest is known: not worse."""
    rng, period = np.random.default_rng(1), 12
    profile = 4 * rng.normal(size=(period, SERIES))
    clean = profile[np.arange(ROWS + STEPS) % period]
    y = clean + rng.normal(size=clean.shape)
    codecs = choose_codecs(sampler, y[:-STEPS], period)
    assert sum(codec.season == period for codec in codecs) >= 0.9 * SERIES
    paths = paths_of(sampler, y[:-STEPS], codecs)
    off = np.abs(np.median(paths, 0) - clean[-STEPS:])
    values = SERIES * STEPS
    naive = np.sqrt(2 / np.pi)  # mean absolute value of a season's noise
    assert off.mean() < naive + SURE * np.sqrt((1 - naive**2) / values) + 2 / np.sqrt(PATHS)
    assert covered(paths, y[-STEPS:]).mean() == pytest.approx(0.8, abs=SURE * coverage_error(values))


def test_volatility_that_moves(sampler):
    rng = np.random.default_rng(2)
    variance, y = np.ones(SERIES), np.zeros((BURN + ROWS + STEPS, SERIES))
    spreads, running = np.zeros_like(y), np.ones(SERIES)
    for t in range(len(y)):
        spreads[t] = np.sqrt(variance)
        y[t] = spreads[t] * rng.normal(size=SERIES)
        variance = 0.02 + 0.15 * y[t] ** 2 + 0.83 * variance
        running = 0.9 * running + 0.1 * y[t] ** 2 if t < len(y) - STEPS else running
    paths = paths_of(sampler, y[BURN:-STEPS])
    said, true = np.log(width(paths)[0]), np.log(spreads[-STEPS])
    filtered = np.corrcoef(np.log(running), true)[0, 1]  # by a running mean that was told its decay
    error = (1 - filtered**2) / np.sqrt(SERIES)
    assert np.corrcoef(said, true)[0, 1] > filtered - SURE * error
    assert abs((said - true).mean()) < SURE * (said - true).std() / np.sqrt(SERIES) + 1 / sampler.model.rows
    assert covered(paths, y[-STEPS:]).mean() == pytest.approx(0.8, abs=SURE * coverage_error(SERIES))


def test_vector_autoregression_with_correlated_shocks(sampler):
    """The first column's past helps the second: what the row before says of it is carried by the copula; what
    earlier rows say, at most `.4 ** 2 * .5 ** 2 / (1 - .5 ** 2)` of variance, is not."""
    matrix, root = np.array([[0.5, 0.0], [0.4, 0.5]]), np.array([[1.0, 0.0], [0.6, 0.8]])
    systems, rows, unseen = 24, sampler.model.rows, 0.4**2 * 0.5**2 / (1 - 0.5**2)
    widths, correlations, errors = [], [], []
    for seed in range(systems):
        rng = np.random.default_rng(seed)
        y = np.zeros((BURN + ROWS, 2))
        for t in range(1, len(y)):
            y[t] = matrix @ y[t - 1] + root @ rng.normal(size=2)
        paths = sampler.paths(sampler.read(y[BURN:], [ResidualCodec()] * 2), 1, PATHS, 1)
        widths.append(width(paths)[0])
        score = np.argsort(np.argsort(paths[:, 0], 0), 0)
        correlations.append(2 * np.sin(np.pi / 6 * np.corrcoef(score.T)[0, 1]))  # Pearson's, by Spearman's
        errors.append(paths[:, 0].mean(0) - matrix @ y[-1])
    estimated = 3 / rows  # variance of a mean by least squares on two values and a constant
    chance = 1 + SURE / np.sqrt(2 * systems)
    allowed = np.sqrt(estimated + np.array([0, unseen]) + 1 / PATHS)
    assert (np.sqrt(np.mean(np.square(errors), 0)) < chance * allowed).all()
    sure = SURE * width_error(rows, systems)
    found = np.mean(widths, 0)
    assert (found > 1 - sure).all() and (found < np.sqrt(1 + allowed**2) + sure).all()
    one = np.hypot((1 - 0.6**2) / np.sqrt(ROWS), (1 - 0.6**2) / np.sqrt(PATHS))
    assert np.mean(correlations) == pytest.approx(0.6, abs=SURE * one / np.sqrt(systems) + 0.6 * unseen)
