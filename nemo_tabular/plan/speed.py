"""A model and the shape of its sequences enter; FLOPs leave, and with a rate the time they take.

Counted is what the model must compute, as MFU is defined (Chowdhery et al. 2022): a multiplication and an
addition are two, backward is twice the forward, attention looks at earlier positions only, and nothing counts
that is computed again.
"""

from dataclasses import dataclass

from ..config import ModelConfig
from .workload import Workload

FORWARD_AND_BACKWARD = 3
SECONDS_A_DAY = 86_400


@dataclass(frozen=True)
class Time:
    """What a run takes at a rate."""

    step_seconds: float
    tokens_per_second: float
    sequences_per_second: float
    days: float


def sequence_flops(model: ModelConfig, work: Workload) -> int:
    """FLOPs of training on one sequence: blocks, attention, and the output layer on each slot's own ids."""
    h, f, layers, length = model.hidden_size, model.feed_forward_size, model.num_layers, work.positions
    matrices = 2 * (4 * h * h + 2 * h * f) * length * layers
    attention = 2 * 2 * h * (length * (length + 1) // 2) * layers
    cells = sum(size * count for size, count in zip(work.sizes, work.predictions, strict=True))
    return FORWARD_AND_BACKWARD * (matrices + attention + 2 * h * cells)


def idle_share(stages: int, chunks: int, micro_batches: int) -> float:
    """Share of a step in which a pipeline's ranks wait (Narayanan et al. 2021)."""
    return (stages - 1) / (stages - 1 + chunks * micro_batches)


def training_time(work: Workload, step_flops: float, batch: int, steps: int, flops_per_second: float) -> Time:
    """At so many FLOPs a second, of all GPUs together."""
    seconds = step_flops / flops_per_second
    return Time(seconds, batch * work.tokens / seconds, batch / seconds, steps * seconds / SECONDS_A_DAY)
