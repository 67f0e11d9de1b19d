"""From "some processes were started" to "each knows its groups".

Enters: a layout. Leaves: Megatron's process groups, to be passed on as an argument.
"""

import logging
import warnings

from . import cpu
from .layout import ParallelLayout
from .ranks import join

cpu.install()
# Megatron warns of missing Triton, apex and TransformerEngine; on a CPU that is the normal case.
logging.getLogger("megatron").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", module=r"megatron\..*")
warnings.filterwarnings("ignore", message=r".*torch\.distributed\.\w+. is deprecated", category=FutureWarning)
warnings.filterwarnings("ignore", message=".*(Transformer Engine|Apex|apex|nvidia-modelopt).*")

from megatron.core import parallel_state  # noqa: E402
from megatron.core.process_groups_config import ProcessGroupCollection  # noqa: E402
from megatron.core.tensor_parallel.random import model_parallel_cuda_manual_seed  # noqa: E402


def start(layout: ParallelLayout, seed: int) -> ProcessGroupCollection:
    """Join the other ranks and build the groups of `layout`. Calling it again with another layout rebuilds
    them.
    """
    join()
    if parallel_state.model_parallel_is_initialized():
        parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(
        layout.tensor_model_parallel_size,
        layout.pipeline_model_parallel_size,
        layout.virtual_pipeline_model_parallel_size,
        context_parallel_size=layout.context_parallel_size,
        create_gloo_process_groups=False,  # nothing of ours is exchanged beside the ranks' own backend
    )
    model_parallel_cuda_manual_seed(seed)
    return ProcessGroupCollection.use_mpu_process_groups()
