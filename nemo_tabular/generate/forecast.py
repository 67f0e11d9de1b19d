"""The series of a table enter; sampled futures of all their numeric columns leave, as one long table.

Codecs are chosen series by series from the history at hand, so a series never seen before, a short one and a
long one are all the same to it. Memory does not grow with the number of series.

Shapes: P paths, H steps, C columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..codecs.residual import ResidualCodec
from ..errors import GenerationError, nearest
from ..models.series import SavedForecaster
from .choose import choose_codecs
from .clock import Clock
from .history import History, Series
from .paths import PathSampler, Reading
from .tune import FineTuning, Tune, tuned

SEQUENCES = 8192
"""Columns times paths that are decoded side by side."""
SEASONS = {
    "h": 24,
    "D": 7,
    "B": 5,
    "C": 5,
    "W": 52,
    "ME": 12,
    "MS": 12,
    "BME": 12,
    "QE": 4,
    "QS": 4,
    "BQE": 4,
}
"""Rows of a season by pandas' name of the step."""
LEAST_ROWS = 4


@dataclass(frozen=True)
class ForecastRequest:
    """What is asked for."""

    horizon: int = 12
    samples: int = 500
    """Paths of each series."""
    seed: int = 0
    given: pd.DataFrame | None = None
    """Known futures: rows of the keys, the times and some columns; missing where not known."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.samples < 1:
            raise GenerationError(
                f"horizon {self.horizon}, samples {self.samples}: expected at least 1 of each"
            )


class Forecaster:
    """Forecasts any table with one network, by default the one that comes with the package."""

    def __init__(self, model: SavedForecaster | None = None) -> None:
        self.sampler = PathSampler(model or SavedForecaster.shipped())

    def fine_tuned(
        self, history: History, how: Tune, seed: int = 0, horizon: int = 8
    ) -> tuple[Forecaster, FineTuning]:
        """One whose network has learnt from all series of the history, or this one, as `tuned` judges by
        forecasts of so many steps; and what was found."""
        found = tuned(
            self.sampler, [(s.values_TC, season_of(s.clock)) for s in history.series], how, seed, horizon
        )
        return (Forecaster(found.sampler.model) if found.used else self), found

    def tables(self, history: History, request: ForecastRequest) -> Iterator[pd.DataFrame]:
        """One long table a series: its keys (`series`: 1 without any), path, step, time, and the columns.

        Path i of a series depends on (seed, i), its keys and its history only. A column that is given stands
        there as it was given; the others are conditioned on it up to each step, not beyond: what is given for
        later steps does not reach back.
        """
        if request.given is not None:
            _check_given(history, request.given)
        for series in history.series:
            paths = self.paths(series, request, _given(history, series, request))
            yield _long(history, series, paths)

    def paths(self, series: Series, request: ForecastRequest, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """(P, H, C)."""
        if len(series.values_TC) < LEAST_ROWS:
            raise GenerationError(
                f"series {_named(series)}: {len(series.values_TC)} rows are too few to go on from; "
                f"{LEAST_ROWS} are the least"
            )
        codecs = choose_codecs(self.sampler, series.values_TC, season_of(series.clock))
        for c, path in given.items():
            if codecs[c].log and (path <= 0).any():
                raise GenerationError(
                    f"series {_named(series)}: a given path holds a value of 0 or below for a column that "
                    "has none in its history; correct it"
                )
        reading = self.sampler.read(series.values_TC, codecs)
        seed = seed_of(request.seed, series.key)
        return sampled(self.sampler, reading, request.horizon, request.samples, seed, given=given)


class SeriesModel:
    """The forecaster as a backtest asks for it: codecs are what it learns from a history, and, where that is
    asked for, weights."""

    joint = True

    def __init__(
        self,
        forecaster: Forecaster,
        *,
        season: int | None = None,
        samples: int = 500,
        seed: int = 0,
        fine_tune: Tune = "never",
        tune_every: int = 1,
        horizon: int = 8,
    ) -> None:
        """`tune_every`: calls of `fit` from one fine-tuning to the next; `horizon`: of the forecasts by which
        it is judged."""
        self.shipped, self.season, self.samples, self.seed = forecaster.sampler, season, samples, seed
        self.fine_tune: Tune = fine_tune
        self.tune_every, self.horizon, self._fits = tune_every, horizon, 0
        self.sampler = self.shipped
        self.codecs: tuple[ResidualCodec, ...] = ()

    def fit(self, history: np.ndarray) -> None:
        """Fine-tune, if that is asked for, and choose the codecs of the columns of (T, C)."""
        if self._fits % self.tune_every == 0:
            found = tuned(self.shipped, [(history, self.season)], self.fine_tune, self.seed, self.horizon)
            self.sampler = found.sampler
        self._fits += 1
        self.codecs = choose_codecs(self.sampler, history, self.season)

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """Paths (P, H, C)."""
        reading = self.sampler.read(history, self.codecs)
        return sampled(self.sampler, reading, horizon, self.samples, self.seed, given=given)


def sampled(
    sampler: PathSampler,
    reading: Reading,
    horizon: int,
    samples: int,
    seed: int,
    *,
    given: Mapping[int, np.ndarray],
) -> np.ndarray:
    """Paths (P, H, C), a limited number at a time."""
    together = max(1, SEQUENCES // len(reading.codecs))
    pieces = []
    for first in range(0, samples, together):
        count = min(together, samples - first)
        pieces.append(sampler.paths(reading, horizon, count, seed, first_path=first, given=given))
    return np.concatenate(pieces)


def seed_of(seed: int, key: Sequence[Any]) -> int:
    """A seed of its own for every series, which depends on nothing but its key."""
    if not key:
        return seed
    text = "\x1f".join([str(seed), *map(str, key)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def season_of(clock: Clock | None) -> int | None:
    """Rows of a season, where the step between rows suggests one."""
    if clock is None or not isinstance(clock.step, pd.DateOffset) or clock.step.n != 1:
        return None
    return SEASONS.get(clock.step.freqstr.split("-")[0])


def _named(series: Series) -> str:
    return ", ".join(map(str, series.key)) or "1"


def _check_given(history: History, given: pd.DataFrame) -> None:
    keys = {*history.schema.group_by, *([] if history.time is None else [history.time])}
    for name in given.columns:
        if name not in keys and name not in history.columns:
            raise GenerationError(
                f"given column {name!r} is not one of those that are forecast"
                f"{nearest(str(name), list(history.columns))}: {', '.join(history.columns)}"
            )
    for name in history.schema.group_by:
        if name not in given.columns:
            raise GenerationError(
                f"the given futures have no column {name!r} to tell which series they are of"
            )
    if not any(name in history.columns for name in given.columns):
        raise GenerationError("the given futures name no column that is forecast")


def _given(history: History, series: Series, request: ForecastRequest) -> dict[int, np.ndarray]:
    """Paths (H,) by column; NaN where not known."""
    if request.given is None:
        return {}
    rows = request.given
    for name, value in zip(history.schema.group_by, series.key, strict=True):
        rows = rows[rows[name].astype(str) == str(value)]
    named = [c for c in history.columns if c in rows.columns]
    steps = _steps(history, series, rows, request.horizon)
    out = {}
    for name in named:
        path = np.full(request.horizon, np.nan)
        inside = (steps >= 0) & (steps < request.horizon)
        path[steps[inside]] = rows[name].astype(float).to_numpy()[inside]
        if np.isfinite(path).any():
            out[history.columns.index(name)] = path
    return out


def _steps(history: History, series: Series, rows: pd.DataFrame, horizon: int) -> np.ndarray:
    """Which step, from 0, each given row is of: by its time if it has one, else by its place."""
    if history.time is None or history.time not in rows.columns or series.clock is None:
        return np.arange(len(rows))
    future = series.clock.after(series.last, max(horizon, len(rows)))
    times = rows[history.time]
    wanted = pd.to_datetime(times) if isinstance(future, pd.DatetimeIndex) else times.astype(float)
    place = future.get_indexer(pd.Index(wanted))
    for time, step in zip(times, place, strict=True):
        if step < 0:
            raise GenerationError(
                f"series {_named(series)}: a path is given for {time}, which is none of the next "
                f"{len(future)} times: {future[0]} to {future[-1]}"
            )
    return place


def _long(history: History, series: Series, paths: np.ndarray) -> pd.DataFrame:
    samples, horizon, _columns = paths.shape
    keys = history.schema.group_by
    out: dict[str, object] = dict(zip(keys, series.key, strict=True)) if keys else {"series": 1}
    out["path"] = np.repeat(np.arange(samples), horizon)
    out["step"] = np.tile(np.arange(1, horizon + 1), samples)
    if history.time is not None and series.clock is not None:
        out[history.time] = np.tile(series.clock.after(series.last, horizon).to_numpy(), samples)
    for c, name in enumerate(history.columns):
        out[name] = paths[:, :, c].ravel()
    return pd.DataFrame(out)
