"""Gradient buffers of the model chunks enter; the norm of the whole gradient, and its clipping, leave.

Whatever the layout, every number of the gradient counts once: a tensor that several tensor-parallel ranks
hold alike on the first, the tied embedding on the first stage, a gradient that all data-parallel ranks hold
on the first of them, and with the distributed optimizer each rank's own shard.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor


def counted_once(chunks: Sequence[Any], groups: Any, sharded: bool) -> list[Tensor]:
    """Views of this rank's gradient buffers; over all ranks they hold each number of the gradient once.

    `sharded`: the distributed optimizer reduces to each data-parallel rank its shard of every bucket.
    """
    if groups.dp_cp.rank() and not sharded:
        return []
    views: list[Tensor] = []
    for buffer in (buffer for chunk in chunks for buffer in chunk.buffers):
        views += [v for bucket in buffer.buckets for v in _views(buffer, bucket, groups, sharded)]
    return views


def _views(buffer: Any, bucket: Any, groups: Any, sharded: bool) -> Iterator[Tensor]:
    ranks, rank, length = groups.dp_cp.size(), groups.dp_cp.rank(), bucket.grad_data.numel()
    first, last = (length // ranks * rank, length // ranks * (rank + 1)) if sharded else (0, length)
    # the buffer's own map: the bucket's leaves out the padding between parameters
    elsewhere = [buffer.param_index_map[p] for p in bucket.params if not _counts_here(p, groups)]
    for begin, stop, _ in sorted(elsewhere):
        start, end = begin - bucket.offset, stop - bucket.offset
        if first < min(start, last):
            yield bucket.grad_data[first : min(start, last)]
        first = min(max(end, first), last)
    if first < last:
        yield bucket.grad_data[first:last]


def _counts_here(parameter: Tensor, groups: Any) -> bool:
    if getattr(parameter, "shared", False):
        return False
    return getattr(parameter, "tensor_model_parallel", False) or groups.tp.rank() == 0


def squared_norm(views: Sequence[Tensor], device: torch.device) -> Tensor:
    """fp64 scalar; one pass over each flat view."""
    if not views:
        return torch.zeros((), dtype=torch.float64, device=device)
    return (
        torch.stack([torch.linalg.vector_norm(v, dtype=torch.float32) for v in views]).double().pow(2).sum()
    )


def clip_(buffers: Sequence[Tensor], norm: float, longest: float) -> None:
    """Shorten the gradient to `longest` where it is longer; 0: never."""
    if longest and norm > longest:
        for buffer in buffers:
            buffer.mul_(longest / (norm + 1e-6))
