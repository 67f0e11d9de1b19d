"""Series whose law is known: the shipped forecaster's paths against the true law of what comes next.

Many independent series of one law stand side by side as columns. The forecaster knows neither the law nor its
order; it estimates. So it is held to what estimates from the rows that its network reads allow:

- Means and widths: no worse, and no wider, than the predictive law of one who knows the order and has those
  rows and a flat prior: weights and scale are drawn from what the rows leave open, and paths from them.
- Widths: no narrower than the true law.
- Each within three standard errors of the mean over the series, from the sizes of the samples:
  `1 / sqrt(2 n)` for a scale estimated from n rows or a root mean square of n errors, so `1 / sqrt(n)` for
  the ratio of two of the latter; `QUANTILE` for a width read off the paths; `sqrt(p (1 - p) / n)` for the
  coverage of n forecasts.

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

ROWS, SERIES, STEPS, PATHS, BURN = 240, 30, 6, 200, 100
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


def informed(history: np.ndarray, order: int, rows: int) -> np.ndarray:
    """Paths (P, H, C) of the predictive law of an autoregression of this order, given its last rows."""
    rng, out = np.random.default_rng(1), []
    for y in history[-rows:].T:
        x = np.column_stack([np.ones(rows - order), *(y[order - k : rows - k] for k in range(1, order + 1))])
        inverse = np.linalg.inv(x.T @ x)
        fitted = inverse @ x.T @ y[order:]
        freedom = rows - 2 * order - 1
        sigma = np.sqrt(((y[order:] - x @ fitted) ** 2).sum() / rng.chisquare(freedom, PATHS))
        drawn = rng.normal(size=(PATHS, order + 1)) @ np.linalg.cholesky(inverse).T
        weights = fitted + sigma[:, None] * drawn
        path = list(np.repeat(y[-order:, None], PATHS, 1))
        for _ in range(STEPS):
            mean = weights[:, 0] + sum(weights[:, k] * path[-k] for k in range(1, order + 1))
            path.append(mean + sigma * rng.normal(size=PATHS))
        out.append(path[order:])
    return np.array(out).transpose(2, 1, 0)


@pytest.mark.parametrize("weights", [[0.0], [0.7], [1.2, -0.5]], ids=str)
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
    yardstick = informed(history, len(weights), sampler.model.rows)

    def error(forecast: np.ndarray) -> np.ndarray:
        return np.sqrt((((forecast - mean) / spread) ** 2).mean(1))  # over the series, at each step

    chance = 1 + SURE / np.sqrt(SERIES)
    assert (error(paths.mean(0)) < chance * error(yardstick.mean(0))).all(), "means"
    found, widest = ((width(x) / spread).mean(1) for x in (paths, yardstick))
    one = width_error(sampler.model.rows)
    both = np.hypot(one, QUANTILE / np.sqrt(SERIES))  # the yardstick's widths are read off paths, too
    assert (found > 1 - SURE * one).all() and (found < widest + SURE * both).all(), "widths"
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
    """It is followed, and no less closely than by the scale that the network is shown."""
    rng = np.random.default_rng(2)
    variance, y = np.ones(SERIES), np.zeros((BURN + ROWS + STEPS, SERIES))
    spreads = np.zeros_like(y)
    for t in range(len(y)):
        spreads[t] = np.sqrt(variance)
        y[t] = spreads[t] * rng.normal(size=SERIES)
        variance = 0.02 + 0.15 * y[t] ** 2 + 0.83 * variance
    history, true = y[BURN:-STEPS], np.log(spreads[-STEPS])
    reading = sampler.read(history, choose_codecs(sampler, history), dependent=False)
    paths = sampler.paths(reading, STEPS, PATHS, 1)
    said = np.log(width(paths)[0])
    shown = np.corrcoef(np.log(reading.cursor.scale), true)[0, 1] / np.hypot(1, QUANTILE / true.std())
    followed = np.corrcoef(said, true)[0, 1]
    assert followed > SURE / np.sqrt(SERIES) and followed > shown - SURE * (1 - shown**2) / np.sqrt(SERIES)
    assert abs((said - true).mean()) < SURE * (said - true).std() / np.sqrt(SERIES)
    assert covered(paths, y[-STEPS:]).mean() == pytest.approx(0.8, abs=SURE * coverage_error(SERIES))


def test_vector_autoregression_with_correlated_shocks(sampler):
    """The first column's past helps the second: what the row before says of it is carried by the copula; what
    earlier rows say, at most `.4 ** 2 * .5 ** 2 / (1 - .5 ** 2)` of variance, is not."""
    matrix, root = np.array([[0.5, 0.0], [0.4, 0.5]]), np.array([[1.0, 0.0], [0.6, 0.8]])
    systems, rows, unseen = SERIES, sampler.model.rows, 0.4**2 * 0.5**2 / (1 - 0.5**2)
    widths, correlations, errors = [], [], []
    for seed in range(systems):
        rng = np.random.default_rng(seed)
        y = np.zeros((BURN + ROWS, 2))
        for t in range(1, len(y)):
            y[t] = matrix @ y[t - 1] + root @ rng.normal(size=2)
        paths = sampler.paths(sampler.read(y[BURN:], [ResidualCodec()] * 2), 1, PATHS, seed)
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
