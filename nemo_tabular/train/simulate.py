"""A seed enters, simulated series leave: what the forecaster that ships with the package has seen, and all of
it.

Four kinds of documents, of several columns each: linear systems with common shocks, fat tails and moving
volatility; markets (a return, two volatilities that answer to it, a second return); Gaussian processes of
mixed kernels; and calendars (a level, a trend, a season, breaks, or counts). None is a real series.

Shapes: N documents, T rows, C columns.
"""

import numpy as np

COLUMNS = 4
SETTLE = 40  # rows thrown away while a recursion forgets where it began
SHARES = {"systems": 0.5, "markets": 0.2, "processes": 0.2, "calendars": 0.1}
PERIODS = (4, 5, 7, 12, 24)


def simulate(documents: int, rows: int, seed: int) -> np.ndarray:
    """float64 (N, T, C), shuffled; upside down for three in ten."""
    rng = np.random.default_rng(seed)
    counts = {name: round(documents * share) for name, share in SHARES.items()}
    values = np.concatenate(
        [
            _systems(rng, counts["systems"], rows + SETTLE)[:, SETTLE:],
            _markets(rng, counts["markets"], rows + SETTLE)[:, SETTLE:],
            _processes(rng, counts["processes"], rows),
            _calendars(rng, counts["calendars"], rows),
        ]
    )
    values = values[np.isfinite(values).all((1, 2))]
    values *= rng.choice([-1, 1], (len(values), 1, 1), p=[0.3, 0.7])
    return values[rng.permutation(len(values))]


def _shocks(rng: np.random.Generator, count: int, rows: int) -> np.ndarray:
    """(N, T, C): Student-t, mostly driven by two common factors, with a common wave of volatility."""
    loaded = rng.random((count, 1, 1)) < 0.75
    strength = rng.choice([0.3, 0.8, 1.5], (count, 1, 1))
    loading = rng.normal(size=(count, 2, COLUMNS)) * loaded * strength
    common = rng.normal(size=(count, rows, 2)) @ loading
    shock = rng.normal(size=(count, rows, COLUMNS)) + common
    shock /= np.sqrt(1 + (loading**2).sum(1))[:, None]
    freedom = rng.choice([3.0, 5.0, 8.0, 30.0, 200.0], (count, 1))
    shock /= np.sqrt(rng.chisquare(np.repeat(freedom, rows, 1)) / freedom)[..., None]
    memory = rng.uniform(0.9, 0.995, (count, 1))
    size = rng.choice([0.0, 0.1, 0.2, 0.3], (count, 1), p=[0.4, 0.2, 0.2, 0.2])
    wave = np.zeros((count, COLUMNS))
    for t in range(rows):
        step = 0.7 * rng.normal(size=(count, 1)) + 0.7 * rng.normal(size=(count, COLUMNS))
        wave = memory * wave + size * step
        shock[:, t] *= np.exp(np.clip(wave, -2.5, 2.5))
    return shock


def _systems(rng: np.random.Generator, count: int, rows: int) -> np.ndarray:
    """Vector autoregressions with moving averages, a part of them summed up, some seen through noise."""
    shock, shape = _shocks(rng, count, rows), (count, COLUMNS)
    kind = rng.random(shape)
    wild, tame, slow = (rng.uniform(low, high, shape) for low, high in ((-0.2, 0.3), (0.3, 0.97), (0.97, 1)))
    own = np.where(kind < 0.25, wild, np.where(kind < 0.6, tame, slow))
    summed = kind > 0.7
    own = np.where(summed, rng.choice([0, 1], shape) * rng.uniform(0, 0.8, shape), own)
    second = rng.normal(size=shape) * 0.15 * (rng.random(shape) < 0.4)
    cyclic = rng.random(shape) < 0.2  # anywhere in the triangle where a second order is stationary
    first, partial = rng.uniform(-0.5, 0.98, shape), rng.uniform(-0.9, 0.6, shape)
    own = np.where(cyclic, first * (1 - partial), own)
    second = np.where(cyclic, partial, second)
    moving = rng.uniform(-0.6, 0.4, shape) * (rng.random(shape) < 0.35)
    back = np.where(rng.random(shape) < 0.5, 0, rng.uniform(0, 0.06, shape))
    matrix, second = _transition(rng, own, second)
    x, x_before, shock_before, level = (np.zeros(shape) for _ in range(4))
    values = np.empty((count, rows, COLUMNS))
    for t in range(rows):
        new = np.einsum("nij,nj->ni", matrix, x) + second * x_before + shock[:, t] + moving * shock_before
        x_before, x, shock_before = x, np.clip(new, -1e3, 1e3), shock[:, t]
        level = (1 - back) * level + x
        values[:, t] = np.where(summed, level, x)
    values /= values.std(1, keepdims=True) + 1e-6
    noise = rng.choice([0, 0.05, 0.3, 0.8], (count, 1, COLUMNS), p=[0.6, 0.15, 0.15, 0.1])
    return values + rng.normal(size=values.shape) * noise


def _transition(
    rng: np.random.Generator, own: np.ndarray, second: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, C, C): each column's own coefficient and weak influences of others; (N, C): those on the row before
    the last. Made stable together."""
    count, columns = own.shape
    links = (rng.random((count, columns, columns)) < 0.25) * (1 - np.eye(columns))
    matrix = rng.normal(size=links.shape) * 0.25 * links * np.sqrt(1 - np.minimum(np.abs(own), 1))[:, :, None]
    matrix[:, np.arange(columns), np.arange(columns)] = own
    both = np.zeros((count, 2 * columns, 2 * columns))
    both[:, :columns, :columns] = matrix
    both[:, np.arange(columns), columns + np.arange(columns)] = second
    both[:, columns + np.arange(columns), np.arange(columns)] = 1.0
    shrink = np.minimum(1, 0.995 / np.maximum(np.abs(np.linalg.eigvals(both)).max(1), 1e-9))[:, None]
    return matrix * shrink[:, :, None], second * shrink**2


def _markets(rng: np.random.Generator, count: int, rows: int) -> np.ndarray:
    """A return, a log volatility index and a log range that answer to it, and a second return."""

    def draw(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, count)

    pull_fast, pull_slow, size_fast, size_slow = (
        draw(0.02, 0.25),
        draw(0.002, 0.03),
        draw(0.05, 0.25),
        draw(0.01, 0.08),
    )
    leverage, range_noise, index_noise, premium = (
        draw(-0.9, -0.2),
        draw(0.25, 0.6),
        draw(0.02, 0.08),
        draw(-0.02, 0.06),
    )
    freedom = rng.choice([4.0, 6.0, 10.0], count)
    fast, slow, second = np.zeros(count), np.zeros(count), np.zeros(count)
    values = np.empty((count, rows, COLUMNS))
    for t in range(rows):
        volatility = np.exp(fast + slow)
        shock = rng.normal(size=count) / np.sqrt(rng.chisquare(freedom) / freedom)
        news = leverage * np.clip(shock, -4, 4) + np.sqrt(1 - leverage**2) * rng.normal(size=count)
        width = 0.35 * np.log(0.15 + np.abs(shock)) + range_noise * rng.normal(size=count)
        values[:, t, 0] = volatility * (premium + shock)
        values[:, t, 2] = fast + slow + width
        fast = np.clip((1 - pull_fast) * fast + size_fast * news, -2, 2)
        slow_news = 0.5 * news + 0.9 * rng.normal(size=count)
        slow = np.clip((1 - pull_slow) * slow + size_slow * slow_news, -2, 2)
        values[:, t, 1] = 0.7 * fast + slow + index_noise * rng.normal(size=count)
        own = 0.5 * volatility * rng.normal(size=count)
        second = 0.4 * second + 0.45 * values[:, t, 0] + own
        values[:, t, 3] = second
    for column in (1, 2):  # three in ten are read as levels, not as logarithms
        levels = rng.random(count) < 0.3
        values[levels, :, column] = np.exp(values[levels, :, column])
    return values


def _processes(rng: np.random.Generator, count: int, rows: int, together: int = 50) -> np.ndarray:
    """Gaussian processes of one to three kernels, added or multiplied; columns mixed in six of ten."""
    values = np.empty((count, rows, COLUMNS))
    for first in range(0, count, together):
        number = min(together, count - first)
        cover = np.zeros((rows, rows))
        for _ in range(rng.integers(1, 4)):
            kernel = _kernel(rng, rows)
            add = rng.random() < 0.7 or not cover.any()
            cover = cover + kernel * rng.uniform(0.2, 1) if add else cover * kernel
        cover += np.eye(rows) * (1e-4 + rng.choice([0, 0.01, 0.1, 0.3]))
        root = np.linalg.cholesky(cover + 1e-6 * np.eye(rows))
        mixing = rng.normal(size=(number, COLUMNS, COLUMNS)) * (rng.random((number, 1, 1)) < 0.6)
        drawn = root @ rng.normal(size=(number, rows, COLUMNS))
        values[first : first + number] = drawn @ (np.eye(COLUMNS) + 0.6 * mixing)
    return values


def _kernel(rng: np.random.Generator, rows: int) -> np.ndarray:
    """A covariance (T, T): smooth, rough, between the two, periodic, or a random walk's."""
    time = np.arange(rows)
    far = np.abs(time[:, None] - time)
    length = np.exp(rng.uniform(np.log(2), np.log(80)))
    kind = rng.integers(0, 5)
    if kind == 0:
        return np.exp(-0.5 * (far / length) ** 2)
    if kind == 1:
        return np.exp(-far / length)
    if kind == 2:
        return (1 + np.sqrt(3) * far / length) * np.exp(-np.sqrt(3) * far / length)
    if kind == 3:
        wave = np.sin(np.pi * far / rng.choice(PERIODS)) / rng.uniform(0.5, 1.4)
        return np.exp(-2 * wave**2)
    return np.minimum(time[:, None], time) / rows * 2.0


def _calendars(rng: np.random.Generator, count: int, rows: int) -> np.ndarray:
    """Level, trend and season with noise; a jump of the level in a third, counts in a quarter."""
    shape, time = (count, 1, COLUMNS), np.arange(rows)[None, :, None]
    trend = rng.normal(size=shape) * rng.choice([0, 0.01, 0.05], shape)
    season = np.zeros((count, rows, COLUMNS))
    for period in PERIODS:
        member = rng.random(shape) < 0.25
        profile = rng.normal(size=(count, period, COLUMNS)) * rng.choice([0.3, 1, 3], shape)
        season += member * profile[:, np.arange(rows) % period]
    noise = _shocks(rng, count, rows)
    wander = rng.choice([0, 0.1, 0.3], shape) * np.cumsum(rng.normal(size=noise.shape), 1)
    jump = (time >= rng.integers(1, rows, shape)) * rng.normal(size=shape) * 4
    values = trend * time + season + noise + wander + jump * (rng.random(shape) < 0.33)
    rate = np.exp(np.clip(values / (values.std(1, keepdims=True) + 1e-6), -3, 3))
    return np.where(rng.random(shape) < 0.25, rng.poisson(rate), values)
