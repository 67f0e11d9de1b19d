"""The dependence between columns: recovered where there is some, else none, and conditioned on."""

import numpy as np
import pytest

from nemo_tabular.generate.copula import Copula

RHO = 0.8


def scores(rows: int, rho: float = RHO, carry: float = 0.0, seed: int = 0) -> np.ndarray:
    """Two columns; the second follows the first at once and, with `carry`, a row later."""
    rng = np.random.default_rng(seed)
    one = rng.normal(size=rows + 1)
    other = np.sqrt(1 - rho**2 - carry**2) * rng.normal(size=rows)
    return np.stack([one[1:], rho * one[1:] + carry * one[:-1] + other])


def test_correlation_of_a_row_is_recovered():
    copula = Copula.fit(scores(4000))
    assert copula.left[0, 1] == pytest.approx(RHO, abs=0.03)
    assert np.abs(copula.carry).max() < 0.05


def test_dependence_on_the_row_before_is_recovered():
    copula = Copula.fit(scores(4000, rho=0.5, carry=0.6))
    assert copula.carry[1, 0] == pytest.approx(0.6, abs=0.05)
    assert np.abs(copula.carry[0]).max() < 0.06


def test_few_rows_of_independent_columns_say_little():
    sizes = [
        np.abs(Copula.fit(np.random.default_rng(s).normal(size=(4, 30))).left - np.eye(4)).max()
        for s in range(20)
    ]
    raw = [
        np.abs(np.corrcoef(np.random.default_rng(s).normal(size=(4, 30))) - np.eye(4)).max()
        for s in range(20)
    ]
    assert np.mean(sizes) < 0.5 * np.mean(raw)


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_hardly_any_rows_say_nothing(rows):
    copula = Copula.fit(np.ones((3, rows)))
    assert np.array_equal(copula.left, np.eye(3)) and not copula.carry.any()


def test_gaps_are_left_out_and_equal_columns_are_no_trouble():
    known = scores(500)
    holes = known.copy()
    holes[0, ::7] = np.nan
    assert Copula.fit(holes).left[0, 1] == pytest.approx(RHO, abs=0.08)
    twins = Copula.fit(np.stack([known[0], known[0]]))
    drawn = twins.draw(
        np.zeros((2, 100)), np.random.default_rng(0).normal(size=(2, 100)), [], np.empty((0, 100))
    )
    assert np.isfinite(drawn).all() and np.corrcoef(drawn)[0, 1] > 0.9


def test_scores_stay_standard_normal_along_a_path():
    copula, rng = Copula.fit(scores(2000, 0.5, 0.6)), np.random.default_rng(1)
    z = rng.normal(size=(2, 20_000))
    for _ in range(5):
        z = copula.draw(z, rng.normal(size=z.shape), [], np.empty((0, z.shape[1])))
    assert np.abs(z.mean(1)).max() < 0.03 and np.abs(z.std(1) - 1).max() < 0.03


def test_known_columns_move_the_others_by_the_textbook():
    copula, rng, paths = Copula.fit(scores(4000)), np.random.default_rng(2), 20_000
    fixed = np.full((1, paths), 2.0)
    z = copula.draw(np.zeros((2, paths)), rng.normal(size=(2, paths)), [0], fixed)
    assert np.array_equal(z[0], fixed[0])
    assert z[1].mean() == pytest.approx(2 * RHO, abs=0.06)
    assert z[1].std() == pytest.approx(np.sqrt(1 - RHO**2), abs=0.03)


def test_with_everything_known_nothing_is_drawn():
    fixed = np.arange(6.0).reshape(2, 3)
    z = Copula.fit(scores(200)).draw(np.zeros((2, 3)), np.ones((2, 3)), [0, 1], fixed)
    assert np.array_equal(z, fixed)
