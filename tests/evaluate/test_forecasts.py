"""Scores of forecasts against closed forms, brute force, and what they are meant to see."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nemo_tabular.evaluate.forecasts import (
    covered,
    crps,
    naive_scale,
    pit,
    pit_histogram,
    quantile_loss,
    quantiles,
    variogram_score,
)

NUMBERS = st.floats(-100, 100)


@given(st.lists(NUMBERS, min_size=1, max_size=12), NUMBERS)
def test_crps_is_that_of_the_samples_own_distribution(samples, truth):
    x = np.array(samples)
    pairs = np.abs(x - truth).mean() - np.abs(x[:, None] - x).mean() / 2
    assert crps(x, np.array(truth)) == pytest.approx(pairs, abs=1e-9)


def test_crps_of_a_normal_forecast_is_the_closed_form():
    levels = (np.arange(2000) + 0.5) / 2000
    x = np.array([NormalDist().inv_cdf(level) for level in levels])
    for truth in (-1.0, 0.0, 2.5):
        closed = truth * (2 * NormalDist().cdf(truth) - 1) + 2 * NormalDist().pdf(truth) - 1 / np.sqrt(np.pi)
        assert crps(x, np.array(truth)) == pytest.approx(closed, abs=1e-3)


def test_scores_keep_the_shape_of_the_truth():
    x, y = np.random.default_rng(0).normal(size=(50, 3, 2)), np.zeros((3, 2))
    for score in (crps, quantile_loss, covered, pit):
        assert score(x, y).shape == (3, 2)
    assert crps(x, y)[1, 1] == pytest.approx(crps(x[:, 1, 1], y[1, 1]))


def test_quantiles_of_a_grid_are_the_grid():
    grid = (np.arange(100) + 0.5) / 100
    assert quantiles(grid, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9])


def test_quantile_loss_of_the_median_alone_is_the_absolute_error():
    assert quantile_loss(np.full(9, 2.0), np.array(5.0)) == pytest.approx(3.0)


def test_coverage_and_pit_of_a_calibrated_and_of_a_narrow_forecast():
    rng = np.random.default_rng(1)
    truth, samples = rng.normal(size=4000), rng.normal(size=(400, 4000))
    assert covered(samples, truth).mean() == pytest.approx(0.8, abs=0.025)
    assert np.abs(pit_histogram(pit(samples, truth)) - 0.1).max() < 0.02
    narrow = pit_histogram(pit(samples / 2, truth))
    assert narrow[0] > 0.2 and narrow[-1] > 0.2 and narrow[4] < 0.1


def test_pit_counts_ties_half_and_leaves_out_what_is_missing():
    assert pit(np.array([1.0, 1.0, 1.0, 1.0]), np.array(1.0)) == 0.5
    assert pit_histogram(np.array([0.05, np.nan])).tolist() == [1.0] + [0.0] * 9


def test_scale_is_the_seasonal_change_and_skips_gaps():
    history = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0], [np.nan, 5.0], [7.0, 5.0]])
    scale = naive_scale(history, 2)
    assert scale[0] == pytest.approx((2 + 4) / 2)
    assert np.isnan(scale[1]), "a constant has no scale"


def test_variogram_score_sees_dependence_that_crps_does_not():
    rng = np.random.default_rng(2)
    covariance = [[1, 0.9], [0.9, 1]]
    truths = rng.multivariate_normal([0, 0], covariance, 300)
    joint = rng.multivariate_normal([0, 0], covariance, 500)
    apart = np.stack([joint[:, 0], rng.permutation(joint[:, 1])], 1)
    assert np.mean(crps(joint[:, None], truths)) == pytest.approx(np.mean(crps(apart[:, None], truths)))
    right, wrong = (np.mean([variogram_score(x, y) for y in truths]) for x in (joint, apart))
    assert right < 0.7 * wrong


def test_variogram_score_by_hand_and_without_pairs():
    x, y = np.array([[0.0, 4.0], [0.0, 0.0]]), np.array([0.0, 1.0])
    assert variogram_score(x, y) == pytest.approx((1 - (2 + 0) / 2) ** 2)
    assert np.isnan(variogram_score(x, np.array([0.0, np.nan])))
