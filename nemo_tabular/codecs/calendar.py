"""Dates, times and timestamps enter; one code a calendar part (year, month, ... second) leaves.

Wall clock of the column's zone; where its offset from UTC changes, the offset is a part too, so the hour
that a clock shows twice comes back as itself. Parts that never change are dropped. Below the second: a part
if it has few values, else residual slots, uniform within the second. The weekday follows from the date.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import (
    array_of,
    arrow_type,
    numbers,
    python_value,
    storage_dtype,
    storage_number,
)
from nemo_tabular.codecs.base import Codec, Slot, books_of, check_options
from nemo_tabular.codecs.zones import DAY, transitions
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

NATURAL = {
    "month": range(1, 13),
    "day": range(1, 32),
    "hour": range(24),
    "minute": range(60),
    "second": range(60),
}
"""Parts with a fixed range; the year's range is the fitted one."""

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
POLICIES = ("error", "clip", "missing")

FEW_SUBSECONDS = 60
"""So many fractions of a second are a part like the others; more are a residual."""

RESIDUAL_BASE = 1000
LOOKUP_LIMIT = 1 << 16
"""Parts that span less are looked up, the others found by binary search."""

TABLE_DAYS = 200_000
"""Spans up to so many days (547 years) are looked up, longer ones computed."""


@dataclass(frozen=True)
class Part:
    """One calendar part and the values it takes, rising. One value: constant, no slot."""

    name: str
    values: tuple[int, ...]

    @cached_property
    def _sorted(self) -> np.ndarray:
        return np.array(self.values, np.int64)

    @cached_property
    def _lookup(self) -> np.ndarray:
        """int32 code of each whole number from the least value on; -1 where the part does not take it."""
        table = np.full(self.values[-1] - self.values[0] + 1, -1, np.int32)
        table[self._sorted - self.values[0]] = np.arange(len(self.values))
        return table

    def codes(self, found: np.ndarray) -> np.ndarray:
        """int32 codes, -1 for values that the part does not take."""
        low, high = self.values[0], self.values[-1]
        if high - low >= LOOKUP_LIMIT:  # nanoseconds
            index = np.searchsorted(self._sorted, found).astype(np.int32)
            wrong = self._sorted.take(index, mode="clip") != found
        else:
            index = self._lookup.take(found - low, mode="clip")
            wrong = (found < low) | (found > high)
        index[wrong] = -1
        return index

    def nearest(self, found: np.ndarray) -> np.ndarray:
        """int32 code of the nearest value."""
        values = self._sorted
        right = np.minimum(np.searchsorted(values, found), len(values) - 1)
        left = np.maximum(right - 1, 0)
        return np.where(np.abs(values[right] - found) < np.abs(values[left] - found), right, left).astype(
            np.int32
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class CalendarCodec(Codec):
    """Calendar parts, most significant first; February 30 decodes to the month's last day.

    Options: `out_of_range` (error | clip | missing) for years and parts not seen at fit; `resolution` (s |
    ms | us | ns): the finest fraction of a second kept, by default the finest that was looked at.
    """

    codec: ClassVar[str] = "calendar"
    by_value: ClassVar[bool] = True

    parts: tuple[Part, ...]
    """In order: year, month, day, hour, minute, second, subsecond (in `step`s), offset (in seconds)."""
    step: int = 1
    """Storage units of one point within the second."""
    points: int = 1
    """Points of a second that the residual tells apart; 1: no residual."""
    offsets: tuple[tuple[int, int], ...] = ()
    """(from this UTC second on, offset): see zones.py."""
    out_of_range: str = "error"

    # ------------------------------------------------------------------ fit

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> CalendarCodec:
        """CodecError if an option is unknown or the time zone is."""
        options = check_options(column, ("out_of_range", "resolution"))
        out_of_range = options.get("out_of_range", "error")
        if out_of_range not in POLICIES:
            raise CodecError(
                f"column {column.name!r}: out_of_range: {out_of_range} is not one of {', '.join(POLICIES)}"
            )
        books = books_of(column, nullable=out_of_range == "missing" or profile.minimum is None)
        books["out_of_range"] = out_of_range
        kind = arrow_type(column.type)
        if not pa.types.is_temporal(kind):
            raise CodecError(f"column {column.name!r}: {kind} has no calendar; set codec: digits")
        if profile.minimum is None:
            return cls(**books, parts=())
        sample = profile.sample if profile.sample.type == kind else profile.sample.cast(kind)
        bounds = np.array(
            [storage_number(v, kind) for v in (profile.minimum, profile.maximum)], storage_dtype(kind)
        )
        instants = np.concatenate([numbers(sample.drop_null()), bounds])
        books["offsets"] = _offsets_around(column, kind, bounds)
        books["step"] = step = _step(column, options.get("resolution"), kind, instants)
        whole = cls(**books, parts=())
        found = whole._found(instants)
        complete = len(profile.sample) == profile.rows
        books["parts"] = tuple(Part(name, _part_values(name, found[name], complete)) for name in found)
        points = _per_second(kind) // step
        subsecond = np.unique(found["subsecond"]) if "subsecond" in found else np.zeros(1)
        if len(subsecond) > FEW_SUBSECONDS or (len(subsecond) > 1 and not complete):
            books["parts"] = tuple(p for p in books["parts"] if p.name != "subsecond")
            books["points"] = points
        return cls(**books)

    def extended(self, column: Column, profile: ColumnProfile) -> Self:
        """With the years, and what else of the calendar, that the other table adds."""
        other, same = self.fit(column, profile), super().extended(column, profile)
        other = replace(other, nullable=other.nullable or self.nullable)
        if not self.parts or not other.parts:
            return other if other.parts else same  # type: ignore[return-value]
        finer = other.step % self.step or other.points > self.points
        if finer or [p.name for p in self.parts] != [p.name for p in other.parts]:
            raise CodecError(
                f"column {self.name!r}: its times are finer than those of the model's table: round them, or "
                "rename the column, which begins it afresh"
            )
        parts = tuple(
            Part(ours.name, _part_values(ours.name, np.array([*ours.values, *theirs]), complete=True))
            for ours, theirs in zip(self.parts, other._values_in(self.step), strict=True)
        )
        return replace(same, parts=parts, offsets=_offsets_of(column, self.arrow_type, parts))

    def _values_in(self, step: int) -> list[tuple[int, ...]]:
        """The values of each part, fractions of a second in another, finer step."""
        scale = self.step // step
        return [tuple(v * scale for v in p.values) if p.name == "subsecond" else p.values for p in self.parts]

    def _meanings(self) -> dict[str, list[Hashable]]:
        named: dict[str, list[Hashable]] = {part.name: list(part.values) for part in self._modelled}
        return named or {"constant": ["constant"] * bool(self.parts)}

    # ------------------------------------------------------------------ shape

    @cached_property
    def _modelled(self) -> tuple[Part, ...]:
        return tuple(part for part in self.parts if len(part.values) > 1)

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One a part that changes (at least one slot), then the residual within the second."""
        sizes = [len(part.values) for part in self._modelled] or [1 if self.parts else 0]
        sizes[0] += self.nullable
        return (*(Slot(s) for s in sizes), *(Slot(s, residual=True) for s in self._residual_sizes))

    @cached_property
    def _num_modelled(self) -> int:
        return max(1, len(self._modelled))

    @cached_property
    def _residual_sizes(self) -> tuple[int, ...]:
        rest, sizes = self.points - 1, []
        while rest:
            sizes.append(min(rest, RESIDUAL_BASE - 1) + 1)
            rest //= RESIDUAL_BASE
        return tuple(reversed(sizes))

    @property
    def rising(self) -> bool:
        """Where nothing is missing, and no clock is ever put back."""
        return not (self.nullable or self.offsets)

    @cached_property
    def _offset_starts(self) -> np.ndarray:
        return np.array([start for start, _ in self.offsets[1:]], np.int64)

    @cached_property
    def _offset_values(self) -> np.ndarray:
        return np.array([offset for _, offset in self.offsets], np.int64)

    # ------------------------------------------------------------------ encode

    def _found(self, instants: np.ndarray) -> dict[str, np.ndarray]:
        """Every part of these storage numbers, as whole numbers."""
        kind = self.arrow_type
        out: dict[str, np.ndarray] = {}
        if pa.types.is_date(kind):
            seconds = None
            days = instants if pa.types.is_date32(kind) else instants // (DAY * 1000)
        else:
            seconds = instants // _per_second(kind)
            fraction = (instants - seconds * _per_second(kind)) // self.step
            if self.offsets:
                shift = self._offset_values.take(np.searchsorted(self._offset_starts, seconds, side="right"))
                seconds = seconds + shift
            days = seconds // DAY
        if not pa.types.is_time(kind):
            out["year"], out["month"], out["day"] = self._civil(days)
        if seconds is not None:
            clock = (seconds - days * DAY).astype(np.int32)
            minutes = clock // 60
            out["hour"] = minutes // 60
            out["minute"], out["second"] = minutes - out["hour"] * 60, clock - minutes * 60
            out["subsecond"] = fraction
        if self.offsets:
            out["offset"] = shift
        return out

    @cached_property
    def _day_table(self) -> tuple[int, np.ndarray, np.ndarray, np.ndarray] | None:
        """First fitted day, and year, month and day of every fitted day; None if they are too many."""
        years = next((part.values for part in self.parts if part.name == "year"), None)
        if years is None:
            return None
        first, end = (int(np.datetime64(f"{y:04d}", "D").astype(np.int64)) for y in (years[0], years[-1] + 1))
        return None if end - first > TABLE_DAYS else (first, *_civil(np.arange(first, end)))

    def _civil(self, days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        table = self._day_table
        if table is None or not len(days) or days.min() < table[0] or days.max() >= table[0] + len(table[1]):
            return _civil(days)
        index = days - table[0]
        return tuple(column.take(index, mode="clip") for column in table[1:])  # type: ignore[return-value]

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        missing = self._null_rows(array)
        instants = numbers(array)
        if missing is not None:
            instants = np.where(missing, 0 if missing.all() else instants[int(np.argmin(missing))], instants)
        gone = missing if missing is not None else np.zeros(len(array), bool)
        codes[:] = 0
        if self.parts:
            policy = self._policy("clip" if policy == "nearest" else policy, self.out_of_range, POLICIES)
            gone = gone | self._encode_parts(array, instants, codes, gone, policy)
        elif not gone.all():
            raise CodecError(
                f"column {self.name!r}: no value was seen at fit; refit on a table that has some"
            )
        if gone.any():
            codes[gone] = 0

    def _encode_parts(
        self, array: pa.Array, instants: np.ndarray, codes: np.ndarray, missing: np.ndarray, policy: str
    ) -> np.ndarray:
        """Codes of all rows; the mask of the rows that the policy makes missing."""
        found = self._found(instants)
        gone = np.zeros(len(codes), bool)
        slot = 0
        for part in self.parts:
            column = part.codes(found[part.name])
            if len(column) and column.min() < 0 and not (bad := (column < 0) & ~missing).any():
                column = np.maximum(column, 0)
            elif len(column) and column.min() < 0:
                if policy == "error" or (policy == "missing" and not self.nullable):
                    self._refuse(array, part, found[part.name], bad)
                column[bad] = part.nearest(found[part.name][bad])
                gone |= bad if policy == "missing" else False
            if len(part.values) > 1:
                codes[:, slot] = column
                slot += 1
        codes[:, 0] += self.nullable
        self._encode_fraction(array, found.get("subsecond"), codes, missing, policy, instants)
        return gone

    def _encode_fraction(
        self, array: pa.Array, fraction: np.ndarray | None, codes: np.ndarray, missing: np.ndarray,
        policy: str, instants: np.ndarray,
    ) -> None:  # fmt: skip
        if fraction is None:
            return
        rest = fraction
        for k in range(codes.shape[1] - 1, self._num_modelled - 1, -1):
            higher = rest // RESIDUAL_BASE
            codes[:, k] = rest - higher * RESIDUAL_BASE
            rest = higher
        if self.step > 1 and policy == "error":
            stray = (instants % self.step != 0) & ~missing
            if stray.any():
                raise CodecError(
                    f"column {self.name!r}: {array.filter(pa.array(stray))[0]} is finer than every value "
                    f"looked at at fit ({int(stray.sum()):,} of {len(array):,} values); "
                    "set resolution: ms, us or ns"
                )

    def _refuse(self, array: pa.Array, part: Part, found: np.ndarray, bad: np.ndarray) -> None:
        row = int(np.flatnonzero(bad)[0])
        seen = f"{part.values[0]} to {part.values[-1]}" if len(part.values) > 1 else f"only {part.values[0]}"
        raise CodecError(
            f"column {self.name!r}: {python_value(numbers(array)[row], self.arrow_type)} has {part.name} "
            f"{int(found[row])} where {seen} was seen at fit ({100 * bad.mean():.3g} % of values); "
            "refit, or set out_of_range: clip"
        )

    # ------------------------------------------------------------------ decode

    def _values_of(self, codes: np.ndarray) -> dict[str, np.ndarray | int]:
        """Each part's values; a constant one is an int."""
        out: dict[str, np.ndarray | int] = {}
        slot = 0
        for part in self.parts:
            if len(part.values) == 1:
                out[part.name] = part.values[0]
                continue
            index = codes[:, slot] - (self.nullable if slot == 0 else 0)
            out[part.name] = np.array(part.values, np.int64).take(index, mode="clip")
            slot += 1
        return out

    @property
    def _clock(self) -> list[Part]:
        return [part for part in self.parts if part.name in ("hour", "minute", "second", "subsecond")]

    def _decode(self, codes: np.ndarray) -> pa.Array:
        kind, rows = self.arrow_type, len(codes)
        if not self.parts:
            return pa.nulls(rows, kind)
        part = self._values_of(codes)
        days = np.zeros(rows, np.int64)
        if "year" in part:
            last = _days(part["year"], part["month"], 31)
            wanted = _days(part["year"], part["month"], 1) + part["day"] - 1
            days += np.minimum(wanted, last)
            if (beyond := wanted > last).any():  # no earlier than what else that day has: order is kept
                part |= {p.name: np.where(beyond, p.values[-1], part[p.name]) for p in self._clock}
        if pa.types.is_date(kind):
            instants = days if pa.types.is_date32(kind) else days * (DAY * 1000)
        else:
            seconds = (
                days * DAY
                + part["hour"] * 3600
                + part["minute"] * 60
                + part["second"]
                - part.get("offset", 0)
            )
            per_second = _per_second(kind)
            room = np.iinfo(np.int64)  # nanoseconds end in 2262, within a year
            seconds = np.clip(seconds, room.min // per_second + 1, room.max // per_second - 1)
            instants = seconds * per_second + self._fraction_of(codes, part) * self.step
        return array_of(instants, codes[:, 0] == 0 if self.nullable else None, kind)

    def _fraction_of(self, codes: np.ndarray, part: dict[str, np.ndarray | int]) -> np.ndarray | int:
        if self.points == 1:
            return part.get("subsecond", 0)
        rest = np.zeros(len(codes), np.int64)
        for k in range(self._num_modelled, codes.shape[1]):
            rest = rest * RESIDUAL_BASE + codes[:, k]
        return np.minimum(rest, self.points - 1)

    # ------------------------------------------------------------------ residual and JSON

    def widths(self, codes: np.ndarray) -> np.ndarray:
        """Points of a second; 1 where the value is missing or the second has no residual."""
        ones = np.ones(len(codes), np.int64)
        if self.points == 1:
            return ones
        return np.where(codes[:, 0] == 0, 1, self.points) if self.nullable else ones * self.points

    def fill_residual(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """The fraction of the second, uniform over its points."""
        codes = codes.astype(np.int32)
        width = self.widths(codes)
        rest = np.minimum((uniforms * width).astype(np.int64), width - 1)
        for k in range(codes.shape[1] - 1, self._num_modelled - 1, -1):
            codes[:, k] = rest % RESIDUAL_BASE
            rest //= RESIDUAL_BASE
        return codes

    def _params(self) -> dict[str, Any]:
        return {
            "parts": [[part.name, list(part.values)] for part in self.parts],
            "step": self.step,
            "points": self.points,
            "offsets": [list(pair) for pair in self.offsets],
            "out_of_range": self.out_of_range,
        }

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> CalendarCodec:
        parts = tuple(Part(name, tuple(values)) for name, values in params["parts"])
        offsets = tuple((start, offset) for start, offset in params["offsets"])
        return cls(**books, **(params | {"parts": parts, "offsets": offsets}))


def _per_second(kind: pa.DataType) -> int:
    return 1 if pa.types.is_date(kind) else PER_SECOND[kind.unit]


def _civil(days: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Year, month and day of month of days since 1970-01-01 (proleptic Gregorian)."""
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    number = months.astype(np.int64)
    year = number // 12
    return year + 1970, number - year * 12 + 1, (dates - months).astype(np.int64) + 1


def _days(year: Any, month: Any, day: Any) -> np.ndarray:
    """Days since 1970-01-01; a day beyond the month's end is its last."""
    number = np.asarray((year - 1970) * 12 + month - 1, np.int64)
    start, end = (
        n.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for n in (number, number + 1)
    )
    return np.minimum(start + day, end) - 1


def _offsets_around(column: Column, kind: pa.DataType, bounds: np.ndarray) -> tuple[tuple[int, int], ...]:
    """The zone's offsets over all of the fitted years; empty without a zone."""
    if not (pa.types.is_timestamp(kind) and kind.tz):
        return ()
    years = _civil(bounds // (_per_second(kind) * DAY))[0]
    first, last = (int(_days(y, 1, 1)) * DAY for y in (years[0], years[1] + 1))
    try:
        return transitions(kind.tz, first - DAY, last + DAY)
    except pa.ArrowInvalid as error:
        raise CodecError(
            f"column {column.name!r}: time zone {kind.tz!r} is not known here ({error})"
        ) from error


def _step(column: Column, resolution: str | None, kind: pa.DataType, instants: np.ndarray) -> int:
    """Storage units of the finest fraction of a second: given, or the largest power of ten dividing all."""
    per_second = _per_second(kind)
    if resolution is not None:
        if resolution not in PER_SECOND or PER_SECOND[resolution] > per_second:
            raise CodecError(
                f"column {column.name!r}: resolution: {resolution} is finer than the type {kind}"
            )
        return per_second // PER_SECOND[resolution]
    step = per_second
    while step > 1 and (instants % step != 0).any():
        step //= 10
    return step


def _offsets_of(column: Column, kind: pa.DataType, parts: tuple[Part, ...]) -> tuple[tuple[int, int], ...]:
    """The changes of the clock in all the years of the parts."""
    years = next((part.values for part in parts if part.name == "year"), None)
    if years is None:
        return ()
    days = np.array([int(_days(year, 1, 1)) for year in (years[0], years[-1])])
    return _offsets_around(column, kind, days * DAY * _per_second(kind))


def _part_values(name: str, found: np.ndarray, complete: bool) -> tuple[int, ...]:
    """The values a part may take: those seen if they are few of the possible ones, else all possible ones."""
    seen = np.unique(found).tolist()
    if name in ("subsecond", "offset") or len(seen) == 1:
        return tuple(seen)
    natural = NATURAL.get(name, range(seen[0], seen[-1] + 1))
    sparse = complete and name != "year" and len(seen) <= len(natural) / 2
    return tuple(seen) if sparse else tuple(natural)
