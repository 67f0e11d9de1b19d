"""One configuration on one cluster enters; its legality, memory and time leave as an `Estimate`."""

import math
from dataclasses import dataclass

from ..config import Config
from ..engine.layout import ParallelLayout
from ..errors import ConfigError
from ..train.schedule import num_steps, resolve
from .memory import (
    Bytes,
    Parameters,
    activation_bytes,
    model_parameters,
    rank_parameters,
    state_bytes,
    working_bytes,
)
from .speed import Time, idle_share, sequence_flops, training_time
from .workload import TOKENS_PER_PARAMETER, Workload

UNKNOWN = 1 << 40  # sequences, where their number is not known: enough for every default
TERAFLOPS = {"bf16-mixed": 989.0, "32": 67.0}  # of an H100 SXM, dense (NVIDIA's data sheet)


@dataclass(frozen=True)
class Cluster:
    """The machines that a plan is for."""

    gpus: int
    gpu_memory: float = 80.0
    """GiB of one."""
    usable: float = 0.9
    """Share of it that tensors can have; CUDA, NCCL and gaps between blocks take the rest."""
    teraflops: float | None = None
    """Peak of one GPU; None: an H100's in the precision of the run."""
    mfu: float = 0.4
    """Share of the peak that the model's own FLOPs reach, waiting and recomputation included."""
    gpus_per_node: int = 8

    def __post_init__(self) -> None:
        if self.gpus < 1 or self.gpus_per_node < 1 or self.gpu_memory <= 0:
            raise ConfigError("--gpus, --gpus-per-node and --gpu-memory must be positive")
        if not 0 < self.mfu <= 1:
            raise ConfigError(f"--mfu is {self.mfu}: a share of the peak, for example 0.4")

    @property
    def room(self) -> int:
        """Bytes for tensors on one GPU."""
        return int(self.gpu_memory * self.usable * 2**30)


@dataclass(frozen=True)
class Estimate:
    """What a run would be."""

    config: Config
    """With everything filled in that follows from the data."""
    work: Workload
    cluster: Cluster
    layout: ParallelLayout
    micro_batch_size: int
    micro_batches: int
    """A step, of one data-parallel rank."""
    parameters: int
    """Of the whole model."""
    fullest: int
    """The pipeline rank that needs most memory."""
    rank_parameters: Parameters
    """Of that rank."""
    memory: Bytes
    """Of that rank."""
    step_flops: int
    idle: float
    """Share of a step that pipeline ranks wait."""
    steps: int
    steps_from: str
    """Why so many."""
    time: Time

    @property
    def fits(self) -> bool:
        """Whether the fullest rank has room for it."""
        return self.memory.total <= self.cluster.room

    def require_fit(self) -> None:
        """Raises ConfigError where it does not fit, with what would help."""
        if not self.fits:
            stages = self.layout.pipeline_model_parallel_size
            raise ConfigError(
                f"{self.memory.total / 2**30:.1f} GiB on the GPUs of pipeline stage {self.fullest + 1} of "
                f"{stages}, where {self.cluster.room / 2**30:.1f} are to be had: lower data.micro_batch_size,"
                " raise model.tensor_model_parallel_size or model.pipeline_model_parallel_size, or set "
                "model.recompute_granularity=full; the plan lists layouts that fit"
            )

    @property
    def batch(self) -> int:
        """Sequences of a step."""
        assert self.config.data.global_batch_size is not None
        return self.config.data.global_batch_size


def one_model(config: Config) -> int:
    """GPUs that hold one copy of the model in the layout of `config`."""
    model = config.model
    return model.tensor_model_parallel_size * model.pipeline_model_parallel_size * model.context_parallel_size


def estimate(config: Config, work: Workload, cluster: Cluster) -> Estimate:
    """Raises ConfigError for a layout that cannot be: sizes that do not divide, batches that cannot be
    shared."""
    if config.model.kind != "gpt":
        raise ConfigError(f"model.kind {config.model.kind}: only runs of the GPT can be planned so far")
    config = resolve(config, work.sequences or UNKNOWN, work.histories, ids=work.vocab_size)
    model, precision, batch = config.model, config.trainer.precision, config.data.global_batch_size
    assert batch is not None
    layout = ParallelLayout.of(model, cluster.gpus)
    size = layout.micro_batch_size(batch, config.data.micro_batch_size)
    count = -(-batch // layout.data_parallel_size // size)
    sharing = layout.data_parallel_size * layout.context_parallel_size

    def of_rank(rank: int) -> Bytes:
        state = state_bytes(
            rank_parameters(model, work, rank), precision, config.optim.use_distributed_optimizer, sharing
        )
        last = rank == layout.pipeline_model_parallel_size - 1
        kept = activation_bytes(model, work, layout, precision, size, count, rank)
        return Bytes(*state, kept, working_bytes(model, work, precision, size, last))

    ranks = range(layout.pipeline_model_parallel_size)
    memory = {rank: of_rank(rank) for rank in ranks}
    fullest = max(ranks, key=lambda rank: memory[rank].total)
    flops = sequence_flops(model, work) * batch
    total = model_parameters(model, work)
    steps, steps_from = run_length(config, work, total)
    rate = cluster.gpus * (cluster.teraflops or TERAFLOPS[precision]) * 1e12 * cluster.mfu
    chunks = layout.virtual_pipeline_model_parallel_size or 1
    return Estimate(
        config=config,
        work=work,
        cluster=cluster,
        layout=layout,
        micro_batch_size=size,
        micro_batches=count,
        parameters=total,
        fullest=fullest,
        rank_parameters=rank_parameters(model, work, fullest),
        memory=memory[fullest],
        step_flops=flops,
        idle=idle_share(len(ranks), chunks, count),
        steps=steps,
        steps_from=steps_from,
        time=training_time(work, flops, batch, steps, rate),
    )


def run_length(config: Config, work: Workload, parameters: int) -> tuple[int, str]:
    """Steps of the run, and what they follow from."""
    batch, trainer = config.data.global_batch_size, config.trainer
    assert batch is not None
    if trainer.max_steps is not None:
        return trainer.max_steps, "trainer.max_steps"
    if work.sequences is not None:
        return num_steps(trainer, work.sequences, batch), f"trainer.max_epochs {trainer.max_epochs:g}"
    steps = math.ceil(TOKENS_PER_PARAMETER * parameters / (batch * work.tokens))
    return steps, f"{TOKENS_PER_PARAMETER} tokens a parameter, as the number of rows is not known (--rows)"
