"""The slot head against a masked softmax, and the GPT: causal, normalised, the same in plain torch as in
Megatron.
"""

import itertools

import pytest
import torch
from torch.nn import functional

from nemo_tabular.batches import DocumentBatch
from nemo_tabular.config import ModelConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.models.gpt import TabularGPT
from nemo_tabular.models.head import SlotLoss, Slots, slot_nll

SIZES = [3, 2, 5, 4]


@pytest.fixture(scope="module")
def groups():
    return launch.start(ParallelLayout(), seed=1)


def masked_softmax_loss(weight, bias, offsets, targets, hidden):
    """The plain way: logits of the whole vocabulary, ids of other slots at minus infinity."""
    total = 0.0
    for s, (y, target) in enumerate(zip(hidden, targets, strict=True)):
        logits = functional.linear(y, weight, bias)
        mask = torch.full_like(logits, -torch.inf)
        mask[:, offsets[s] : offsets[s + 1]] = 0
        total = total + functional.cross_entropy(logits + mask, target + offsets[s], reduction="sum")
    return total


def test_slot_loss_and_its_gradients_equal_a_masked_softmax_over_everything():
    torch.manual_seed(0)
    offsets = [0, 3, 5, 10, 14]
    weight = torch.randn(14, 8, requires_grad=True)
    bias = torch.randn(14, requires_grad=True)
    hidden = [torch.randn(6, 8, requires_grad=True) for _ in SIZES]
    targets = [torch.randint(0, size, (6,)) for size in SIZES]
    total, sums = SlotLoss.apply(weight, bias, Slots(SIZES), targets, None, *hidden)
    wanted = masked_softmax_loss(weight, bias, offsets, targets, hidden)
    assert torch.allclose(total, wanted, rtol=1e-6)
    assert torch.allclose(sums.sum(), total)
    grads = torch.autograd.grad(3 * total, [weight, bias, *hidden])
    for got, want in zip(grads, torch.autograd.grad(3 * wanted, [weight, bias, *hidden]), strict=True):
        assert torch.allclose(got, want, atol=1e-5)
    each = slot_nll(weight, bias, Slots(SIZES), targets, *hidden)
    assert torch.allclose(torch.stack([e.sum() for e in each]), sums, rtol=1e-6)


def test_scored_weights_take_predictions_out_of_loss_and_gradient():
    weight, bias = torch.randn(3, 4, requires_grad=True), torch.zeros(3, requires_grad=True)
    y = torch.randn(2, 4, requires_grad=True)
    targets, scored = [torch.tensor([1, 2])], [torch.tensor([1.0, 0.0])]
    total, _ = SlotLoss.apply(weight, bias, Slots([3]), targets, scored, y)
    (grad,) = torch.autograd.grad(total, y)
    alone, _ = SlotLoss.apply(weight, bias, Slots([3]), [targets[0][:1]], None, y[:1])
    assert torch.allclose(total, alone)
    assert grad[0].abs().sum() > 0
    assert grad[1].abs().sum() == 0


def test_probabilities_of_all_rows_sum_to_one(groups):
    model = TabularGPT(ModelConfig(), "32", SIZES, groups)
    rows = torch.tensor(list(itertools.product(*map(range, SIZES)))).T.contiguous()
    nll = sum(model.nll(rows)).double()
    assert float(torch.exp(-nll).sum()) == pytest.approx(1, abs=1e-6)


def test_the_model_starts_at_the_marginals(groups):
    marginals = [torch.full((size,), 1 / size).log() for size in SIZES]
    marginals[2] = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.1]).log()
    model = TabularGPT(ModelConfig(), "32", SIZES, groups, log_marginals=torch.cat(marginals))
    with torch.no_grad():
        model.embedding.zero_()
    got = model.nll(torch.zeros(4, 1, dtype=torch.int64))
    assert float(got[2]) == pytest.approx(-float(marginals[2][0]), abs=1e-5)


def test_later_slots_do_not_reach_earlier_ones(groups):
    model = TabularGPT(ModelConfig(), "32", SIZES, groups)
    codes = torch.zeros(4, 2, dtype=torch.int64)
    codes[2, 1] = 4
    first, second, third, fourth = model.nll(codes)
    for same in (first, second):
        assert torch.equal(same[0], same[1])
    assert not torch.equal(third[0], third[1])
    assert not torch.equal(fourth[0], fourth[1])


def window(lengths, *, rows, context=None, begins=None, ends=None):
    """A batch of windows with random codes."""
    count = len(lengths)
    torch.manual_seed(5)
    codes = torch.stack([torch.randint(0, size, (rows, count)) for size in SIZES], 1)
    lengths = torch.tensor(lengths)
    row = torch.arange(rows).unsqueeze(1)
    scored = (row < lengths) & (row >= torch.tensor(context or [0] * count))
    codes = codes * (row < lengths).unsqueeze(1)
    flags = (torch.tensor(x if x is not None else [True] * count) for x in (begins, ends))
    return DocumentBatch(codes, codes, lengths, scored, *flags)


def test_padding_of_a_history_changes_nothing(groups):
    model = TabularGPT(ModelConfig(), "32", SIZES, groups, histories=True, max_rows=6)
    alone = model(window([3], rows=3))[0]
    batch = window([3], rows=3)
    padded = DocumentBatch(
        torch.cat([batch.codes, torch.zeros(2, 4, 1, dtype=torch.int64)]),
        batch.ids,
        batch.lengths,
        torch.cat([batch.scored, torch.zeros(2, 1, dtype=torch.bool)]),
        batch.begins,
        batch.ends,
    )
    assert torch.allclose(model(padded)[0], alone, rtol=1e-5)


def test_all_histories_of_at_most_two_rows_and_longer_ones_share_the_probability(groups):
    sizes = [2, 2]
    model = TabularGPT(ModelConfig(), "32", sizes, groups, histories=True, max_rows=2)
    with torch.no_grad():
        model.bias[2] = -torch.inf  # no end before the first row: documents are not empty
        first = _history_nll(model, list(itertools.product(range(2), repeat=2)), ends=False)
    assert torch.exp(-first).sum() == pytest.approx(1, abs=1e-5)


def _history_nll(model, rows, ends):
    codes = torch.tensor(rows).T.unsqueeze(0).contiguous()
    count = codes.shape[2]
    flags = torch.full((count,), True)
    batch = DocumentBatch(
        codes,
        codes,
        torch.ones(count, dtype=torch.int64),
        torch.ones(1, count).bool(),
        flags,
        flags if ends else ~flags,
    )
    losses = model.nll(batch)
    return losses[0].view(2, count)[0] + losses[1]


def test_context_rows_are_read_but_not_scored(groups):
    model = TabularGPT(ModelConfig(), "32", SIZES, groups, histories=True, max_rows=4)
    part = window([4], rows=4, context=[2], begins=[False])
    losses = [loss.view(-1, 1) for loss in model.nll(part)]
    assert float(losses[0][:2].sum() + losses[1][:2].sum()) == 0
    assert float(losses[0][4]) > 0  # the end of the document


def test_bf16_keeps_head_and_embedding_in_fp32(groups):
    model = TabularGPT(ModelConfig(), "bf16-mixed", SIZES, groups)
    assert model.embedding.dtype == torch.float32
    assert next(model.blocks.parameters()).dtype == torch.bfloat16
    total, _, _ = model(torch.zeros(4, 8, dtype=torch.int64))
    assert total.dtype == torch.float32
    assert torch.isfinite(total)
