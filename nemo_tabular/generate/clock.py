"""The times of a series' rows enter; whether they are regular, and the times that come next, leave.

Times are not sampled but computed. A gap is an error that names it, unless it is to count as missing rows, or
the rows are to count as consecutive whatever their times (trading days, say).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..errors import GenerationError

Gaps = Literal["error", "missing", "ignore"]
GAPS: tuple[Gaps, ...] = ("error", "missing", "ignore")
LEAST_FOR_FREQUENCY = 3


@dataclass(frozen=True)
class Clock:
    """The step from row to row: a pandas offset for dates, a number for numbers."""

    step: Any

    def after(self, last: Any, count: int) -> pd.Index:
        """The `count` times that follow `last`."""
        if isinstance(self.step, pd.DateOffset):
            return pd.date_range(last, periods=count + 1, freq=self.step)[1:]
        return pd.Index(last + self.step * np.arange(1, count + 1))

    def before(self, last: Any, count: int) -> pd.Index:
        """The `count` times that end with `last`."""
        if isinstance(self.step, pd.DateOffset):
            return pd.date_range(end=last, periods=count, freq=self.step)
        return pd.Index(last + self.step * np.arange(-count + 1, 1))


def clock_of(times: pd.Series, where: str) -> Clock:
    """The step that most rows keep. GenerationError, naming the place, where times do not rise."""
    values = times.reset_index(drop=True)
    if values.isna().any():
        raise GenerationError(f"{where}: row {int(values.isna().argmax()) + 1:,} has no time")
    steps = values.diff()[1:]
    zero = steps.iloc[:0].sum() if len(steps) == 0 else steps.iloc[0] * 0
    if (steps <= zero).any():
        place = int((steps <= zero).argmax())
        raise GenerationError(
            f"{where}: {_shown(values[place + 1])} follows {_shown(values[place])}: two rows of one time. "
            "Name the columns that tell the series apart in group_by"
        )
    if len(values) < 2:
        raise GenerationError(f"{where}: {len(values)} rows say nothing of the step between them")
    if pd.api.types.is_numeric_dtype(values):
        return Clock(steps.mode().iloc[0])
    return Clock(_frequency(pd.DatetimeIndex(values), steps))


def _frequency(times: pd.DatetimeIndex, steps: pd.Series) -> pd.DateOffset:
    """What pandas infers for the whole, else for most stretches of it, else the commonest distance."""
    if len(times) >= LEAST_FOR_FREQUENCY:
        whole = pd.infer_freq(times)
        if whole is not None:
            return pd.tseries.frequencies.to_offset(whole)
        length = 12  # a year of months, two weeks of days: long enough to tell days from business days
        stretches = range(0, max(1, len(times) - length + 1), max(1, len(times) // 50))
        found = [pd.infer_freq(times[i : i + length]) for i in stretches if len(times[i : i + length]) >= 3]
        known = [name for name in found if name is not None]
        if known:
            return pd.tseries.frequencies.to_offset(max(set(known), key=known.count))
    return pd.tseries.frequencies.to_offset(steps.mode().iloc[0])


def on_grid(times: pd.Series, clock: Clock, gaps: Gaps, where: str) -> np.ndarray:
    """The row of a regular grid that each row stands on, from 0.

    Raises GenerationError naming the first gap, and times that stand on no row of the grid.
    """
    if gaps == "ignore":
        return np.arange(len(times))
    values = times.reset_index(drop=True)
    if isinstance(clock.step, pd.DateOffset):
        grid = pd.date_range(values.iloc[0], values.iloc[-1], freq=clock.step)
        place = grid.get_indexer(pd.DatetimeIndex(values))
    else:
        exact = ((values - values.iloc[0]) / clock.step).to_numpy(float)
        place = np.where(np.abs(exact - np.round(exact)) < 1e-6, np.round(exact), -1).astype(np.int64)
    off = np.flatnonzero(place < 0)
    if len(off):
        raise GenerationError(
            f"{where}: {_shown(values[off[0]])} does not stand {_step(clock)} after the rows before it, as "
            "the others do. Mend the times, or let rows count as consecutive with gaps='ignore' "
            "(--gaps ignore)"
        )
    wide = np.flatnonzero(np.diff(place) > 1)
    if len(wide) and gaps == "error":
        at = int(wide[0])
        lost = int(place[at + 1] - place[at] - 1)
        raise GenerationError(
            f"{where}: {lost:,} rows are missing between {_shown(values[at])} and {_shown(values[at + 1])}, "
            f"at {_step(clock)} a row. Fill them, let them count as missing with gaps='missing' "
            "(--gaps missing), or the rows as consecutive with gaps='ignore' (--gaps ignore)"
        )
    return place


def _shown(time: Any) -> str:
    return str(time).removesuffix(" 00:00:00")


def _step(clock: Clock) -> str:
    return f"one {clock.step.freqstr}" if isinstance(clock.step, pd.DateOffset) else f"{clock.step:g}"
