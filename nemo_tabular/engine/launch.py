"""From "some processes were started" to "each knows its groups": by torchrun, by srun, or by nothing at all
(one process).

Enters: the environment and a layout. Leaves: Megatron's process groups, to be passed on as an argument.
"""

import logging
import os
import warnings

import torch
import torch.distributed as dist

from . import cpu
from .layout import ParallelLayout

cpu.install()
# Megatron warns of missing Triton, apex and TransformerEngine; on a CPU that is the normal case.
logging.getLogger("megatron").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"megatron\..*")
warnings.filterwarnings("ignore", message=".*(Transformer Engine|Apex|apex|nvidia-modelopt).*")

from megatron.core import parallel_state  # noqa: E402
from megatron.core.process_groups_config import ProcessGroupCollection  # noqa: E402
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402


def device() -> torch.device:
    """The device of this rank: its CUDA card, or the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def world_size() -> int:
    """Ranks that were started together, from torchrun's or srun's environment; 1 without either."""
    return int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)


def _join() -> None:
    if dist.is_initialized():
        return
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if "RANK" in os.environ and "MASTER_ADDR" in os.environ:
        dist.init_process_group(backend)
        return
    # one process meets nobody: a store in its own memory needs neither port nor file
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def start(layout: ParallelLayout, seed: int) -> ProcessGroupCollection:
    """Join the other ranks and build the groups of `layout`. Calling it again with another layout rebuilds
    them.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(device())
    _join()
    if parallel_state.model_parallel_is_initialized():
        parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        layout.tensor_model_parallel_size,
        layout.pipeline_model_parallel_size,
        context_parallel_size=layout.context_parallel_size,
    )
    model_parallel_cuda_manual_seed(seed)
    return ProcessGroupCollection.use_mpu_process_groups()
