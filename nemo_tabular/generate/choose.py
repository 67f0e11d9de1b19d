"""A history enters, one residual codec a column leaves: the one under which the network foresees best the
last rows, which the codecs' statistics have not seen.

A codec is changed from the standard one only where that is better beyond chance, by two standard errors (one
for the logarithm, a matter of reading, and for the autoregression, of which the standard has the main part):
small histories keep the standard. Whether there is a season is judged by forecasts of a whole one, where the
history is long enough: from one row to the next, the last value tells more than that of a season ago.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..codecs.residual import STATISTICS, Cursor, ResidualCodec, context_of, decimals_of, encode
from .paths import PathSampler

SHARE, MOST_JUDGED = 3, 96
"""The last third of the rows judges, at most so many."""
LEAST_JUDGED = 8
SEASONS, LEAST_SEASONS = 12, 4
"""Of the last third, at most and at least so many seasons judge whether there is one."""
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
    seasons = min(len(history_TC) // SHARE // season, SEASONS) if season and season > 1 else 0
    if season and seasons >= LEAST_SEASONS:
        chosen = _in_seasons(history_TC[-STATISTICS - seasons * season :].T, chosen, seasons, season)
        season = None
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


def _in_seasons(
    values_CT: np.ndarray, codecs: list[ResidualCodec], seasons: int, season: int
) -> list[ResidualCodec]:
    """With a season in the columns whose last seasons are foreseen better so. Those that begin late, with
    hardly a value before the seasons that judge, stay as they are."""
    before = np.isfinite(values_CT[:, : -seasons * season]).sum(1)
    known = np.flatnonzero(before >= 3 * season)
    if not len(known):
        return codecs
    old = [codecs[c] for c in known]
    new = [replace(codec, season=season) for codec in old]
    gain = _far(values_CT[known], old, seasons, season) - _far(values_CT[known], new, seasons, season)
    out = list(codecs)
    for c, codec, column in zip(known, new, gain, strict=True):
        if _better(column, SURELY, LEAST_SEASONS):
            out[c] = codec
    return out


def _far(values_CT: np.ndarray, codecs: Sequence[ResidualCodec], seasons: int, season: int) -> np.ndarray:
    """(C, seasons): mean absolute error of each of the last seasons, foreseen from its beginning as if every
    row fell on its anchor; NaN without a value."""
    first = values_CT.shape[1] - seasons * season
    context = context_of(codecs, values_CT[:, :first])
    cursor, read_CT = Cursor(context), context.forward(values_CT)
    error = np.empty((len(codecs), seasons))
    for t in range(values_CT.shape[1]):
        if t >= first and (t - first) % season == 0:
            ahead, path = cursor.take(np.arange(len(codecs))), np.empty((len(codecs), season))
            for h in range(season):
                path[:, h] = ahead.read(np.zeros(len(codecs)))
                ahead.advance(path[:, h])
            off = np.abs(context.backward(path) - values_CT[:, t : t + season])
            known = np.isfinite(off)
            with np.errstate(invalid="ignore"):
                error[:, (t - first) // season] = np.where(known, off, 0).sum(1) / known.sum(1)
        cursor.advance(read_CT[:, t])
    return error


Change = Callable[[ResidualCodec], ResidualCodec]


def _to(**settings: Any) -> Change:
    return lambda codec: replace(codec, **settings)


def _same(codec: ResidualCodec) -> ResidualCodec:
    return codec


def _changes(values_CT: np.ndarray, season: int | None, judged: int) -> list[tuple[float, list[Change]]]:
    """What is tried in turn, for every column: each may build on what was taken before. `season`: where the
    history is too short to judge it by whole ones."""
    columns = len(values_CT)
    positive = [not (values <= 0).any() for values in values_CT]
    out = [(LIKELY, [_to(log=True) if positive[c] else _same for c in range(columns)])]
    if season is not None and season > 1 and 3 * season < values_CT.shape[1] - judged:
        out.append((SURELY, [_to(season=season)] * columns))
    out.append((LIKELY, [_to(anchor="ar")] * columns))
    out += [(SURELY, [_to(anchor=anchor)] * columns) for anchor in ("ar1", "previous", "level")]
    return out + [(SURELY, [_to(volatility=share)] * columns) for share in (0.0, 0.9)]


def _better(gain: np.ndarray, margin: float, least: int = LEAST_JUDGED) -> bool:
    known = gain[np.isfinite(gain)]
    if len(known) < least:
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
