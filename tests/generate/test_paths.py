"""Paths sampled with the shipped forecaster: reproducible, in unit and shape, given futures, known laws."""

import numpy as np
import pytest

from nemo_tabular.codecs.residual import ResidualCodec
from nemo_tabular.generate.choose import choose_codecs
from nemo_tabular.generate.paths import PathSampler
from nemo_tabular.models.series import SavedForecaster


@pytest.fixture(scope="module")
def sampler() -> PathSampler:
    return PathSampler(SavedForecaster.shipped())


def autoregression(
    rows: int, columns: int = 2, phi: float = 0.7, rho: float = 0.8, seed: int = 0
) -> np.ndarray:
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(np.full((columns, columns), rho) + (1 - rho) * np.eye(columns))
    y = np.zeros((rows, columns))
    for t in range(1, rows):
        y[t] = phi * y[t - 1] + root @ rng.normal(size=columns)
    return y


CODECS = [ResidualCodec()] * 2


def test_a_path_depends_on_seed_and_number_alone(sampler):
    reading = sampler.read(autoregression(120), CODECS)
    whole = sampler.paths(reading, 5, 12, 3)
    tail = sampler.paths(reading, 5, 4, 3, first_path=8)
    assert tail == pytest.approx(whole[8:], abs=1e-4)
    assert not np.allclose(whole, sampler.paths(reading, 5, 12, 4))
    assert len(np.unique(whole[:, 0, 0])) == 12


def test_units_do_not_matter(sampler):
    y = autoregression(120)
    one, two = (sampler.paths(sampler.read(v, CODECS), 4, 50, 1) for v in (y, 100 * y + 7))
    assert two == pytest.approx(100 * one + 7, abs=0.2)


def test_decimals_and_positive_columns_stay_what_they_are(sampler):
    y = np.round(np.exp(autoregression(150) / 3) + 0.01, 2)
    codecs = choose_codecs(sampler, y)
    paths = sampler.paths(sampler.read(y, [ResidualCodec(log=True, decimals=2)] * 2), 6, 100, 1)
    assert {codec.decimals for codec in codecs} == {2}
    assert np.array_equal(paths, np.round(paths, 2)) and (paths >= 0).all()


def test_one_step_of_an_autoregression_is_about_its_true_law(sampler):
    y = autoregression(400)
    paths = sampler.paths(sampler.read(y, CODECS), 1, 3000, 1)[:, 0]
    assert paths.mean(0) == pytest.approx(0.7 * y[-1], abs=0.3)
    assert paths.std(0) == pytest.approx([1, 1], abs=0.2)
    assert np.corrcoef(paths.T)[0, 1] == pytest.approx(0.8, abs=0.1)


def test_a_given_path_stands_as_it_is_and_moves_the_other(sampler):
    y = autoregression(400)
    reading = sampler.read(y, CODECS)
    free = sampler.paths(reading, 3, 2000, 1)
    up = np.array([1.5, 2.0, 2.0]) + 0.7 * y[-1, 0]
    told = sampler.paths(reading, 3, 2000, 1, given={0: up})
    assert np.array_equal(told[:, :, 0], np.tile(up, (2000, 1)))
    assert (told[:, :, 1].mean(0) > free[:, :, 1].mean(0) + 0.7).all()
    assert told[:, 0, 1].std() < 0.8 * free[:, 0, 1].std()


def test_a_given_path_reaches_up_to_each_step_and_not_beyond(sampler):
    reading = sampler.read(autoregression(200), CODECS)
    known = [sampler.paths(reading, 4, 30, 1, given={0: np.array([1.0, 2.0, late, late])}) for late in (0, 9)]
    assert np.array_equal(known[0][:, :2], known[1][:, :2])
    assert not np.allclose(known[0][:, 2, 1], known[1][:, 2, 1])


def test_a_path_that_is_given_in_part_is_free_elsewhere(sampler):
    reading = sampler.read(autoregression(200), CODECS)
    part = sampler.paths(reading, 3, 40, 1, given={1: np.array([np.nan, 2.5, np.nan])})
    assert (part[:, 1, 1] == 2.5).all() and part[:, 0, 1].std() > 0.1 and part[:, 2, 1].std() > 0.1


def test_short_long_and_gappy_histories_and_long_horizons(sampler):
    y = autoregression(3000)
    for history, horizon in ((y[:5], 3), (y, 3), (y[:200], 80)):
        assert np.isfinite(sampler.paths(sampler.read(history, CODECS), horizon, 4, 1)).all()
    holes = y[:200].copy()
    holes[50:60, 0] = holes[-1, 1] = np.nan
    assert np.isfinite(sampler.paths(sampler.read(holes, CODECS), 3, 4, 1)).all()


def test_codecs_follow_the_column(sampler):
    rng = np.random.default_rng(0)
    season = np.tile(10 * rng.normal(size=12), 20)
    growth = np.exp(np.cumsum(0.02 + 0.05 * rng.normal(size=240)))
    found = choose_codecs(sampler, np.column_stack([season + rng.normal(size=240), growth]), 12)
    assert found[0].season == 12 and not found[0].log
    assert found[1].log and found[1].season == 0


def test_few_rows_keep_the_standard_codec(sampler):
    assert choose_codecs(sampler, autoregression(15), 4) == (ResidualCodec(),) * 2


def test_a_season_counts_by_what_it_foretells_not_by_the_next_row(sampler):
    """From hour to hour a slow series tells most about itself, and of tomorrow's hour today's does."""
    rng, hours = np.random.default_rng(3), np.arange(24 * 30)
    slow = np.convolve(rng.normal(size=len(hours) + 20), np.full(21, 0.05), "valid")
    daily = np.sin(2 * np.pi * hours / 24) + 0.5 * np.sin(4 * np.pi * hours / 24 + 1)
    walk, late = rng.normal(size=len(hours)).cumsum(), daily + slow
    late = np.where(hours < 480, np.nan, late)
    found = choose_codecs(sampler, np.column_stack([daily + slow, walk, late]), 24)
    assert [codec.season for codec in found] == [24, 0, 0]
    assert not any(codec.season for codec in choose_codecs(sampler, np.column_stack([late, late]), 24))
