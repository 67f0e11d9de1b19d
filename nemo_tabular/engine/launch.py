"""From "some processes were started" to "each knows its groups".

Enters: a layout. Leaves: Megatron's process groups, to be passed on as an argument.
"""

import logging
import warnings
from typing import Any

import torch.distributed as dist

from . import cpu, kernels
from .layout import ParallelLayout
from .ranks import join

cpu.install()
kernels.choose()
# Megatron warns of missing Triton, apex and TransformerEngine; on a CPU that is the normal case.
logging.getLogger("megatron").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"megatron\..*")
warnings.filterwarnings("ignore", message=r".*torch\.distributed\.\w+. is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message=".*(Transformer Engine|Apex|apex|nvidia-modelopt).*")

from megatron.core import parallel_state  # noqa: E402
from megatron.core.process_groups_config import ProcessGroupCollection  # noqa: E402
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402

_built: list[tuple[ParallelLayout, Any]] = []
"""The layout of Megatron's global groups and the ranks they are among, where they are built."""


def start(layout: ParallelLayout, seed: int) -> ProcessGroupCollection:
    """Join the other ranks and build the groups of `layout`. Calling it again with another layout rebuilds
    them; with the same one they stay, because torch never gives back a group's sockets (70 a time).
    """
    join()
    wanted = (layout, dist.group.WORLD)
    if parallel_state.model_parallel_is_initialized() and _built != [wanted]:
        parallel_state.destroy_model_parallel()
    if not parallel_state.model_parallel_is_initialized():
        parallel_state.initialize_model_parallel(
            layout.tensor_model_parallel_size,
            layout.pipeline_model_parallel_size,
            layout.virtual_pipeline_model_parallel_size,
            context_parallel_size=layout.context_parallel_size,
            create_gloo_process_groups=False,  # nothing of ours is exchanged beside the ranks' own backend
        )
        _built[:] = [wanted]
    model_parallel_cuda_manual_seed(seed)
    return ProcessGroupCollection.use_mpu_process_groups()
