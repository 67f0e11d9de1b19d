"""A time zone and a span of instants enter; the offsets from UTC that hold in it, and from when on, leave."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DAY = 86_400


def transitions(zone: str, first: int, last: int) -> tuple[tuple[int, int], ...]:
    """(from this UTC second on, offset in seconds) over [first, last]; the first holds before too.

    Zones change at most once in a day and a half, so daily samples miss nothing. ArrowInvalid: the
    zone is unknown.
    """
    days = np.append(np.arange(first, last, DAY, dtype=np.int64), last)
    offsets = _offsets(days, zone)
    change = np.flatnonzero(np.diff(offsets))
    low, high = days[change], days[change + 1]
    before = offsets[change]
    while len(low) and (high - low).max() > 1:
        middle = (low + high) // 2
        same = _offsets(middle, zone) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    return ((int(days[0]), int(offsets[0])), *zip(high.tolist(), offsets[change + 1].tolist(), strict=True))


def _offsets(seconds: np.ndarray, zone: str) -> np.ndarray:
    """Seconds that local clocks are ahead of UTC at these instants."""
    instants = pa.array(seconds, pa.timestamp("s", tz=zone))
    return pc.local_timestamp(instants).cast(pa.int64()).to_numpy() - seconds
