"""A batch of sets and the embeddings of a CGM enter; the sequences that its transformer reads leave, and what
it made of them goes back to the slots. The same in training (models/cgm.py) and in scoring (score.py).

Shapes: S slots, T positions, B rows, H hidden, V ids.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..batches import SetBatch


def line_up(
    batch: SetBatch,
    shift_S1: Tensor,
    look_up: Callable[[Tensor], Tensor],
    column_SH: Tensor,
    begin_1H: Tensor,
) -> Tensor:
    """(T, B, H): at position t the value of the slot before it and that slot's embedding; `begin` first.

    `look_up`: the embeddings of ids.
    """
    seen_TB = batch.order[:-1]
    ids_TB = (batch.codes + shift_S1).gather(0, seen_TB)
    values = look_up(ids_TB) + functional.embedding(seen_TB, column_SH)
    return torch.cat([begin_1H.expand(1, values.shape[1], -1), values])


def by_slot(hidden_TBH: Tensor, batch: SetBatch) -> Tensor:
    """(S, B, H): the state that predicts each slot. Of slots that no position holds: the first state."""
    return _BySlot.apply(hidden_TBH, batch.order, len(batch.codes))


class _BySlot(torch.autograd.Function):
    """A permutation, so each gradient goes back to the one place it came from (index_select's own backward
    adds them up, one by one); slots that no position holds do not count in any loss.
    """

    @staticmethod
    def forward(ctx: Any, hidden_TBH: Tensor, order_TB: Tensor, slots: int) -> Tensor:
        length, rows, _ = hidden_TBH.shape
        position_T1 = torch.arange(length, device=order_TB.device).unsqueeze(1)
        place_SB = order_TB.new_zeros(slots, rows).scatter_(0, order_TB, position_T1.expand(-1, rows))
        ctx.save_for_backward(order_TB)
        return _gather_rows(hidden_TBH, place_SB)

    @staticmethod
    def backward(ctx: Any, grad_SBH: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        (order_TB,) = ctx.saved_tensors
        return _gather_rows(grad_SBH, order_TB), None, None


def _gather_rows(x_NBH: Tensor, index_MB: Tensor) -> Tensor:
    """out[m, b] = x[index[m, b], b]."""
    count, rows = index_MB.shape
    flat = index_MB * rows + torch.arange(rows, device=index_MB.device)
    return x_NBH.flatten(0, 1).index_select(0, flat.flatten()).view(count, rows, -1)
