"""How many steps, at which learning rate, and for how long: pure functions of the settings."""

import math
import re
from datetime import timedelta

from ..config import OptimConfig, TrainerConfig
from ..errors import ConfigError


def num_steps(trainer: TrainerConfig, documents: int, global_batch_size: int) -> int:
    """Steps of the whole schedule: max_steps, or what max_epochs and min_steps come to."""
    if trainer.max_steps is not None:
        return trainer.max_steps
    return max(trainer.min_steps, math.ceil(trainer.max_epochs * documents / global_batch_size))


def learning_rate(optim: OptimConfig, step: int, steps: int) -> float:
    """Rate of step 0..steps-1: linear warm-up to lr, then down to min_lr as lr_decay_style says. Never 0."""
    done = (step + 0.5) / steps
    if done < optim.lr_warmup_fraction:
        return optim.lr * done / optim.lr_warmup_fraction
    if optim.lr_decay_style == "constant":
        return optim.lr
    left = (1 - done) / (1 - optim.lr_warmup_fraction)
    share = left if optim.lr_decay_style == "linear" else 0.5 * (1 - math.cos(math.pi * left))
    return optim.min_lr + (optim.lr - optim.min_lr) * share


def parse_time(text: str | None) -> float:
    """Seconds of "DD:HH:MM:SS" (Lightning's form); infinity for None. Raises ConfigError otherwise."""
    if text is None:
        return math.inf
    match = re.fullmatch(r"(\d+):(\d+):(\d+):(\d+)", text)
    if match is None:
        raise ConfigError(f"trainer.max_time {text!r}: write it as DD:HH:MM:SS, for example 00:02:30:00")
    days, hours, minutes, seconds = map(int, match.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
