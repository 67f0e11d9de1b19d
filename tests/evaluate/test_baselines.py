"""The classical methods on series whose law is known."""

import numpy as np
import pytest

from nemo_tabular.errors import ConfigError
from nemo_tabular.evaluate.baselines import GaussianVAR, SeasonalNaive, filled


def test_seasonal_naive_repeats_the_season_and_widens_each_time_around():
    season = np.array([10.0, 20.0, 30.0])
    history = np.tile(season, 40)[:, None] + np.random.default_rng(0).normal(size=(120, 1))
    paths = SeasonalNaive(3).forecast(history, 7, {})
    assert np.median(paths, 0)[:3, 0] == pytest.approx(history[-3:, 0], abs=0.05)
    width = paths.std(0)[:, 0]
    assert width[0] == pytest.approx(np.sqrt(2), rel=0.2)
    assert width[3] / width[0] == pytest.approx(np.sqrt(2)) and width[6] / width[0] == pytest.approx(
        np.sqrt(3)
    )


def test_gaps_are_filled_with_the_last_value_and_an_empty_column_is_an_error():
    column = np.array([[np.nan], [1.0], [np.nan], [3.0]])
    assert filled(column)[:, 0].tolist() == [1, 1, 1, 3]
    with pytest.raises(ConfigError, match="without any value"):
        filled(np.full((4, 1), np.nan))


def test_var_recovers_coefficients_and_conditions_on_the_same_step():
    rng, rows = np.random.default_rng(1), 4000
    matrix, root = np.array([[0.5, 0.2], [0.0, 0.8]]), np.array([[1.0, 0.0], [0.8, 0.6]])
    y = np.zeros((rows, 2))
    for t in range(1, rows):
        y[t] = matrix @ y[t - 1] + root @ rng.normal(size=2)
    var = GaussianVAR(4000)
    var.fit(y)
    assert var.lags == 1 and np.abs(var.weights[1:].T - matrix).max() < 0.05
    assert np.abs(var.covariance - root @ root.T).max() < 0.06
    ahead = matrix @ y[-1]
    paths = var.forecast(y, 1, {0: np.array([ahead[0] + 2.0])})
    assert paths[:, 0, 1].mean() == pytest.approx(ahead[1] + 0.8 * 2, abs=0.15)
    assert paths[:, 0, 1].std() == pytest.approx(0.6, abs=0.05)
    assert (paths[:, 0, 0] == ahead[0] + 2.0).all()
