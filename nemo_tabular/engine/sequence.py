"""How a sequence is shared: hidden states of all positions enter, this rank's leave, and the way back.

Context parallelism splits as Megatron does: padded to a multiple of twice its size, cut into as many chunks,
and rank r holds chunks r and 2C-1-r, so that every rank has as many earlier positions to look at. Sequence
parallelism splits what a tensor-parallel rank then holds once more, between the matrices.

Shapes: T positions, B sequences, H hidden; C context-parallel ranks.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    gather_from_sequence_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer import TransformerConfig


class SequenceShare:
    """This rank's part of every sequence. With one rank all of it, and nothing is done or copied."""

    def __init__(self, config: TransformerConfig, groups: ProcessGroupCollection) -> None:
        self.tp: Any = groups.tp
        self.parts, self.part = groups.cp.size(), groups.cp.rank()
        self.split_by_tp = config.sequence_parallel
        halves = 2 * self.parts if self.parts > 1 else 1
        self.multiple = halves * (self.tp.size() if self.split_by_tp else 1)
        # made once: on a card, looking for positions would wait for all that is queued
        self._positions: dict[tuple[int, torch.device], Tensor] = {}
        self._every: dict[tuple[int, int, torch.device], tuple[list[Tensor], list[Tensor]]] = {}

    def padded(self, length: int) -> int:
        """Positions after padding to what can be split."""
        return -(-length // self.multiple) * self.multiple

    def positions(self, padded: int, device: torch.device) -> Tensor:
        """int64 (padded / C,): the positions that this context-parallel rank holds."""
        key = (padded, device)
        if key not in self._positions:
            chunks = torch.arange(padded, device=device).chunk(2 * self.parts)
            self._positions[key] = torch.cat([chunks[self.part], chunks[-1 - self.part]])
        return self._positions[key]

    def every(self, period: int, length: int, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
        """For each s below `period`: where this rank holds positions s, s + period, ... (of `length` in all),
        and which of them: 0 for s, 1 for s + period, ...
        """
        key = (period, length, device)
        if key not in self._every:
            held = self.positions(self.padded(length), device)
            where = [torch.nonzero((held < length) & (held % period == s)).squeeze(1) for s in range(period)]
            self._every[key] = where, [held[found] // period for found in where]
        return self._every[key]

    def enter(self, x_TBH: Tensor) -> Tensor:
        """This rank's positions of what all ranks hold; the gradient of what they hold is whole again on the
        tensor-parallel ranks, and this rank's part of the sum on the context-parallel ones.
        """
        missing = self.padded(len(x_TBH)) - len(x_TBH)
        if missing:
            x_TBH = functional.pad(x_TBH, (0, 0, 0, 0, 0, missing))
        if self.parts > 1:
            x_TBH = x_TBH.index_select(0, self.positions(len(x_TBH), x_TBH.device))
        if self.split_by_tp:
            # a copy: the first norm would keep the whole of it for the backward pass
            x_TBH = scatter_to_sequence_parallel_region(x_TBH, group=self.tp).clone()
        return x_TBH

    def leave(self, hidden_TBH: Tensor) -> Tensor:
        """What the output layer sees: the context-parallel rank's positions, on all its tensor-parallel
        ranks.

        Each of those computes a part of the output layer, so their gradients are added on the way back.
        """
        if self.split_by_tp:
            return gather_from_sequence_parallel_region(
                hidden_TBH, tensor_parallel_output_grad=True, group=self.tp
            )
        if self.tp.size() > 1:
            return copy_to_tensor_model_parallel_region(hidden_TBH, group=self.tp)
        return hidden_TBH
