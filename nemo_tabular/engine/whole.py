"""The parts of a model that ranks hold enter; all its tensors, whole and on the CPU, leave on rank 0. And the
other way round.

Tensor-parallel parts are joined within their stage, one tensor at a time, then stages send to rank 0: no rank
but rank 0 ever holds more than its own part and one whole tensor.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from ..errors import CheckpointError
from .stage import StageModule


def whole_tensors(modules: Sequence[StageModule], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`weights` is `TrainStep.weights()` or a copy of it. Empty on all ranks but rank 0."""
    groups = modules[0].groups
    parts: dict[str, Tensor] = {}
    if groups.dp_cp.rank():
        return {}
    for module in modules:
        for name, parameter in module.named_parameters():
            joined = _joined(weights[module.name_in_whole(name)], parameter, groups.tp)
            if groups.tp.rank() == 0 and not getattr(parameter, "shared", False):
                parts[module.name_in_whole(name)] = joined.to("cpu", copy=True)
    if groups.tp.rank():
        return {}
    return _collected(parts, groups.pp, weights)


def _joined(part: Tensor, parameter: Tensor, group: Any) -> Tensor:
    rows = getattr(parameter, "unpadded_rows", None)
    if group.size() > 1 and getattr(parameter, "tensor_model_parallel", False):
        every = [torch.empty_like(part) for _ in range(group.size())]
        dist.all_gather(every, part.contiguous(), group=group)
        part = torch.cat(every, parameter.partition_dim)  # type: ignore[attr-defined]
    return part if rows is None else part[:rows]


def _collected(parts: dict[str, Tensor], group: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    device = next(iter(weights.values())).device
    first = dist.get_global_rank(group, 0)
    if group.rank():
        listed = [[name, list(t.shape), str(t.dtype).removeprefix("torch.")] for name, t in parts.items()]
        text = torch.frombuffer(bytearray(json.dumps(listed).encode()), dtype=torch.uint8).to(device)
        dist.send(torch.tensor([len(text)], device=device), first, group)
        dist.send(text, first, group)
        for tensor in parts.values():
            dist.send(tensor.contiguous().to(device), first, group)
        return {}
    for stage in range(1, group.size()):
        source = dist.get_global_rank(group, stage)
        size = torch.zeros(1, dtype=torch.int64, device=device)
        dist.recv(size, source, group)
        text = torch.empty(int(size), dtype=torch.uint8, device=device)
        dist.recv(text, source, group)
        for name, shape, dtype in json.loads(bytes(text.tolist())):
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
            dist.recv(tensor, source, group)
            parts[name] = tensor.cpu()
    return parts


@torch.no_grad()
def take_over(
    modules: Sequence[StageModule], whole: Mapping[str, Tensor], rows: Mapping[str, np.ndarray]
) -> None:
    """Fill the parameters of new modules with what `whole` has under their names, under any layout; those
    that it lacks stay. Of the tables in `rows`, row i is row rows[name][i] of the whole one, or stays as it
    is where that is -1.
    """
    for module in modules:
        for short, parameter in module.named_parameters():
            name, group = module.name_in_whole(short), module.groups.tp
            if name not in whole:
                continue
            if name in rows:
                _take_rows(parameter, whole[name], torch.from_numpy(rows[name]), group)
                continue
            part = whole[name]
            if group.size() > 1 and getattr(parameter, "tensor_model_parallel", False):
                axis: int = parameter.partition_dim  # type: ignore[assignment]
                part = part.chunk(group.size(), axis)[group.rank()]
            if part.shape != parameter.shape:
                raise CheckpointError(
                    f"{name} has shape {tuple(whole[name].shape)} in the model to go on from, which does not "
                    "fit: use that model's settings"
                )
            parameter.copy_(part)


def _take_rows(parameter: Tensor, whole: Tensor, rows: Tensor, group: Any) -> None:
    """`parameter` holds the rank's rows of a new table, padding at the end."""
    shared = getattr(parameter, "tensor_model_parallel", False)
    first = group.rank() * len(parameter) if shared else 0
    mine = rows[first : first + len(parameter)]
    known = mine >= 0
    parameter[: len(mine)][known] = whole[mine[known]].to(parameter)
