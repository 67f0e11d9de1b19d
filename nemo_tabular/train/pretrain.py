"""Simulated series enter, the forecaster that ships with the package leaves: its weights, recipe and seed.

Each simulated series is read as a real one will be: statistics from its first rows, residuals by a codec
drawn at random, a window of the last rows before the forecast and those after. Only rows after the
statistics' count: the network learns to forecast from statistics that have not seen the future.
"""

import logging
import time
from collections.abc import Iterator

import numpy as np
import torch

from ..codecs.residual import Anchor, Bins, ResidualCodec
from ..config import ModelConfig, OptimConfig
from ..engine.launch import start
from ..engine.layout import ParallelLayout
from ..engine.ranks import device
from ..engine.step import TrainStep
from ..errors import CodecError
from ..models.series import SavedForecaster, SeriesGPT
from .schedule import learning_rate
from .simulate import PERIODS, simulate
from .windows import CONTEXTS, Windows, joined, windows

log = logging.getLogger("nemo_tabular")

MODEL = ModelConfig(
    num_layers=3, hidden_size=64, num_attention_heads=4, ffn_hidden_size=192, activation="gelu"
)
READ, SCORED = 28, 36
"""Rows of a window before the forecast begins, and after."""
LOG_EVERY = 100
AT_ONCE = 4096


def pretrain(
    *, documents: int = 12_000, steps: int = 1500, batch: int = 64, lr: float = 2e-3, seed: int = 0
) -> SavedForecaster:
    """Simulate, train, return. 1,500 steps take a few minutes of one CPU thread."""
    groups = start(ParallelLayout(), seed)
    bins = Bins()
    began = time.process_time()
    pool = simulated_windows(documents, bins, seed)
    log.info("%d simulated series in %.0f CPU seconds", len(pool.before), time.process_time() - began)
    module = SeriesGPT(MODEL, bins, groups, seed=seed).to(device())
    optim = OptimConfig(lr=lr, weight_decay=0.01)
    step = TrainStep(module, optim, groups)
    rng, losses = np.random.default_rng(seed), []
    for number, index in zip(range(steps), _shuffled(rng, len(pool.before), batch), strict=False):
        loss, _norm = step([pool.batch(index)], learning_rate(optim, number, steps))
        losses.append(loss)
        if (number + 1) % LOG_EVERY == 0:
            seconds = time.process_time() - began
            log.info("step %d: %.4f nats, %.0f CPU s", number + 1, np.mean(losses[-LOG_EVERY:]), seconds)
    info = {
        "made_by": "nemo-tabular pretrain-forecaster",
        "recipe": {"documents": documents, "steps": steps, "batch": batch, "lr": lr, "seed": seed},
        "nats": round(float(np.mean(losses[-LOG_EVERY:])), 4),
        "cpu_seconds": round(time.process_time() - began),
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",  # on which bits depend
    }
    return SavedForecaster.of(module, MODEL, READ + SCORED, info)


def _shuffled(rng: np.random.Generator, count: int, batch: int) -> Iterator[np.ndarray]:
    """Batches of numbers 0..count-1, each number once in an epoch, without end."""
    while True:
        order = rng.permutation(count)
        yield from (order[i : i + batch] for i in range(0, count - batch + 1, batch))


def simulated_windows(documents: int, bins: Bins, seed: int) -> Windows:
    """Every column of every simulated document as a series of its own; a quarter of them for each of
    `CONTEXTS`."""
    rng = np.random.default_rng([seed, 1])
    values = simulate(documents, max(CONTEXTS) + SCORED, seed)
    series = values.transpose(0, 2, 1).reshape(-1, values.shape[1])
    parts = []
    for number, group in enumerate(np.array_split(rng.permutation(len(series)), len(CONTEXTS))):
        rows = CONTEXTS[number]
        for first in range(0, len(group), AT_ONCE):
            parts.append(_read(rng, series[group[first : first + AT_ONCE], : rows + SCORED], rows, bins))
    return joined(parts)


def _read(rng: np.random.Generator, values_NT: np.ndarray, rows: int, bins: Bins) -> Windows:
    """Series of one length, each through a codec of its own; in one of twenty a tenth of it missing."""
    values_NT = values_NT.copy()
    holes = (rng.random((len(values_NT), 1)) < 0.05) & (rng.random(values_NT.shape) < 0.1)
    values_NT[holes] = np.nan
    codecs = [_any_codec(rng, rows) for _ in values_NT]
    found = windows(values_NT, codecs, rows, READ, bins)
    usable = np.flatnonzero(found.scored.any(1))
    if not len(usable):
        raise CodecError("no simulated series is within bounds")
    return found.take(usable)


def _any_codec(rng: np.random.Generator, rows: int) -> ResidualCodec:
    anchors: tuple[Anchor, ...] = ("nearest", "ar", "ar1", "previous", "level")
    season = int(rng.choice(PERIODS)) if rng.random() < 0.15 else 0
    return ResidualCodec(
        anchor=anchors[rng.choice(5, p=[0.4, 0.2, 0.2, 0.1, 0.1])],
        season=season if 2 * season < rows else 0,
        volatility=float(rng.choice([0.0, 0.5, 0.9], p=[0.2, 0.6, 0.2])),
    )
