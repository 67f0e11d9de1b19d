"""Simulated series and the training on them, in small."""

import numpy as np

from nemo_tabular.codecs.residual import Bins
from nemo_tabular.train.pretrain import READ, SCORED, pretrain, simulated_windows
from nemo_tabular.train.simulate import _transition, simulate


def test_simulation_follows_the_seed_and_is_finite():
    one, two, other = simulate(60, 90, 1), simulate(60, 90, 1), simulate(60, 90, 2)
    assert np.array_equal(one, two) and not np.array_equal(one, other)
    assert one.shape == (60, 90, 4) and np.isfinite(one).all()
    assert (one.std(1) > 0).mean() > 0.95


def test_simulated_columns_are_correlated_in_a_good_part_of_the_documents():
    strongest = []
    for document in simulate(200, 120, 3):
        correlation = np.corrcoef(np.diff(document, axis=0).T + 1e-9 * np.arange(4)[:, None])
        strongest.append(np.abs(correlation[np.triu_indices(4, 1)]).max())
    assert 0.25 < (np.array(strongest) > 0.4).mean() < 0.98


def test_simulated_systems_of_the_second_order_are_stable():
    rng = np.random.default_rng(0)
    own, second = rng.uniform(-1.9, 1.9, (300, 4)), rng.uniform(-0.9, 0.6, (300, 4))
    matrix, second = _transition(rng, own, second)
    x_before, x = np.zeros((300, 4)), np.ones((300, 4))
    for _ in range(4000):
        x_before, x = x, np.einsum("nij,nj->ni", matrix, x) + second * x_before
    assert np.abs(x).max() < 1e-3


def test_windows_score_only_rows_after_those_that_made_the_statistics():
    pool = simulated_windows(24, Bins(), 0)
    assert pool.before.shape[1] == READ + SCORED
    assert not pool.scored[:, :READ].any() and pool.scored[:, READ:].mean() > 0.9
    assert np.isfinite(pool.features).all() and pool.target.min() >= 0 and pool.target.max() < 128


def test_training_learns_something_and_is_reproducible():
    one, two = (pretrain(documents=40, steps=6, batch=16, seed=5) for _ in range(2))
    assert one.info["nats"] == two.info["nats"]
    assert one.info["recipe"] == {"documents": 40, "steps": 6, "batch": 16, "lr": 2e-3, "seed": 5}
    assert all(np.array_equal(one.tensors[k], two.tensors[k]) for k in one.tensors)
    assert one.info["nats"] < np.log(128), "worse than knowing nothing"
