"""A forecaster and histories enter; forecasters fitted further to them leave: one that has not seen their
last rows, to be judged there, and one that has.

The last fifth of each history stops the training: it is foreseen piece by piece, every piece with statistics
from the rows before it, by the forecaster as it was and after every few steps on the rows before that fifth.
If some number of steps made it more probable, as many can be made again on all rows.

Shapes: C columns, T rows, W windows.
"""

import math
from collections.abc import Sequence
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


class FineTuner:
    """Fits a forecaster further to series; the same seed and series give the same bits.

    Series of fewer than `least_rows` are left out; of long ones not every row is the origin of a window.
    """

    def __init__(self, model: SavedForecaster, series: Sequence[Learnable], seed: int = 0) -> None:
        self.model, self.seed = model, seed
        self._pool = _Pool(model, [s for s in series if s.rows >= least_rows(model)])

    def early(self) -> tuple[SavedForecaster, int] | None:
        """Fitted to the rows before those that judge, and in how many steps: after as many were the latter
        most probable. None where no number of steps made them more so, or there is too little to learn from.
        """
        windows, judge = self._pool.learnt(whole=False), self._pool.judging()
        if windows is None or judge is None:
            return None
        training = _Training(self.model, windows, self.seed)
        lowest, found, waited = judge.nats(training.average), None, 0
        for steps in range(EVERY, STEPS + 1, EVERY):
            training.steps(EVERY)
            nats, waited = judge.nats(training.average), waited + 1
            if nats < lowest:
                lowest, found, waited = nats, (training.saved(self.seed), steps), 0
            if waited == PATIENCE:
                break
        return found

    def whole(self, steps: int) -> SavedForecaster:
        """Fitted to all rows in so many steps."""
        windows = self._pool.learnt(whole=True)
        assert windows is not None, "there was enough to learn from before"
        training = _Training(self.model, windows, self.seed)
        training.steps(steps)
        return training.saved(self.seed)


def least_rows(model: SavedForecaster) -> int:
    """Of a history that can be learnt from and judged."""
    return model.rows + LEAST_JUDGED


class _Pool:
    """The windows of some series."""

    def __init__(self, model: SavedForecaster, series: Sequence[Learnable]) -> None:
        self.model, self.series = model, series

    def _seen(self, series: Learnable, first: int, end: int, scored: int) -> list[Windows]:
        most = MOST_WINDOWS // (len(self.series) * len(series.codecs)) + 1
        apart = max(APART, math.ceil((end - first) / most))
        return history_windows(
            series.values_CT,
            series.codecs,
            np.arange(first, end, apart),
            end,
            self.model.rows,
            scored,
            self.model.bins,
        )

    def learnt(self, whole: bool) -> Windows | None:
        """Of the rows before those that judge, or of the whole histories."""
        first = self.model.rows - SCORED
        parts = [
            windows
            for s in self.series
            for windows in self._seen(s, first, s.rows if whole else s.unjudged, SCORED)
        ]
        return joined(parts) if parts else None

    def judging(self) -> "_Judge | None":
        """Of the rows that judge, each seen once, from shortly before."""
        parts = [windows for s in self.series for windows in self._seen(s, s.unjudged, s.rows, APART)]
        return _Judge(joined(parts)) if parts else None


class _Judge:
    """Rows on which forecasters are compared."""

    def __init__(self, windows: Windows) -> None:
        self._windows = windows

    @torch.no_grad()
    def nats(self, network: SeriesGPT) -> float:
        """Negative log-likelihood a value."""
        total, count = 0.0, len(self._windows.before)
        for first in range(0, count, AT_ONCE):
            index = np.arange(first, min(first + AT_ONCE, count))
            total += float(network.nats(self._windows.batch(index)).double().sum())
        return total / max(float(self._windows.scored.sum()), 1.0)


class _Training:
    """The network on its way, and the running mean of its weights."""

    def __init__(self, model: SavedForecaster, windows: Windows, seed: int) -> None:
        groups = start(ParallelLayout(), seed)
        self._model, self._windows = model, windows
        self._module, self.average = (model.module(groups).to(device()) for _ in range(2))
        self._step = TrainStep(self._module, OptimConfig(lr=LR, weight_decay=0.01), groups)
        self._rng, self._done = np.random.default_rng([seed, 3]), 0

    def steps(self, count: int) -> None:
        """So many updates more."""
        for _ in range(count):
            index = self._rng.integers(0, len(self._windows.before), BATCH)
            self._done += 1
            self._step([self._windows.batch(index)], LR * min(1.0, self._done / EVERY))
            share = max(1 - AVERAGE, 1 / (self._done + 1))  # at first the mean of all so far
            with torch.no_grad():
                for mean, now in zip(self.average.parameters(), self._module.parameters(), strict=True):
                    mean.lerp_(now, share)

    def saved(self, seed: int) -> SavedForecaster:
        """The running mean."""
        info = {**self._model.info, "fine_tuned": {"steps": self._done, "seed": seed}}
        return SavedForecaster.of(self.average, self._model.config, self._model.rows, info)
