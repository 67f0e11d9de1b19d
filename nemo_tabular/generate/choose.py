"""A history enters, one residual codec a column leaves: the one under which the network foresees best the
last rows, which the codecs' statistics have not seen.

A codec is changed from the standard one only where that is better beyond chance, by two standard errors (one
for the logarithm, a matter of reading, and for the autoregression, of which the standard has the main part):
small histories keep the standard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..codecs.residual import STATISTICS, ResidualCodec, context_of, decimals_of, encode
from .paths import PathSampler

SHARE, MOST_JUDGED = 3, 96
"""The last third of the rows judges, at most so many."""
LEAST_JUDGED = 8
SURELY, LIKELY = 2.0, 1.0
"""Standard errors by which a change has to be better."""


def choose_codecs(
    sampler: PathSampler, history_TC: np.ndarray, season: int | None = None
) -> tuple[ResidualCodec, ...]:
    """One codec a column of (T, C). `season`: rows of a season to consider; None: there is none."""
    values_CT = history_TC[-STATISTICS - MOST_JUDGED :].T
    chosen = [ResidualCodec(decimals=decimals_of(values)) for values in values_CT]
    judged = min(values_CT.shape[1] // SHARE, MOST_JUDGED)
    if judged < LEAST_JUDGED or (np.isfinite(values_CT[:, :-judged]).sum(1) < LEAST_JUDGED).any():
        return tuple(chosen)
    best = _log_density(sampler, values_CT, chosen, judged)
    for margin, changes in _changes(values_CT, season, judged):
        offered = [change(codec) for change, codec in zip(changes, chosen, strict=True)]
        if offered == chosen:
            continue
        found = _log_density(sampler, values_CT, offered, judged)
        for c in range(len(chosen)):
            if offered[c] != chosen[c] and _better(found[c] - best[c], margin):
                chosen[c], best[c] = offered[c], found[c]
    return tuple(chosen)


Change = Callable[[ResidualCodec], ResidualCodec]


def _to(**settings: Any) -> Change:
    return lambda codec: replace(codec, **settings)


def _same(codec: ResidualCodec) -> ResidualCodec:
    return codec


def _changes(values_CT: np.ndarray, season: int | None, judged: int) -> list[tuple[float, list[Change]]]:
    """What is tried in turn, for every column: each may build on what was taken before."""
    columns = len(values_CT)
    positive = [not (values <= 0).any() for values in values_CT]
    out = [(LIKELY, [_to(log=True) if positive[c] else _same for c in range(columns)])]
    if season is not None and season > 1 and 3 * season < values_CT.shape[1] - judged:
        out.append((SURELY, [_to(season=season)] * columns))
    out.append((LIKELY, [_to(anchor="ar")] * columns))
    out += [(SURELY, [_to(anchor=anchor)] * columns) for anchor in ("ar1", "previous", "level")]
    return out + [(SURELY, [_to(volatility=share)] * columns) for share in (0.0, 0.9)]


def _better(gain: np.ndarray, margin: float) -> bool:
    known = gain[np.isfinite(gain)]
    if len(known) < LEAST_JUDGED:
        return False
    return bool(known.mean() > margin * known.std() / np.sqrt(len(known)) and known.mean() > 0)


def _log_density(
    sampler: PathSampler, values_CT: np.ndarray, codecs: Sequence[ResidualCodec], judged: int
) -> np.ndarray:
    """(C, judged): log density of the last values, each foreseen from those before it."""
    context = context_of(codecs, values_CT[:, :-judged][:, -STATISTICS:])
    residual, features, _cursor = encode(context, values_CT)
    read = judged + sampler.model.rows  # no earlier row has a say in the judged ones
    density = sampler.log_density(residual[:, -read:], features[:, -read:])[:, -judged:]
    # feature 3 is the log of the running scale over the context's
    scale = np.log(context.scale)[:, None] + features[:, -judged:, 3]
    slope = np.where(context.log[:, None], np.log(np.where(context.log[:, None], values_CT, 1.0)), 0.0)
    return density - scale - slope[:, -judged:]
