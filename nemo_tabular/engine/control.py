"""Small messages between all ranks beside the training traffic: a value of each rank enters, what all of them
know leaves.

Over gloo whatever the training runs on, so that a background thread may talk while the cards compute. With
one process nothing is sent.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from ..errors import TabularError

TIMEOUT = timedelta(hours=12)  # a hung rank is the watchdog's to find; a slow disk is no reason to give up


class Control:
    """All ranks of the job. Every method but `rank` and `size` is a collective; a thread needs its own
    Control.
    """

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._group = dist.new_group(backend="gloo", timeout=TIMEOUT) if self.size > 1 else None

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether any rank has it set."""
        if self._group is None:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self._group)
        return [bool(value) for value in values.tolist()]

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of the ranks, on every rank."""
        values = [value] * self.size
        if self._group is not None:
            dist.all_gather_object(values, value, group=self._group)
        return values

    def from_first(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        values = [value]
        if self._group is not None:
            dist.broadcast_object_list(values, 0, group=self._group)
        return values[0]

    def on_first(self, call: Callable[[], Any]) -> Any:
        """What `call` returns on rank 0. What it raises of the errors a user can meet, every rank raises."""
        result, error = None, None
        if self.rank == 0:
            try:
                result = call()
            except (TabularError, OSError) as raised:
                error = raised
        result, error = self.from_first((result, error))
        if error is not None:
            raise error
        return result
