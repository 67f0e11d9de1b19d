"""Histories enter; the network that is to forecast them leaves: the one at hand, or one fitted further to
them, where forecasts of their own last rows, made by a network that was not fitted to those, are better.

No row after a history's end has a say in it, so a backtest that fine-tunes at each origin stays blind.

Shapes: T rows, C columns, O origins, H steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..errors import GenerationError
from ..train.finetune import FineTuner, Learnable, least_rows
from .choose import choose_codecs
from .crps import crps
from .paths import PathSampler

Tune = Literal["auto", "never", "always"]
TUNES: tuple[Tune, ...] = ("auto", "never", "always")
MOST_SERIES, LONGEST = 256, 2048
"""Series, and last rows of each, that are learnt from at most: enough for a network this small."""
JUDGES, ORIGINS, PATHS = 16, 12, 100
"""Series that judge at most, forecasts of each, paths of each forecast."""


@dataclass(frozen=True)
class FineTuning:
    """What came of it."""

    sampler: PathSampler
    """The one to forecast with."""
    steps: int = 0
    """Of training; 0: there was too little to learn from, or none made the last rows more probable."""
    gain: float = 0.0
    """Share by which the CRPS of the last rows fell."""
    error: float = math.inf
    """Standard error of the gain, over the origins."""
    used: bool = False

    def __str__(self) -> str:
        if not self.steps:
            return "not fine-tuned: nothing is gained on the history's last rows, or it is too short to tell"
        gain = f"CRPS of its own last rows lower by {self.gain:.1%} (standard error {self.error:.1%})"
        return f"{'fine-tuned' if self.used else 'not fine-tuned'}: in {self.steps} steps, {gain}"


def tuned(
    sampler: PathSampler,
    histories: Sequence[tuple[np.ndarray, int | None]],
    how: Tune,
    seed: int,
    horizon: int = 8,
) -> FineTuning:
    """`histories`: values (T, C) and rows of a season. Short ones cost nothing: they are left out.

    auto: fine-tuned where forecasts of `horizon` rows get better by more than the standard error of that;
    always: wherever training makes the last rows more probable.
    """
    if how not in TUNES:
        raise GenerationError(f"fine_tune {how!r}: expected one of {', '.join(TUNES)}")
    usable = [h for h in histories if len(h[0]) >= least_rows(sampler.model)] if how != "never" else []
    if len(usable) > MOST_SERIES:
        chosen = np.random.default_rng([seed, 4]).permutation(len(usable))[:MOST_SERIES]
        usable = [usable[i] for i in np.sort(chosen)]
    series = [
        Learnable(values[-LONGEST:].T, choose_codecs(sampler, values, season)) for values, season in usable
    ]
    tuner = FineTuner(sampler.model, series, seed)
    early = tuner.early()
    if early is None:
        return FineTuning(sampler)
    before, after = (_scores(s, series, horizon, seed) for s in (sampler, PathSampler(early[0])))
    gains = (before - after) / before.mean()
    gain, error = float(gains.mean()), float(gains.std() / math.sqrt(len(gains)))
    if how == "auto" and gain <= error:
        return FineTuning(sampler, early[1], gain, error)
    return FineTuning(PathSampler(tuner.whole(early[1])), early[1], gain, error, used=True)


def _scores(sampler: PathSampler, series: Sequence[Learnable], horizon: int, seed: int) -> np.ndarray:
    """(O,): mean CRPS of forecasts from origins in the last rows, columns in units of their usual change."""
    scores = []
    for s in series[:: math.ceil(len(series) / JUDGES)]:
        values_TC = s.values_CT.T
        change = np.nanmean(np.abs(np.diff(values_TC[: s.unjudged], axis=0)), 0)
        scale_C = np.where(change > 0, change, 1.0)
        last = max(s.unjudged, s.rows - horizon)
        for origin in np.unique(np.linspace(s.unjudged, last, ORIGINS).astype(int)):
            truth_HC = values_TC[origin : origin + horizon]
            reading = sampler.read(values_TC[:origin], s.codecs)
            paths = sampler.paths(reading, len(truth_HC), PATHS, seed)
            scores.append(np.nanmean(crps(paths, truth_HC) / scale_C))
    return np.array(scores)
