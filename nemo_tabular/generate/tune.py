"""Histories enter; the network that is to forecast them leaves: the one at hand, or one fitted further to
them where their own last rows, which it was not fitted to while they judged, say that this is better.

No row after a history's end has a say in it, so a backtest that fine-tunes at each origin stays blind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import GenerationError
from ..train.finetune import FineTuning, Learnable, fine_tune, least_rows
from .choose import choose_codecs
from .paths import PathSampler

Tune = Literal["auto", "never", "always"]
TUNES: tuple[Tune, ...] = ("auto", "never", "always")
MOST_SERIES, LONGEST = 256, 2048
"""Series, and last rows of each, that are learnt from at most: enough for a network this small."""


def tuned(
    sampler: PathSampler, histories: Sequence[tuple[np.ndarray, int | None]], how: Tune, seed: int
) -> tuple[PathSampler, FineTuning]:
    """`histories`: values (T, C) and rows of a season. Short ones cost nothing: they are left out.

    auto: fine-tuned where that is better beyond the standard error; always: where it is better at all.
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
    found = fine_tune(sampler.model, series, seed)
    wanted = found.better or (how == "always" and found.steps > 0)
    return (PathSampler(found.model) if wanted else sampler), found
