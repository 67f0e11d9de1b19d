"""Fine-tuning: it learns what the network did not know, stops by rows it has not seen, and repeats."""

import numpy as np
import pytest

from nemo_tabular.codecs.residual import ResidualCodec
from nemo_tabular.models.series import SavedForecaster
from nemo_tabular.train import finetune
from nemo_tabular.train.finetune import FineTuner, Learnable, least_rows


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(finetune, "STEPS", 20)


@pytest.fixture(scope="module")
def model() -> SavedForecaster:
    return SavedForecaster.shipped()


def tent(rows: int, series: int = 4, seed: int = 0) -> np.ndarray:
    """A law that no simulated series has: noise to the eye, and wholly determined by the value before."""
    x = np.random.default_rng(seed).random((series, rows))
    for t in range(1, rows):
        x[:, t] = 1 - np.abs(1 - 1.99 * x[:, t - 1])
    return x


LEVEL = [ResidualCodec("level")] * 4


def test_a_law_of_its_own_is_learnt_and_the_same_seed_gives_the_same_bits(model):
    one, two = (FineTuner(model, [Learnable(tent(300), LEVEL)], seed=1) for _ in range(2))
    early, again = one.early(), two.early()
    assert early is not None and again is not None and early[1] == 20
    assert early[0].info["fine_tuned"] == {"steps": 20, "seed": 1}
    judge = one._pool.judging()
    assert judge is not None
    groups = finetune.start(finetune.ParallelLayout(), 0)
    assert judge.nats(early[0].module(groups)) < judge.nats(model.module(groups)) - 0.05
    for a, b in ((early[0], again[0]), (one.whole(10), two.whole(10))):
        assert all(np.array_equal(a.tensors[k], b.tensors[k]) for k in model.tensors)
    assert SavedForecaster.shipped().tensors["head"].equal(model.tensors["head"]), "the one given stays"


def test_the_early_one_knows_nothing_of_the_rows_that_judge_but_when_to_stop(model, monkeypatch):
    falling = iter(range(99, 0, -1))
    monkeypatch.setattr(finetune._Judge, "nats", lambda self, network: float(next(falling)))
    values = tent(200)
    other = np.concatenate([values[:, :160], 1 - 0.5 * values[:, 160:]], 1)
    one, two = (FineTuner(model, [Learnable(v, LEVEL)]).early() for v in (values, other))
    assert one is not None and two is not None
    assert all(np.array_equal(one[0].tensors[k], two[0].tensors[k]) for k in model.tensors)


def test_short_histories_cost_nothing(model):
    short = Learnable(tent(least_rows(model) - 1), LEVEL)
    assert FineTuner(model, [short, short]).early() is None
    assert FineTuner(model, []).early() is None


def test_a_history_of_missing_values_is_left_alone(model):
    values = tent(200)
    values[:, 20:] = np.nan
    assert FineTuner(model, [Learnable(values, LEVEL)]).early() is None
