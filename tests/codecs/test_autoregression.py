"""Weights of the last values in the next, on series whose weights are known."""

import numpy as np
import pytest

from nemo_tabular.codecs.autoregression import LAGS, autoregressions, corrected, shifted


def simulated(weights, rows: int, series: int = 200, seed: int = 0) -> np.ndarray:
    rng, order = np.random.default_rng(seed), len(weights)
    y = np.zeros((series, rows + 100))
    for t in range(order, y.shape[1]):
        y[:, t] = y[:, t - order : t] @ weights[::-1] + rng.normal(size=series)
    y = y[:, 100:]
    return y - y.mean(1, keepdims=True)


def test_weights_of_a_second_order_are_found_within_their_sampling_error():
    true, rows, series = np.array([1.2, -0.5]), 240, 200
    found = autoregressions(simulated(true, rows, series))
    error = np.sqrt((1 - true[1] ** 2) / rows)  # of either weight, asymptotically
    assert found[:, :2].std(0) == pytest.approx([error, error], rel=0.3)
    assert np.abs(found[:, :2].mean(0) - true).max() < 1 / rows + 3 * error / np.sqrt(series)
    assert (found[:, 2:] == 0).mean() > 0.9, "BIC asks for no more than there is"


def test_noise_has_no_weights_and_a_walk_keeps_its_level():
    noise = autoregressions(simulated(np.array([0.0]), 200))
    assert (noise == 0).all(1).mean() > 0.9
    walk = autoregressions(simulated(np.array([1.0]), 200))
    assert walk.sum(1).mean() > 0.985 and walk.sum(1).max() <= 1 + 1e-9


def test_nothing_explodes_and_missing_values_are_left_out():
    growing = 1.3 ** np.arange(40.0)[None] * [[1.0], [-2.0]]
    weights = autoregressions(growing - growing.mean(1, keepdims=True))
    companion = np.zeros((2, LAGS, LAGS))
    companion[:, 0], companion[:, range(1, LAGS), range(LAGS - 1)] = weights, 1
    assert np.abs(np.linalg.eigvals(companion)).max() <= 1 + 1e-9
    holed = simulated(np.array([0.8]), 300, 50)
    holed[:, ::17] = np.nan
    assert autoregressions(holed)[:, 0].mean() == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_too_few_rows_and_constant_ones_have_no_weights(rows):
    assert (autoregressions(np.ones((2, rows))) == 0).all() or rows > 2
    assert (autoregressions(np.zeros((2, 50))) == 0).all()


def test_shift_and_correction():
    assert np.isnan(shifted(np.arange(3.0)[None], 1)[0, 0]) and shifted(np.arange(3.0)[None], 1)[0, 2] == 1
    assert corrected(np.array([0.5, 0.99]), np.array([100, 100])) == pytest.approx([0.525, 1])
