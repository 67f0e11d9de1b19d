"""A table of parameters (V rows) is shared by rows over the tensor-parallel ranks: arithmetic of who holds
which, new parameters, and the look-up.

As in Megatron's vocabulary-parallel embedding the ranges are contiguous and the last is padded. The padding
is the same for every number of ranks that divides PAD_TO, so that checkpoints move between layouts as they
are.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.tensor_parallel import (
    copy_to_tensor_model_parallel_region,
    reduce_from_tensor_model_parallel_region,
)
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes

PAD_TO = 16


@dataclass(frozen=True)
class RowShare:
    """The rows first .. first + count - 1 of a table of `rows`, padding included, are this rank's."""

    rows: int
    first: int
    count: int
    group: Any
    """The tensor-parallel group."""

    @classmethod
    def of(cls, rows: int, group: Any) -> "RowShare":
        ranks = group.size()
        multiple = math.lcm(PAD_TO, ranks)
        count = -(-rows // multiple) * multiple // ranks
        return cls(rows, group.rank() * count, count, group)

    def parameter(self, whole: Tensor) -> torch.nn.Parameter:
        """This rank's rows of `whole` (V, ...) as a parameter, zeros where they are padding."""
        made = torch.nn.Parameter(self.part(whole))
        set_tensor_model_parallel_attributes(made, True, 0, 1)
        made.unpadded_rows = self.rows  # type: ignore[attr-defined]
        return made

    def look_up(self, table: Tensor, ids: Tensor) -> Tensor:
        """Rows of `ids` (any shape), whole on every tensor-parallel rank."""
        if self.group.size() == 1:
            return functional.embedding(ids, table)
        local = ids - self.first
        elsewhere = (local < 0) | (local >= self.count)
        found = functional.embedding(local.masked_fill(elsewhere, 0), table)
        return reduce_from_tensor_model_parallel_region(
            found.masked_fill(elsewhere.unsqueeze(-1), 0.0), group=self.group
        )

    def whole_rows(self, table: Tensor, first: int, end: int) -> Tensor:
        """Rows first .. end - 1, whole on every tensor-parallel rank; their gradient is the sum of all
        ranks'."""
        if self.group.size() == 1:
            return table[first:end]
        rows = torch.arange(first, end, device=table.device)
        return copy_to_tensor_model_parallel_region(self.look_up(table, rows), group=self.group)

    def part(self, whole: Tensor) -> Tensor:
        """This rank's rows of `whole` (V, ...), zeros where they are padding."""
        mine = whole.new_zeros(self.count, *whole.shape[1:])
        part = whole[self.first : self.first + self.count]
        mine[: len(part)] = part
        return mine

    def of_every_rank(self, x: Tensor) -> Tensor:
        """(ranks, ...): a tensor of each tensor-parallel rank, no gradients."""
        every = x.new_empty(self.group.size() * len(x), *x.shape[1:])
        dist.all_gather_into_tensor(every, x.contiguous(), group=self.group)
        return every.view(self.group.size(), *x.shape)
