"""The slot head: logits over the ids of the slot in hand only, and their loss, as one autograd function.

Hidden states enter as S matrices (N, H), one a slot; targets are column-local codes. The sum of the negative
log-likelihoods in nats leaves, with its gradients already made, so that no logits are kept. The loss equals a
softmax over the whole vocabulary with every other slot's ids masked out; the cost is the sum of the blocks
instead of rows times vocabulary.

Shapes: S slots, N predictions of a slot, H hidden, V all ids, C ids of one slot.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def slot_log_probs(hidden_NH: Tensor, weight_CH: Tensor, bias_C: Tensor) -> Tensor:
    """Log-probabilities (N, C) of one slot's codes, in fp32 whatever the hidden states are."""
    logits = torch.addmm(bias_C, hidden_NH.to(weight_CH.dtype), weight_CH.t())
    return torch.log_softmax(logits, 1, dtype=torch.float32)


class SlotLoss(torch.autograd.Function):
    """`SlotLoss.apply(weight, bias, offsets, targets, scored, *hidden)`: (total, per-slot sums) in nats.

    weight (V, H), bias (V,), offsets S + 1 ints, targets S int64 (N_s,), scored S floats (N_s,) or None (all
    count), hidden S tensors (N_s, H).
    """

    @staticmethod
    def forward(
        ctx: Any,
        weight_VH: Tensor,
        bias_V: Tensor,
        offsets: Sequence[int],
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
        for s, (y_NH, target_N) in enumerate(zip(hidden, targets, strict=True)):
            block = slice(offsets[s], offsets[s + 1])
            p_NC = slot_log_probs(y_NH, weight_VH[block], bias_V[block])
            index = target_N.unsqueeze(1)
            nll_N1 = p_NC.gather(1, index).neg_()
            if scored is not None:
                nll_N1 = nll_N1 * scored[s].unsqueeze(1)
            sums[s] = nll_N1.sum()
            if need:
                p_NC.exp_().scatter_add_(1, index, p_NC.new_full((1, 1), -1.0).expand(len(index), 1))
                if scored is not None:
                    p_NC.mul_(scored[s].unsqueeze(1))
                grad_bias[block] = p_NC.sum(0)  # type: ignore[index]
                torch.mm(p_NC.t(), y_NH.to(p_NC.dtype), out=grad_weight[block])  # type: ignore[index]
                grads.append(torch.mm(p_NC, weight_VH[block]).to(y_NH.dtype))
        if need:
            ctx.save_for_backward(grad_weight, grad_bias, *grads)
        ctx.mark_non_differentiable(sums)
        return sums.sum(), sums

    @staticmethod
    def backward(ctx: Any, grad_total: Tensor, _grad_sums: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grad_weight, grad_bias, *grads = ctx.saved_tensors
        scaled = [grad * grad_total.to(grad.dtype) for grad in grads]
        return grad_weight * grad_total, grad_bias * grad_total, None, None, None, *scaled


def slot_nll(
    weight_VH: Tensor, bias_V: Tensor, offsets: Sequence[int], targets: Sequence[Tensor], *hidden: Tensor
) -> list[Tensor]:
    """Negative log-likelihood in nats of every single prediction, without gradients: S tensors (N_s,)."""
    out = []
    for s, (y_NH, target_N) in enumerate(zip(hidden, targets, strict=True)):
        block = slice(offsets[s], offsets[s + 1])
        log_p = slot_log_probs(y_NH, weight_VH[block], bias_V[block])
        out.append(-log_p.gather(1, target_N.unsqueeze(1)).squeeze(1))
    return out
