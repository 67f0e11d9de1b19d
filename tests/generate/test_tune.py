"""Which network forecasts: the shipped one or a fine-tuned one, by the history alone."""

import numpy as np
import pytest

from nemo_tabular.errors import GenerationError
from nemo_tabular.evaluate.backtest import Plan, backtest
from nemo_tabular.generate import tune
from nemo_tabular.generate.forecast import Forecaster, SeriesModel
from nemo_tabular.generate.paths import PathSampler
from nemo_tabular.generate.tune import tuned
from nemo_tabular.models.series import SavedForecaster
from nemo_tabular.train import finetune


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    monkeypatch.setattr(finetune, "STEPS", 10)


@pytest.fixture(scope="module")
def sampler() -> PathSampler:
    return PathSampler(SavedForecaster.shipped())


def tent(rows: int) -> np.ndarray:
    x = np.full((rows, 2), [0.3, 0.7])
    for t in range(1, rows):
        x[t] = 1 - np.abs(1 - 1.99 * x[t - 1])
    return x


def test_never_and_short_histories_keep_the_network(sampler):
    for values, how in ((tent(300), "never"), (tent(60), "auto"), (tent(60), "always")):
        found = tuned(sampler, [(values, None)], how, 0)
        assert found.sampler is sampler and not found.used and "not fine-tuned" in str(found)
    with pytest.raises(GenerationError, match="one of auto, never, always"):
        tuned(sampler, [(tent(300), None)], "sometimes", 0)


def test_auto_takes_what_is_better_on_the_last_rows_and_leaves_what_is_not(sampler, monkeypatch):
    found = tuned(sampler, [(tent(200), None)], "auto", 0, horizon=2)
    assert found.used == (found.gain > found.error) and "CRPS of its own last rows" in str(found)
    monkeypatch.setattr(tune, "_scores", lambda s, *_: np.full(5, 1.0 if s is sampler else 1.1))
    worse = tuned(sampler, [(tent(200), None)], "auto", 0)
    assert worse.sampler is sampler and worse.gain == pytest.approx(-0.1)
    assert tuned(sampler, [(tent(200), None)], "always", 0).used


def test_a_fine_tuned_backtest_does_not_see_the_future():
    """The guard poisons it and wants the same forecasts, bit for bit."""
    used = []

    def make() -> SeriesModel:
        used.append(SeriesModel(Forecaster(), samples=10, fine_tune="always"))
        return used[-1]

    backtest([tent(140)], ["a", "b"], {"tuned": make}, Plan(horizon=2, origins=1))
    assert any(model.sampler is not model.shipped for model in used), "it was fine-tuned at all"


def test_networks_are_tuned_at_every_so_many_origins():
    model = SeriesModel(Forecaster(), fine_tune="always", tune_every=3)
    networks = []
    for rows in range(130, 134):
        model.fit(tent(rows))
        networks.append(model.sampler)
    assert networks[0] is networks[1] is networks[2] is not networks[3]
