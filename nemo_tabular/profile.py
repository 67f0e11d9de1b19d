"""What a whole table holds, column by column, in one streaming pass with bounded memory.

Enters typed record batches; leaves counts, ranges, exact distinct values while there are few, and a uniform
sample of rows. The result does not depend on how the rows were split into batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_ROWS = 262_144
TEXT_CAP = 65_536
NUMBER_CAP = 8_192
MOST_DECIMALS = 12
_EXACT = 2.0**53  # beyond it a double is no longer exact to one grid step
_SMALL_RANGE = 1 << 16


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a TableProfile."""

    name: str
    type: str
    rows: int
    missing: int
    nan: int
    posinf: int
    neginf: int
    minimum: Any
    """Least finite value as a Python number, date, time or datetime; None for text or if there is none."""
    maximum: Any
    decimals: int | None
    """Least d <= 12 with every finite value exactly a multiple of 10**-d (below 2**53 steps); 0 for integers."""
    distinct: Mapping[Any, int] | None
    """Exact count of each finite value, or None when there are more than the cap."""
    sample: pa.Array
    """This column of the row sample, in row order; text is plain string."""
    max_bytes: int | None
    """Bytes of the longest text in UTF-8; None for columns that are not text."""


@dataclass(frozen=True)
class TableProfile:
    """A whole table's profile; `sample` holds all rows, in order, when there are at most `sample_rows`."""

    rows: int
    columns: dict[str, ColumnProfile]
    sample: pa.Table


def profile(
    batches: Iterable[pa.RecordBatch],
    *,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    text_cap: int = TEXT_CAP,
    number_cap: int = NUMBER_CAP,
) -> TableProfile:
    """Profile a table in one pass.

    The sample is uniform without replacement: the `sample_rows` rows of the lowest splitmix64(seed, row number).
    Distinct values are counted exactly up to `text_cap` for text and `number_cap` for the rest. Memory: the
    sample (twice) and the counters. Raises ValueError when there is no batch at all.
    """
    columns: list[ColumnStats] | None = None
    sample = _RowSample(sample_rows, seed)
    names: list[str] = []
    for batch in batches:
        if columns is None:
            names = batch.schema.names
            columns = [stats_of(f.type, text_cap, number_cap) for f in batch.schema]
        for stats, values in zip(columns, batch.columns, strict=True):
            stats.update(values)
        sample.update(batch)
    if columns is None:
        raise ValueError("no batches to profile: a table needs at least one row")
    rows = sample.table()
    found = {
        name: stats.result(name, sample.seen, rows.column(i).combine_chunks())
        for i, (name, stats) in enumerate(zip(names, columns, strict=True))
    }
    return TableProfile(sample.seen, found, rows)


def splitmix64(seed: int, numbers: np.ndarray) -> np.ndarray:
    """uint64 hash of each row number (Steele, Lea and Flood 2014), in a stream of its own for each seed."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + np.uint64(0x9E3779B97F4A7C15))
        return _mix(numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class _RowSample:
    """Bottom-k sample of rows; hashes are computed only once there are more rows than wanted."""

    def __init__(self, wanted: int, seed: int) -> None:
        self.seen = 0
        self._wanted, self._seed = wanted, seed
        self._held: list[pa.RecordBatch] = []
        self._numbers: list[np.ndarray] = []
        self._rows = 0
        self._highest: np.uint64 | None = None

    def update(self, batch: pa.RecordBatch) -> None:
        numbers = np.arange(self.seen, self.seen + batch.num_rows, dtype=np.int64)
        self.seen += batch.num_rows
        if self._highest is not None:
            low = splitmix64(self._seed, numbers) <= self._highest
            batch, numbers = batch.filter(pa.array(low)), numbers[low]
        self._held.append(batch)
        self._numbers.append(numbers)
        self._rows += batch.num_rows
        if self._rows > 2 * self._wanted:
            self._compact()

    def table(self) -> pa.Table:
        if self._rows > self._wanted:
            self._compact()
        table = pa.Table.from_batches(self._held)
        plain = [
            pc.cast(c, c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns
        ]
        return pa.table(dict(zip(table.column_names, plain, strict=True)))

    def _compact(self) -> None:
        numbers = np.concatenate(self._numbers)
        hashes = splitmix64(self._seed, numbers)
        chosen = np.sort(np.argpartition(hashes, self._wanted - 1)[: self._wanted])
        self._highest = hashes[chosen].max()
        table = pa.Table.from_batches(self._held).unify_dictionaries().take(pa.array(chosen))
        self._held = table.combine_chunks().to_batches()
        self._numbers, self._rows = [numbers[chosen]], self._wanted


class ColumnStats:
    """Running figures of one column; children add what their type has."""

    def __init__(self, kind: pa.DataType, cap: int) -> None:
        self.kind = kind
        self.missing = self.nan = self.posinf = self.neginf = 0
        self.max_bytes: int | None = None
        self._cap = cap

    def update(self, values: pa.Array) -> None:
        raise NotImplementedError

    def distinct(self) -> dict[Any, int] | None:
        raise NotImplementedError

    def range(self) -> tuple[Any, Any]:
        return None, None

    def decimals(self) -> int | None:
        return None

    def result(self, name: str, rows: int, sample: pa.Array) -> ColumnProfile:
        low, high = self.range()
        return ColumnProfile(
            name, str(self.kind), rows, self.missing, self.nan, self.posinf, self.neginf, low, high,
            self.decimals(), self.distinct(), sample, self.max_bytes,
        )  # fmt: skip


class _TextStats(ColumnStats):
    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(pa.string(), cap)
        self._counts: dict[str, int] | None = {}
        self.max_bytes = 0

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        if self._counts is None and not pa.types.is_dictionary(values.type):
            words = values
        else:
            words, counts = word_counts(values)
            self._count(words, counts)
        self.max_bytes = max(self.max_bytes or 0, pc.max(pc.binary_length(words)).as_py() or 0)

    def _count(self, words: pa.Array, counts: np.ndarray) -> None:
        if self._counts is None:
            return
        merge_counts(self._counts, words.to_pylist(), counts.tolist())
        if len(self._counts) > self._cap:
            self._counts = None

    def distinct(self) -> dict[Any, int] | None:
        return self._counts


class _BoolStats(ColumnStats):
    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(kind, cap)
        self._true = self._false = 0

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        self._true += values.true_count
        self._false += values.false_count

    def distinct(self) -> dict[Any, int] | None:
        return {v: n for v, n in ((False, self._false), (True, self._true)) if n}


class _NumberStats(ColumnStats):
    """Integers, floats, and dates and times through their integer storage."""

    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(kind, cap)
        self._low: Any = None
        self._high: Any = None
        self._decimals: int | None = 0
        self._counts: _Counter | None = _Counter(cap)

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        x = numbers_of(values.drop_null() if values.null_count else values)
        if x.dtype.kind == "f":
            x = self._finite(x)
        if not len(x):
            return
        low, high = x.min(), x.max()
        self._low = low if self._low is None else min(self._low, low)
        self._high = high if self._high is None else max(self._high, high)
        if x.dtype.kind == "f":
            self._decimals = least_decimals(x, self._decimals)
        if self._counts is not None and not self._counts.add(x, low, high):
            self._counts = None

    def _finite(self, x: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(x.sum(dtype=np.float64)):
                return x
        self.nan += int(np.isnan(x).sum())
        self.posinf += int(np.isposinf(x).sum())
        self.neginf += int(np.isneginf(x).sum())
        return x[np.isfinite(x)]

    def range(self) -> tuple[Any, Any]:
        if self._low is None:
            return None, None
        low, high = self._values(np.array([self._low, self._high]))
        return low, high

    def decimals(self) -> int | None:
        if pa.types.is_temporal(self.kind) or self._low is None:
            return 0 if pa.types.is_integer(self.kind) else None
        if self._decimals is None or pa.types.is_integer(self.kind):
            return self._decimals
        steps = max(abs(float(self._low)), abs(float(self._high))) * 10.0**self._decimals
        return self._decimals if steps <= _EXACT else None

    def distinct(self) -> dict[Any, int] | None:
        counted = self._counts.result() if self._counts is not None else None
        if counted is None:
            return None
        return dict(zip(self._values(counted[0]), counted[1].tolist(), strict=True))

    def _values(self, numbers: np.ndarray) -> list[Any]:
        """Storage numbers as Python values of the column's type."""
        if not pa.types.is_temporal(self.kind):
            return numbers.tolist()
        width = np.int32 if self.kind.bit_width == 32 else np.int64
        return pa.array(numbers.astype(width)).view(self.kind).to_pylist()


class _DecimalStats(ColumnStats):
    """Arrow decimals: exact Python Decimals throughout."""

    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(kind, cap)
        self._low: Any = None
        self._high: Any = None
        self._counts: dict[Any, int] | None = {}

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        values = values.drop_null()
        if not len(values):
            return
        ends = pc.min_max(values).as_py()
        self._low = ends["min"] if self._low is None else min(self._low, ends["min"])
        self._high = ends["max"] if self._high is None else max(self._high, ends["max"])
        if self._counts is not None:
            counted = pc.value_counts(values)
            merge_counts(self._counts, counted.field(0).to_pylist(), counted.field(1).to_pylist())
            self._counts = self._counts if len(self._counts) <= self._cap else None

    def range(self) -> tuple[Any, Any]:
        return self._low, self._high

    def decimals(self) -> int | None:
        return self.kind.scale

    def distinct(self) -> dict[Any, int] | None:
        return self._counts


class _Counter:
    """Exact counts of numbers, given up beyond a cap. Batches' counts are pooled and merged seldom."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._pool: list[tuple[np.ndarray, np.ndarray]] = []
        self._pooled = 0

    def add(self, x: np.ndarray, low: Any, high: Any) -> bool:
        """Count a batch of finite numbers between low and high; False once there are more than the cap."""
        values, counts = _small_range_counts(x, low, high)
        if values is None:
            counted = pc.value_counts(pa.array(x))
            values, counts = counted.field(0).to_numpy(), counted.field(1).to_numpy()
        self._pool.append((values, counts))
        self._pooled += len(values)
        if len(values) > self._cap or self._pooled > 4 * self._cap:
            return self._merge() <= self._cap
        return True

    def result(self) -> tuple[np.ndarray, np.ndarray] | None:
        if not self._pool:
            return np.array([]), np.array([], np.int64)
        return self._pool[0] if self._merge() <= self._cap else None

    def _merge(self) -> int:
        values, where = np.unique(np.concatenate([v for v, _ in self._pool]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([c for _, c in self._pool]))
        self._pool, self._pooled = [(values, counts)], len(values)
        return len(values)


def _small_range_counts(x: np.ndarray, low: Any, high: Any) -> tuple[Any, Any]:
    """Distinct integers and counts by counting, three times cheaper than hashing; (None, None) if spread out."""
    if x.dtype.kind not in "iu" or int(high) - int(low) >= min(_SMALL_RANGE, 4 * len(x)):
        return None, None
    counts = np.bincount((x - low).astype(np.int64, copy=False))
    found = np.flatnonzero(counts)
    return found.astype(x.dtype) + x.dtype.type(low), counts[found]


def stats_of(kind: pa.DataType, text_cap: int = TEXT_CAP, number_cap: int = NUMBER_CAP) -> ColumnStats:
    """The running figures for a column of this Arrow type."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(plain):
        return _TextStats(plain, text_cap)
    if pa.types.is_boolean(plain):
        return _BoolStats(plain, number_cap)
    if pa.types.is_decimal(plain):
        return _DecimalStats(plain, number_cap)
    return _NumberStats(plain, number_cap)


def numbers_of(values: pa.Array) -> np.ndarray:
    """The numbers under an array without nulls: dates, times and timestamps as their integer storage."""
    if pa.types.is_temporal(values.type):
        values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    return values.to_numpy(zero_copy_only=False)


def word_counts(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct texts of a string or dictionary array, and how often each occurs; nulls are not counted."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    words, indices = values.dictionary, values.indices
    if indices.null_count:
        indices = indices.drop_null()
    counts = np.bincount(indices.to_numpy(), minlength=len(words))
    if not counts.all():
        used = np.flatnonzero(counts)
        return words.take(pa.array(used)), counts[used]
    return words, counts


def merge_counts(into: dict[Any, int], values: list[Any], counts: list[int]) -> None:
    """Add counts to a dictionary of counts."""
    for value, n in zip(values, counts, strict=True):
        into[value] = into.get(value, 0) + n


def least_decimals(x: np.ndarray, at_least: int | None) -> int | None:
    """Least d >= at_least, d <= 12, such that every finite x is round(x * 10**d) / 10**d in its own precision."""
    d = at_least
    while d is not None:
        # a short look first: most columns that fail do so in the first few values
        if _is_multiple(x[:64], d) and _is_multiple(x, d):
            return d
        d = d + 1 if d < MOST_DECIMALS else None
    return None


def _is_multiple(x: np.ndarray, d: int) -> bool:
    scale = 10.0**d
    with np.errstate(over="ignore"):
        back = np.rint(x.astype(np.float64, copy=False) * scale) / scale
    return bool((back.astype(x.dtype, copy=False) == x).all())
