"""Who this process is among those that were started together: by torchrun, by srun, or by nothing at all.

Enters: the environment. Leaves: rank, number of ranks, and the process group in which they meet.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from ..errors import ConfigError

Result = TypeVar("Result")
LOWEST_PORT, PORTS = 15_000, 15_000  # below 32768, where Linux hands out ports of its own accord


@dataclass(frozen=True)
class Place:
    """One process among its fellows."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number among those on the same machine."""
    master: tuple[str, int] | None = None
    """Host and port where rank 0 waits for the others; None for one process."""


ALONE = Place()


def place(environment: Mapping[str, str] = os.environ) -> Place:
    """What torchrun's variables say, else srun's, else one process. Raises ConfigError for half of a set.

    Inside a batch script, but not under srun, SLURM counts tasks that nobody started: only a step's count.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in names if name not in environment]
        if missing:
            raise ConfigError(
                f"the environment has {' and '.join(sorted(set(names[:2]) & set(environment)))} but not "
                f"{', '.join(missing)}: start with torchrun or srun, or unset them to run one process"
            )
        rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
        address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        return Place(rank, size, int(environment.get("LOCAL_RANK", "0")), address)
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        size = int(environment.get("SLURM_STEP_NUM_TASKS") or environment["SLURM_NTASKS"])
        rank, local = int(environment["SLURM_PROCID"]), int(environment.get("SLURM_LOCALID", "0"))
        return Place(rank, size, local, _slurm_master(environment) if size > 1 else None)
    return ALONE


def _slurm_master(environment: Mapping[str, str]) -> tuple[str, int]:
    nodes = environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"]
    host = environment.get("MASTER_ADDR") or first_host(nodes)
    job, step = int(environment.get("SLURM_JOB_ID", "0")), int(environment["SLURM_STEP_ID"])
    port = environment.get("MASTER_PORT") or LOWEST_PORT + (16 * job + step) % PORTS
    return host, int(port)


def first_host(nodes: str) -> str:
    """`gpu01` of SLURM's `gpu[01-04,07],big2`, which is where a step's rank 0 runs."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ConfigError(f"SLURM names no node in {nodes!r}: set MASTER_ADDR to the host of rank 0")
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group())


def join() -> Place:
    """Meet the others in torch's default process group (NCCL on CUDA, else gloo); idempotent."""
    here = place()
    if dist.is_initialized():
        return here
    how: dict[str, Any] = {"backend": "gloo"}
    if torch.cuda.is_available():
        # Megatron overlaps exchange and computation only where kernels start in the order they were queued
        os.environ.setdefault("CUDA_DEVICE_MAX_CONNECTIONS", "1")
        torch.cuda.set_device(device())
        how = {"backend": "nccl", "device_id": device()}
    if here.master is None:
        # one process meets nobody: a store in its own memory needs neither port nor file
        how |= {"store": dist.HashStore(), "rank": 0, "world_size": 1}
    elif "RANK" not in os.environ:
        host, port = here.master
        how |= {"init_method": f"tcp://{host}:{port}", "rank": here.rank, "world_size": here.size}
    dist.init_process_group(**how)
    return here


def first_then_others(call: Callable[[], Result]) -> Result:
    """`call` on rank 0, and when it is done there on the others; for what one creates and all see."""
    if dist.get_rank():
        dist.barrier()
        return call()
    try:
        return call()
    finally:
        dist.barrier()


def device() -> torch.device:
    """The device of this rank: its CUDA card, or the CPU."""
    if torch.cuda.is_available():
        # where the launcher shows each process its own card only, that is card 0
        return torch.device("cuda", place().local_rank % torch.cuda.device_count())
    return torch.device("cpu")
