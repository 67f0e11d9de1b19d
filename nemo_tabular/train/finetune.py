"""A forecaster and histories enter; a forecaster fitted further to them leaves, and what that gained on their
own last rows. Whether to use it is up to the caller: on many a history nothing is gained.

The last fifth of each history judges: it is foreseen piece by piece, every piece with statistics from the
rows before it, by the forecaster as it was and after every few steps of training on the rows before that
fifth. If some number of steps made it better, as many are made again on all rows.

Shapes: C columns, T rows, W windows.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..codecs.residual import ResidualCodec
from ..config import OptimConfig
from ..engine.launch import start
from ..engine.layout import ParallelLayout
from ..engine.ranks import device
from ..engine.step import TrainStep
from ..models.series import SavedForecaster, SeriesGPT
from .windows import Windows, history_windows, joined

LR, BATCH = 4e-4, 16
STEPS, EVERY, PATIENCE = 120, 10, 3
"""At most; between two looks at the rows that judge; looks without a gain that end it."""
AVERAGE = 0.95
"""Decay, a step, of the running mean of the weights, which is what leaves."""
SCORED, APART = 12, 4
"""Rows that a window is learnt from; rows between the origins of windows, and judged from each."""
SHARE, LEAST_JUDGED, MOST_JUDGED = 5, 24, 96  # multiples of APART
"""One row of so many judges, but no fewer than these of a series, and no more than those."""
MOST_WINDOWS = 4000
AT_ONCE = 256


@dataclass(frozen=True)
class Learnable:
    """One series to learn from."""

    values_CT: np.ndarray
    """NaN where missing."""
    codecs: Sequence[ResidualCodec]
    """How each column is read."""

    @property
    def rows(self) -> int:
        """Length of the history."""
        return self.values_CT.shape[1]

    @property
    def unjudged(self) -> int:
        """How many rows come before those that judge."""
        judged = min(max(self.rows // SHARE, LEAST_JUDGED), MOST_JUDGED)
        return self.rows - judged // APART * APART


@dataclass(frozen=True)
class FineTuning:
    """What came of it."""

    model: SavedForecaster
    """The one that was given, if no number of steps made it better."""
    origins: int = 0
    """From so many was it judged; 0: the histories are too short."""
    steps: int = 0
    gain: float = 0.0
    """Nats a value by which the judging rows became more probable."""
    error: float = math.inf
    """Standard error of the gain, over the origins."""

    @property
    def better(self) -> bool:
        """Whether the gain is beyond its standard error."""
        return self.steps > 0 and self.gain > self.error

    def __str__(self) -> str:
        if not self.origins:
            return "the history is too short to learn from"
        if not self.steps:
            return "nothing is gained on the history's last rows"
        gain = f"{self.gain:.3f} nats a value (standard error {self.error:.3f})"
        return f"{self.steps} steps gain {gain} on the history's last rows"


def fine_tune(model: SavedForecaster, series: Sequence[Learnable], seed: int = 0) -> FineTuning:
    """The same seed and series give the same bits. Series of fewer than `least_rows` are left out; of long
    ones not every row is the origin of a window."""
    pool = _Pool(model, [s for s in series if s.rows >= least_rows(model)])
    early, judge = pool.learnt(whole=False), pool.judging()
    if early is None or judge is None:
        return FineTuning(model)
    steps, gain, error = _best(_Training(model, early, seed), judge)
    if not steps:
        return FineTuning(model, judge.origins)
    every = pool.learnt(whole=True)
    assert every is not None
    training = _Training(model, every, seed)
    for _ in range(steps):
        training.step()
    info = {**model.info, "fine_tuned": {"steps": steps, "gain": round(gain, 4), "seed": seed}}
    return FineTuning(training.saved(info), judge.origins, steps, gain, error)


def least_rows(model: SavedForecaster) -> int:
    """Of a history that can be learnt from and judged."""
    return model.rows + LEAST_JUDGED


class _Pool:
    """The windows of some series."""

    def __init__(self, model: SavedForecaster, series: Sequence[Learnable]) -> None:
        self.model, self.series = model, series

    def _seen(
        self, series: Learnable, first: int, end: int, scored: int
    ) -> Iterator[tuple[Windows, np.ndarray]]:
        most = MOST_WINDOWS // (len(self.series) * len(series.codecs)) + 1
        apart = max(APART, math.ceil((end - first) / most))
        origins = np.arange(first, end, apart)
        yield from history_windows(
            series.values_CT, series.codecs, origins, end, self.model.rows, scored, self.model.bins
        )

    def learnt(self, whole: bool) -> Windows | None:
        """Of the rows before those that judge, or of the whole histories."""
        first = self.model.rows - SCORED
        parts = [
            windows
            for s in self.series
            for windows, _origins in self._seen(s, first, s.rows if whole else s.unjudged, SCORED)
        ]
        return joined(parts) if parts else None

    def judging(self) -> "_Judge | None":
        """Of the rows that judge, each seen once, from shortly before."""
        parts, clusters, number = [], [], 0
        for s in self.series:
            for windows, origins in self._seen(s, s.unjudged, s.rows, APART):
                found, cluster = np.unique(origins, return_inverse=True)
                parts.append(windows)
                clusters.append(number + cluster)
                number += len(found)
        return _Judge(joined(parts), np.concatenate(clusters)) if parts else None


class _Judge:
    """Rows on which forecasters are compared."""

    def __init__(self, windows: Windows, cluster_W: np.ndarray) -> None:
        counted = np.bincount(cluster_W, windows.scored.sum(1))
        self._windows, self._cluster_W, self._counted = windows, cluster_W, counted
        self.origins = int((counted > 0).sum())

    @torch.no_grad()
    def nats(self, network: SeriesGPT) -> np.ndarray:
        """Negative log-likelihood a value: its mean from each origin."""
        parts = []
        for first in range(0, len(self._cluster_W), AT_ONCE):
            index = np.arange(first, min(first + AT_ONCE, len(self._cluster_W)))
            parts.append(network.nats(self._windows.batch(index)).sum(0).double().cpu().numpy())
        total = np.bincount(self._cluster_W, np.concatenate(parts))
        return (total / np.maximum(self._counted, 1))[self._counted > 0]


class _Training:
    """The network on its way, and the running mean of its weights."""

    def __init__(self, model: SavedForecaster, windows: Windows, seed: int) -> None:
        groups = start(ParallelLayout(), seed)
        self.model, self._windows = model, windows
        self._module, self.average = (model.module(groups).to(device()) for _ in range(2))
        self._step = TrainStep(self._module, OptimConfig(lr=LR, weight_decay=0.01), groups)
        self._rng, self._done = np.random.default_rng([seed, 3]), 0

    def step(self) -> None:
        """One update."""
        index = self._rng.integers(0, len(self._windows.before), BATCH)
        self._done += 1
        self._step([self._windows.batch(index)], LR * min(1.0, self._done / EVERY))
        share = max(1 - AVERAGE, 1 / (self._done + 1))  # at first the mean of all so far
        with torch.no_grad():
            for mean, now in zip(self.average.parameters(), self._module.parameters(), strict=True):
                mean.lerp_(now, share)

    def saved(self, info: dict[str, object]) -> SavedForecaster:
        """The running mean."""
        return SavedForecaster.of(self.average, self.model.config, self.model.rows, info)


def _best(training: _Training, judge: _Judge) -> tuple[int, float, float]:
    """Steps after which the judging rows were most probable, the gain, and its standard error."""
    at_first = judge.nats(training.average)
    best, waited = (0, 0.0, math.inf), 0
    for number in range(1, STEPS + 1):
        training.step()
        if number % EVERY:
            continue
        gains = at_first - judge.nats(training.average)
        gain, waited = float(gains.mean()), waited + 1
        if gain > best[1]:
            best, waited = (number, gain, float(gains.std() / math.sqrt(len(gains)))), 0
        if waited == PATIENCE:
            break
    return best
