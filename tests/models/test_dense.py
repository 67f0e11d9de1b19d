"""Column types within the CGM: they see their own cells only, reach only what comes after them, and score the
same in plain torch as in Megatron."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from nemo_tabular.batches import DenseCells, SetBatch, set_batch
from nemo_tabular.codecs import fit_codec
from nemo_tabular.config import ModelConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.features import find_feature
from nemo_tabular.models.cgm import TabularCGM
from nemo_tabular.models.dense import module_name
from nemo_tabular.models.saved import SavedModel
from nemo_tabular.models.score import set_nll
from nemo_tabular.profile import profile

SIZES = [3, 2, 2, 2]  # the last two slots are dense columns: missing, or there
ROWS = 12


def codec(name, called):
    column, cells = find_feature(name, "").example(60, 0)
    column = replace(column, name=called, nullable=True)
    return fit_codec(column, profile([pa.record_batch([cells], names=[called])]).columns[called])


@pytest.fixture(scope="module")
def dense():
    return {2: codec("image", "my.picture"), 3: codec("text", "values")}


@pytest.fixture(scope="module", params=["additive", "cross_attention"])
def model(request, dense):
    config = ModelConfig(kind="cgm", query=request.param, num_layers=2, hidden_size=32, init_method_std=0.3)
    return TabularCGM(config, "32", SIZES, launch.start(ParallelLayout(), seed=1), dense=dense)


def batch(dense, seed=0):
    random = np.random.default_rng(seed)
    codes = torch.from_numpy(np.stack([random.integers(0, size, ROWS) for size in SIZES]))
    order = np.stack([random.permutation(4) for _ in range(ROWS)], 1)
    cells = {}
    for slot, name in ((2, "image"), (3, "text")):
        _, some = find_feature(name, "").example(ROWS, seed + 1)
        cells[dense[slot].name] = torch.from_numpy(dense[slot].padded(dense[slot].cells(some)))
    return SetBatch(codes, torch.from_numpy(order), None, DenseCells(cells))


def nll(model, one):
    return torch.stack(model.nll(one))


def test_plain_torch_scores_as_megatron_does(model, dense):
    plan = type("Plan", (), {"sizes": SIZES, "dense_slots": lambda self, tokenizer: dense})()
    settings = ModelConfig(
        kind="cgm",
        query="additive" if model.cross is None else "cross_attention",
        num_layers=2,
        hidden_size=32,
    )
    tensors = whole_tensors([model], dict(model.named_parameters()))
    assert f"features.{module_name('my.picture')}.decoder.out.weight" in tensors
    saved = SavedModel(settings, plan, None, tensors, False, 1, {})
    one = batch(dense)
    assert torch.allclose(set_nll(saved.set_weights(), one, 5), nll(model, one), atol=1e-4)


def test_a_cell_reaches_only_what_comes_after_it(model, dense):
    one = batch(dense)
    one.codes[2] = 1  # there, in every row
    cells = dict(one.dense.columns)
    cells["my.picture"] = (cells["my.picture"] + 1) % 3
    other = replace(one, dense=DenseCells(cells))
    before, after = nll(model, one), nll(model, other)
    with torch.no_grad():  # nor its own prediction: the context of the cell knows nothing of it
        contexts = [model._predictions(b, model._hidden(b))[2][2] for b in (one, other)]
    assert torch.equal(*contexts)
    place = one.order.argsort(0)
    later, own = place > place[2], (torch.arange(4) == 2).unsqueeze(1).expand(-1, ROWS)
    changed = before != after
    assert not changed[~later & ~own].any()
    assert changed[later].float().mean() > 0.9 and changed[own].any()


def test_cells_that_are_missing_are_never_looked_at(model, dense):
    one = batch(dense)
    one.codes[2, :5], one.codes[2, 5:] = 0, 1
    cells = dict(one.dense.columns)
    cells["my.picture"] = cells["my.picture"].clone()
    cells["my.picture"][:5] = 77  # outside the domain: it would be an error
    torch.testing.assert_close(
        nll(model, one), nll(model, replace(one, dense=DenseCells(cells))), rtol=0, atol=0
    )


def test_unscored_cells_have_no_gradient_and_others_all(model, dense):
    one = batch(dense)
    one.codes[2:] = 1
    for scored, want in ((True, True), (False, False)):
        mask = np.ones((4, ROWS), bool)
        mask[2] = scored
        order = np.array([[0, 1, 3, 2]] * ROWS).T
        model.zero_grad()
        model(set_batch(one.codes, order, mask, one.dense))[0].backward()
        feature = model.features[module_name("my.picture")]
        grads = [p.grad for p in feature.decoder.parameters()]
        assert all(g is not None for g in grads), "Megatron waits for every gradient"
        assert (sum(float(g.abs().sum()) for g in grads) > 0) == want
