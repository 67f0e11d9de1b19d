"""Initial weights that no layout changes: a parameter's name and a seed enter, normal numbers leave.

Megatron draws a rank's parameters one after the other, so the same seed gives other weights under another
layout. Here each whole tensor has a generator of its own, and a rank takes its part.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def normal(name: str, shape: Sequence[int], seed: int, std: float) -> Tensor:
    """The whole fp32 tensor `name`, on the CPU."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
    return torch.empty(*shape).normal_(0.0, std, generator=generator)


@torch.no_grad()
def draw_(parameter: Tensor, name: str, seed: int, std: float, group: Any) -> None:
    """Fill a parameter, or the tensor-parallel rank's part of it as Megatron marks it."""
    if parameter.is_meta:
        return
    shape, ranks = list(parameter.shape), group.size()
    if ranks == 1 or not getattr(parameter, "tensor_model_parallel", False):
        parameter.copy_(normal(name, shape, seed, std))
        return
    axis: int = parameter.partition_dim  # type: ignore[attr-defined]
    shape[axis] *= ranks
    parameter.copy_(normal(name, shape, seed, std).chunk(ranks, axis)[group.rank()])
