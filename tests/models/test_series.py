"""The forecasting network: what it reads, that it looks back only, and that its decoder computes the same."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from nemo_tabular.codecs.residual import FEATURES, Bins
from nemo_tabular.config import ModelConfig
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.errors import CheckpointError
from nemo_tabular.models.series import SavedForecaster, SeriesBatch, SeriesGPT, SeriesReader, before_bins

BINS = Bins(16)
SMALL = ModelConfig(
    num_layers=2, hidden_size=16, num_attention_heads=2, ffn_hidden_size=32, activation="gelu"
)
ROWS, COUNT = 12, 3


@pytest.fixture(scope="module")
def network() -> SeriesGPT:
    groups = start(ParallelLayout(), 1)
    module = SeriesGPT(SMALL, BINS, groups)
    for number, parameter in enumerate(module.parameters()):  # away from zero, so that every part has a say
        generator = torch.Generator().manual_seed(number)
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return module


def saved(network: SeriesGPT, rows: int = ROWS) -> SavedForecaster:
    return SavedForecaster.of(network, SMALL, rows, {"seed": 1})


def windows(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    residual = rng.normal(size=(COUNT, ROWS))
    residual[0, 4] = np.nan
    features = rng.normal(size=(COUNT, ROWS, FEATURES)).astype(np.float32)
    return before_bins(residual, BINS)[:, :-1], features, BINS.encode(residual)[0]


def batch(before, features, target, scored=None) -> SeriesBatch:
    scored = np.ones(target.shape) if scored is None else scored
    parts = (before, features, target, scored.astype(np.float32))
    return SeriesBatch(*(torch.from_numpy(np.ascontiguousarray(x.swapaxes(0, 1))) for x in parts))


def cumulative(network: SeriesGPT, data: SeriesBatch) -> np.ndarray:
    with torch.no_grad():
        logits = torch.nn.functional.linear(network.hidden(data), network.head, network.bias)
    return logits.double().softmax(-1).cumsum(-1).transpose(0, 1).numpy()


def test_rows_without_values_are_read_as_such():
    residual = np.array([[0.1, np.nan, -0.2]])
    code = BINS.encode(residual)[0][0]
    assert before_bins(residual, BINS)[0].tolist() == [16, code[0], 17, code[2]]


def test_later_rows_do_not_change_what_is_said_of_earlier_ones(network):
    before, features, target = windows()
    other = windows(5)
    mixed = [np.concatenate([a[:, :7], b[:, 7:]], 1) for a, b in zip((before, features), other, strict=False)]
    one, two = (
        cumulative(network, batch(before, features, target)),
        cumulative(network, batch(*mixed, target)),
    )
    assert np.array_equal(one[:, :7], two[:, :7])
    assert not np.allclose(one[:, 7:], two[:, 7:])


def test_only_scored_rows_count(network):
    before, features, target = windows()
    scored = np.zeros((COUNT, ROWS), bool)
    scored[:, 5:] = True
    total, _parts, count = network(batch(before, features, target, scored))
    probabilities = np.diff(cumulative(network, batch(before, features, target)), prepend=0.0)
    taken = np.take_along_axis(probabilities, target[..., None], -1)[..., 0]
    assert count == COUNT * 7
    assert float(total.detach()) == pytest.approx(-np.log(taken[:, 5:]).sum(), rel=1e-4)


def test_decoder_reads_and_goes_on_as_the_network_does(network):
    before, features, target = windows()
    expected = cumulative(network, batch(before, features, target))
    reader = SeriesReader(saved(network))
    assert reader.read(before[:, :8], features[:, :8]) == pytest.approx(expected[:, :8], abs=1e-5)
    for t in range(8, ROWS):
        paths = [np.repeat(x[:, t : t + 1], 2, 1) for x in (before, features)]
        found = reader.step(*paths)
        assert found == pytest.approx(np.repeat(expected[:, t : t + 1], 2, 1), abs=1e-5)


def test_paths_of_one_series_do_not_see_each_other(network):
    before, features, _target = windows()
    reader = SeriesReader(saved(network))
    both = []
    for second in (3, 9):
        reader.read(before[:, :8], features[:, :8])
        for t in (8, 9):
            paths = np.stack([before[:, t], np.full(COUNT, second)], 1)
            found = reader.step(paths, np.repeat(features[:, t : t + 1], 2, 1))
        both.append(found)
    assert np.array_equal(both[0][:, 0], both[1][:, 0]) and not np.allclose(both[0][:, 1], both[1][:, 1])


def test_what_is_out_of_the_window_is_forgotten(network):
    """Where a window has room for one row and a layer looks back one window, two layers look back two."""
    before, features, _target = windows()
    found = []
    for first in (before[:, :4], (before[:, :4] + 1) % 16):
        reader = SeriesReader(saved(network, rows=2))
        reader.read(first, features[:, :4])
        for t in range(4, ROWS):
            last = reader.step(before[:, t : t + 1], features[:, t : t + 1])
        found.append(last)
    assert np.array_equal(found[0], found[1])


def test_saved_and_loaded_is_the_same_and_damage_is_noticed(network, tmp_path):
    model = saved(network)
    model.save(tmp_path / "m")
    again = SavedForecaster.load(tmp_path / "m")
    assert again.info == {"seed": 1} and again.rows == ROWS and again.bins == BINS and again.config == SMALL
    assert all(torch.equal(again.tensors[name], t) for name, t in model.tensors.items())
    weights = tmp_path / "m" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    with pytest.raises(CheckpointError, match="damaged"):
        SavedForecaster.load(tmp_path / "m")


def test_a_forecaster_of_a_version_that_reads_rows_otherwise_is_refused(network, tmp_path):
    model = saved(network)
    replace(model, tensors={**model.tensors, "linear": model.tensors["linear"][:, :-1]}).save(tmp_path / "m")
    with pytest.raises(CheckpointError, match="make it again with nemo-tabular pretrain-forecaster"):
        SavedForecaster.load(tmp_path / "m")


def test_the_shipped_forecaster_is_whole_and_says_how_it_was_made():
    model = SavedForecaster.shipped()
    recipe = model.info["recipe"]
    assert {"documents", "steps", "batch", "lr", "seed"} <= set(recipe)
    assert model.info["made_by"] == "nemo-tabular pretrain-forecaster"
    json.dumps(model.info)
    assert sum(t.numel() * 4 for t in model.tensors.values()) < 4e6
