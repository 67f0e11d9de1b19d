"""The CGM: normalised in every order, causal, blind to absent cells, and the same in plain torch as in
Megatron."""

import itertools

import numpy as np
import pytest
import torch

from nemo_tabular.batches import SetBatch, set_batch
from nemo_tabular.config import ModelConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.models.cgm import NEVER, TabularCGM
from nemo_tabular.models.lineup import by_slot
from nemo_tabular.models.saved import SavedModel
from nemo_tabular.models.score import row_nll, set_nll

SIZES = [3, 2, 5, 4]
COLUMNS = [[0], [1, 2], [3]]
ORDERS = [list(itertools.chain(*columns)) for columns in itertools.permutations(COLUMNS)]


@pytest.fixture(scope="module")
def groups():
    return launch.start(ParallelLayout(), seed=1)


@pytest.fixture(scope="module", params=["additive", "cross_attention"])
def model(request, groups):
    config = ModelConfig(kind="cgm", query=request.param, num_layers=2, hidden_size=32, init_method_std=0.3)
    return TabularCGM(config, "32", SIZES, groups)


def every_row():
    return torch.tensor(list(itertools.product(*map(range, SIZES)))).T.contiguous()


def batch(codes, order, scored=None):
    """All rows in one order, or one order each."""
    order = torch.tensor(order)
    order = order.unsqueeze(1).expand(-1, codes.shape[1]) if order.dim() == 1 else order
    return SetBatch(codes, order.contiguous(), scored)


@pytest.mark.parametrize("order", ORDERS)
def test_probabilities_of_all_rows_sum_to_one_in_every_order(model, order):
    nll = sum(model.nll(batch(every_row(), order))).double()
    assert float(torch.exp(-nll).sum()) == pytest.approx(1, abs=1e-6)


def test_rows_of_different_orders_do_not_meet(model):
    codes = every_row()
    orders = torch.tensor([ORDERS[b % len(ORDERS)] for b in range(codes.shape[1])]).T
    mixed = torch.stack(model.nll(SetBatch(codes, orders.contiguous(), None)))
    for o, order in enumerate(ORDERS):
        alone = torch.stack(model.nll(batch(codes[:, o :: len(ORDERS)], order)))
        assert torch.allclose(mixed[:, o :: len(ORDERS)], alone, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_slot_reaches_only_those_after_it(model, order):
    for position, changed in enumerate(order):
        codes = torch.zeros(4, 2, dtype=torch.int64)
        codes[changed, 1] = SIZES[changed] - 1
        losses = model.nll(batch(codes, order))
        for slot in order[:position]:
            assert torch.equal(losses[slot][0], losses[slot][1])
        for slot in order[position:]:
            assert not torch.equal(losses[slot][0], losses[slot][1])


def test_absent_cells_change_nothing_and_count_nothing(model):
    codes = every_row()[:, ::7].contiguous()
    order = np.tile([[3], [0], [1], [2]], (1, codes.shape[1]))
    scored = np.ones((4, codes.shape[1]), bool)
    scored[1:3] = False  # the column of slots 1 and 2 is not there
    without = model.nll(set_batch(codes, order, scored))
    assert set_batch(codes, order, scored).order.shape[0] == 2
    other = codes.clone()
    other[1:3] = 0
    for a, b in zip(without, model.nll(set_batch(other, order, scored)), strict=True):
        assert torch.equal(a, b)
    assert float(without[1].abs().sum() + without[2].abs().sum()) == 0
    whole = model.nll(batch(codes, [3, 0, 1, 2]))
    assert torch.allclose(without[3], whole[3], atol=1e-6)
    assert torch.allclose(without[0], whole[0], atol=1e-6)


def test_absent_cells_have_no_gradient(model):
    codes = every_row()[:, :6].contiguous()
    scored = np.ones((4, 6), bool)
    scored[3, :3] = False
    order = np.array([[0, 1, 2, 3]] * 3 + [[3, 0, 1, 2]] * 3).T
    for row in (0, 4):
        part = set_batch(codes[:, row : row + 1], order[:, row : row + 1], scored[:, row : row + 1])
        model.zero_grad()
        model(part)[0].backward()
        reached = model.embedding.grad[model.offsets[3] :].abs().sum()
        assert (float(reached) > 0) == (row == 4)


def test_states_go_to_their_slots_and_gradients_come_back():
    torch.manual_seed(1)
    hidden = torch.randn(4, 6, 3, requires_grad=True, dtype=torch.float64)
    order = torch.stack([torch.tensor(ORDERS[b]) for b in range(6)], 1)
    one = batch(torch.zeros(4, 6, dtype=torch.int64), order.tolist())
    weights = torch.randn(4, 6, 3, dtype=torch.float64)
    got = by_slot(hidden, one)
    for b, t in itertools.product(range(6), range(4)):
        assert torch.equal(got[order[t, b], b], hidden[t, b])
    (grad,) = torch.autograd.grad((got * weights).sum(), hidden)
    plain = hidden[order.argsort(0), torch.arange(6)]
    (want,) = torch.autograd.grad((plain * weights).sum(), hidden)
    assert torch.equal(grad, want)


def saved(model) -> SavedModel:
    config = model.config
    settings = ModelConfig(
        kind="cgm",
        query="additive" if model.cross is None else "cross_attention",
        num_layers=config.num_layers,
        hidden_size=config.hidden_size,
    )
    plan = type("Plan", (), {"sizes": SIZES, "dense_slots": lambda self, tokenizer: {}})()
    tensors = whole_tensors([model], dict(model.named_parameters()))
    return SavedModel(settings, plan, None, tensors, False, 1, {})


def test_plain_torch_scores_as_megatron_does(model):
    codes = every_row()
    orders = torch.tensor([ORDERS[b % len(ORDERS)] for b in range(codes.shape[1])]).T.contiguous()
    mixed = SetBatch(codes, orders, None)
    plain = set_nll(saved(model).set_weights(), mixed, batch_size=50)
    assert torch.allclose(plain, torch.stack(model.nll(mixed)), atol=2e-5)


@pytest.mark.parametrize("model", ["additive"], indirect=True)
def test_in_one_order_it_is_a_gpt_of_rows(model):
    weights = saved(model).set_weights()
    for order in (*ORDERS, [3, 0]):  # some columns alone: the others are marginalised
        one = batch(every_row(), order)
        scored = torch.zeros(4, one.codes.shape[1])
        scored[order] = 1
        whole = set_nll(weights, SetBatch(one.codes, one.order, scored))
        gpt = row_nll(weights.ordered(order), every_row()[order].contiguous())
        assert torch.allclose(gpt, whole[order], atol=2e-5)


def test_codes_that_cannot_occur_have_no_probability_and_no_gradient(groups):
    marginals = torch.zeros(sum(SIZES))
    marginals[5] = NEVER
    cgm = TabularCGM(ModelConfig(kind="cgm"), "32", SIZES, groups, log_marginals=marginals)
    total, _, _ = cgm(batch(every_row()[:, every_row()[2] > 0].contiguous(), ORDERS[0]))
    total.backward()
    assert float(cgm.bias.grad[5]) == 0
    nll = cgm.nll(batch(torch.zeros(4, 1, dtype=torch.int64), ORDERS[0]))
    assert float(torch.exp(-nll[2])) == 0
