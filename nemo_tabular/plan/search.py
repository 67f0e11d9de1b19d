"""A configuration and a largest number of GPUs enter; for each smaller number a layout that fits leaves.

Preferred is what communicates least: no recomputation before recomputation, few ranks a model before many,
pipelines within the shape of the model, tensor parallelism within a node.
"""

from collections.abc import Iterator
from dataclasses import replace

from pydantic import ValidationError

from ..config import Config, ModelConfig
from ..errors import ConfigError
from .estimate import Cluster, Estimate, estimate
from .workload import Workload

NO_RECOMPUTE = {"recompute_granularity": None, "recompute_method": None, "recompute_num_layers": None}
RECOMPUTE = {"recompute_granularity": "full", "recompute_method": "uniform", "recompute_num_layers": 1}


def powers_of_two(limit: int) -> list[int]:
    """1, 2, 4, ... up to `limit`, and `limit` itself."""
    return sorted({1 << power for power in range(limit.bit_length())} | {limit})


def layouts(config: Config, cluster: Cluster) -> Iterator[Config]:
    """Ways to lay the model out on all GPUs of the cluster, the preferred first; not all are legal."""
    tensor = powers_of_two(cluster.gpus_per_node)
    layers = config.model.num_layers
    pipeline = [stages for stages in range(1, layers + 1) if layers % stages == 0]
    shapes = sorted((t * p, t, p) for t in tensor for p in pipeline if cluster.gpus % (t * p) == 0)
    for recompute in (NO_RECOMPUTE, RECOMPUTE):
        for ranks, t, p in shapes:
            changes = {
                "tensor_model_parallel_size": t,
                "pipeline_model_parallel_size": p,
                "virtual_pipeline_model_parallel_size": None,
                "context_parallel_size": 1,
                "sequence_parallel": t > 1,
                **recompute,
            }
            try:
                model = ModelConfig.model_validate(config.model.model_dump() | changes)
            except ValidationError:
                continue
            optim = config.optim.model_copy(
                update={"use_distributed_optimizer": cluster.gpus > ranks, "overlap_param_gather": False}
            )
            yield config.model_copy(update={"model": model, "optim": optim})


def fitting(config: Config, work: Workload, cluster: Cluster) -> list[tuple[int, Estimate | None]]:
    """For 1, 2, 4, ... GPUs, and as many as the cluster has: the preferred layout that fits, if any does."""
    found: list[tuple[int, Estimate | None]] = []
    for gpus in powers_of_two(cluster.gpus):
        part = replace(cluster, gpus=gpus)
        found.append((gpus, next(_fitting(config, work, part), None)))
    return found


def _fitting(config: Config, work: Workload, cluster: Cluster) -> Iterator[Estimate]:
    for candidate in layouts(config, cluster):
        try:
            made = estimate(candidate, work, cluster)
        except ConfigError:
            continue
        if made.fits:
            yield made
