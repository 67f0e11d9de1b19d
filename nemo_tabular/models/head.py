"""The slot head: logits over the ids of the slot in hand only, and their loss, as one autograd function.

Hidden states enter as S matrices (N, H), one a slot; targets are column-local codes. The sum of the negative
log-likelihoods in nats leaves, with its gradients already made, so that no logits are kept. The loss equals a
softmax over the whole vocabulary with every other slot's ids masked out; the cost is the sum of the blocks
instead of rows times vocabulary.

Where tensor-parallel ranks share the table of ids, each computes the logits of its own rows, and one exchange
for all slots together makes the softmax whole.

Shapes: S slots, N predictions of a slot, H hidden, V all ids (of this rank), C ids of one slot (of this
rank).
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:  # whoever scores rows in one process needs no Megatron
    from ..engine.rows import RowShare


class Slots:
    """Which rows of the table of ids are which slot's: offsets in the whole table, and blocks in this rank's.

    `share`: how tensor-parallel ranks share the table; None: all of it is here.
    """

    def __init__(self, sizes: Sequence[int], share: "RowShare | None" = None) -> None:
        self.sizes = list(sizes)
        self.offsets = [0, *accumulate(sizes)]
        self.shared = share is not None and share.group.size() > 1
        first, count = (share.first, share.count) if share is not None else (0, self.offsets[-1])
        self.share = share
        local = [min(max(offset - first, 0), count) for offset in self.offsets]
        self.blocks = [slice(*pair) for pair in pairwise(local)]
        """Rows of this rank's table, for each slot; empty where others hold the slot."""
        self.first_codes = [max(first - offset, 0) for offset in self.offsets[:-1]]
        """The code of each block's first row."""


class Prediction(NamedTuple):
    """One slot's predictions."""

    log_p_NC: Tensor
    """Log-probabilities of this rank's codes, fp32."""
    nll_N: Tensor
    """Negative log-likelihood of the targets, the same on all tensor-parallel ranks."""
    index_N1: Tensor
    """Each target's place among this rank's codes, somewhere among them if it is not there."""
    here_N1: Tensor | None
    """1 where the target is among this rank's codes, else 0; None: all are."""


def slot_log_probs(hidden_NH: Tensor, weight_CH: Tensor, bias_C: Tensor) -> Tensor:
    """Log-probabilities (N, C) of one slot's codes, in fp32 whatever the hidden states are."""
    logits = torch.addmm(bias_C, hidden_NH.to(weight_CH.dtype), weight_CH.t())
    return torch.log_softmax(logits, 1, dtype=torch.float32)


def predictions(
    weight_VH: Tensor, bias_V: Tensor, slots: Slots, targets: Sequence[Tensor], hidden: Sequence[Tensor]
) -> Iterator[Prediction]:
    """Slot by slot, without gradients of its own. With one rank nothing of a slot is kept for the next."""
    if slots.shared:
        yield from _shared_predictions(weight_VH, bias_V, slots, targets, hidden)
        return
    for block, y_NH, target_N in zip(slots.blocks, hidden, targets, strict=True):
        log_p_NC = slot_log_probs(y_NH, weight_VH[block], bias_V[block])
        index_N1 = target_N.unsqueeze(1)
        yield Prediction(log_p_NC, log_p_NC.gather(1, index_N1).squeeze(1).neg_(), index_N1, None)


def _shared_predictions(
    weight_VH: Tensor, bias_V: Tensor, slots: Slots, targets: Sequence[Tensor], hidden: Sequence[Tensor]
) -> Iterator[Prediction]:
    logits, places, here, parts = [], [], [], []
    for block, first, y_NH, target_N in zip(slots.blocks, slots.first_codes, hidden, targets, strict=True):
        logits_NC = torch.addmm(bias_V[block], y_NH.to(weight_VH.dtype), weight_VH[block].t()).float()
        count = logits_NC.shape[1]
        place_N1 = (target_N - first).unsqueeze(1)
        here_N1 = (place_N1 >= 0) & (place_N1 < count)
        place_N1 = place_N1.clamp(0, max(count - 1, 0))
        if count:
            at_N = logits_NC.gather(1, place_N1).masked_fill(~here_N1, 0.0).squeeze(1)
            parts.append(torch.stack([logits_NC.logsumexp(1), at_N]))
        else:
            nothing_N = logits_NC.new_zeros(len(logits_NC))
            parts.append(torch.stack([nothing_N - torch.inf, nothing_N]))
        logits.append(logits_NC)
        places.append(place_N1)
        here.append(here_N1.to(logits_NC.dtype))
    assert slots.share is not None
    every_R2N = slots.share.of_every_rank(torch.cat(parts, 1))
    total_N, at_N = every_R2N[:, 0].logsumexp(0), every_R2N[:, 1].sum(0)
    lengths = [len(x) for x in logits]
    for s, (total, at) in enumerate(zip(total_N.split(lengths), at_N.split(lengths), strict=True)):
        log_p_NC = logits[s].sub_(total.unsqueeze(1))
        yield Prediction(log_p_NC, total - at, places[s], here[s])


class SlotLoss(torch.autograd.Function):
    """`SlotLoss.apply(weight, bias, slots, targets, scored, *hidden)`: (total, per-slot sums) in nats.

    weight (V, H), bias (V,), slots `Slots`, targets S int64 (N_s,), scored S floats (N_s,) or None (all
    count), hidden S tensors (N_s, H). The gradient of hidden is that of this rank's ids alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight_VH: Tensor,
        bias_V: Tensor,
        slots: Slots,
        targets: Sequence[Tensor],
        scored: Sequence[Tensor] | None,
        *hidden: Tensor,
    ) -> tuple[Tensor, Tensor]:
        need = any(ctx.needs_input_grad)
        grads = []
        grad_weight, grad_bias = (
            (torch.empty_like(weight_VH), torch.empty_like(bias_V)) if need else (None, None)
        )
        sums = torch.empty(len(hidden), dtype=torch.float32, device=weight_VH.device)
        for s, found in enumerate(predictions(weight_VH, bias_V, slots, targets, hidden)):
            p_NC, y_NH, block = found.log_p_NC, hidden[s], slots.blocks[s]
            nll_N = found.nll_N if scored is None else found.nll_N * scored[s]
            sums[s] = nll_N.sum()
            if need:
                p_NC.exp_()
                if found.here_N1 is None:
                    minus = p_NC.new_full((1, 1), -1.0).expand(len(nll_N), 1)
                else:
                    minus = -found.here_N1
                if p_NC.shape[1]:
                    p_NC.scatter_add_(1, found.index_N1, minus)
                if scored is not None:
                    p_NC.mul_(scored[s].unsqueeze(1))
                grad_bias[block] = p_NC.sum(0)  # type: ignore[index]
                torch.mm(p_NC.t(), y_NH.to(p_NC.dtype), out=grad_weight[block])  # type: ignore[index]
                grads.append(torch.mm(p_NC, weight_VH[block]).to(y_NH.dtype))
        if need:
            padding = slice(slots.blocks[-1].stop, None)
            grad_weight[padding], grad_bias[padding] = 0, 0  # type: ignore[index]
            ctx.save_for_backward(grad_weight, grad_bias, *grads)
        ctx.mark_non_differentiable(sums)
        return sums.sum(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _grad_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_weight, grad_bias, *grads = ctx.saved_tensors
        scaled = [grad * grad_total.to(grad.dtype) for grad in grads]
        return grad_weight * grad_total, grad_bias * grad_total, None, None, None, *scaled


def slot_nll(
    weight_VH: Tensor, bias_V: Tensor, slots: Slots, targets: Sequence[Tensor], *hidden: Tensor
) -> list[Tensor]:
    """Negative log-likelihood in nats of every single prediction, without gradients: S tensors (N_s,)."""
    return [found.nll_N for found in predictions(weight_VH, bias_V, slots, targets, hidden)]


def slot_counts(
    weight_VH: Tensor,
    bias_V: Tensor,
    slots: Slots,
    targets: Sequence[Tensor],
    scored: Sequence[Tensor] | None,
    *hidden: Tensor,
) -> Tensor:
    """How often each code is predicted and how often it occurs: float64 (2, ids of all ranks), zero for codes
    that other ranks hold, so that the ranks' results add up.
    """
    counts = torch.zeros(2, slots.offsets[-1], dtype=torch.float64, device=weight_VH.device)
    for s, found in enumerate(predictions(weight_VH, bias_V, slots, targets, hidden)):
        p_NC = found.log_p_NC.exp_().double()
        weight_N = p_NC.new_ones(len(p_NC)) if scored is None else scored[s].double()
        start = slots.offsets[s] + slots.first_codes[s]
        counts[0, start : start + p_NC.shape[1]] = weight_N @ p_NC
        if found.here_N1 is not None:
            weight_N = weight_N * found.here_N1.squeeze(1)
        if p_NC.shape[1]:
            counts[1, start : start + p_NC.shape[1]].index_add_(0, found.index_N1.squeeze(1), weight_N)
    return counts
