"""Running figures of one column: what is missing, the range, the resolution, the distinct values.

Enters arrays of one type, batch by batch; leaves the figures of a ColumnProfile.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile.distinct import NumberCounter, WordCounter, word_counts
from nemo_tabular.profile.nested import flattened, is_array

TEXT_CAP = 65_536
NUMBER_CAP = 8_192
MOST_DECIMALS = 12
_EXACT = 2.0**53  # beyond it a double is no longer exact to one grid step


class ColumnStats:
    """Running figures of one column; children add what their type has."""

    def __init__(self, kind: pa.DataType, cap: int) -> None:
        self.kind = kind
        self.missing = self.nan = self.posinf = self.neginf = 0
        self._cap = cap

    def update(self, values: pa.Array) -> None:
        raise NotImplementedError

    def distinct(self) -> dict[Any, int] | None:
        raise NotImplementedError

    def range(self) -> tuple[Any, Any]:
        return None, None

    def decimals(self) -> int | None:
        return None

    def max_bytes(self) -> int | None:
        return None

    def cells(self) -> CellStats | None:
        return None


class _TextStats(ColumnStats):
    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(kind, cap)
        self._counter = WordCounter(cap)

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        if self._counter.overflown and not pa.types.is_dictionary(values.type):
            self._counter.add(values, np.empty(0, np.int64))  # it counts no more
        else:
            self._counter.add(*word_counts(values))

    def distinct(self) -> dict[Any, int] | None:
        words, counts = self._counter.result()
        if self._counter.overflown:
            return None
        return dict(zip(words.to_pylist(), counts.tolist(), strict=True))

    def max_bytes(self) -> int | None:
        return self._counter.max_bytes()


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
        self._counter = NumberCounter(cap)

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
        self._counter.add(x, low, high)

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
        counted = self._counter.result()
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
            _merge_counts(self._counts, counted.field(0).to_pylist(), counted.field(1).to_pylist())
            self._counts = self._counts if len(self._counts) <= self._cap else None

    def range(self) -> tuple[Any, Any]:
        return self._low, self._high

    def decimals(self) -> int | None:
        return self.kind.scale

    def distinct(self) -> dict[Any, int] | None:
        return self._counts


@dataclass(frozen=True)
class CellStats:
    """What cells that are arrays of numbers have in common."""

    shape: tuple[int, ...] | None
    """Of every cell; None: they differ."""
    shortest: int
    longest: int
    """Numbers of the shortest and the longest cell."""
    mean: np.ndarray
    std: np.ndarray
    """float64 (numbers of a cell,) where all have one shape, else (1,)."""
    holes: int
    """Numbers that are missing, or not finite."""


class _ArrayStats(ColumnStats):
    """Cells that are arrays: their shapes, and moments of each number of a cell."""

    def __init__(self, kind: pa.DataType, cap: int) -> None:
        super().__init__(kind, cap)
        self._shape: tuple[int, ...] | None = None
        self._sizes: tuple[int, int] | None = None
        self._holes, self._rows = 0, 0
        self._low: float | None = None
        self._high: float | None = None
        self._moments = np.zeros((3, 1))  # count, sum, sum of squares

    def update(self, values: pa.Array) -> None:
        self.missing += values.null_count
        flat = flattened(values.drop_null())
        if not len(flat.sizes):
            return
        x = flat.values.astype(np.float64, copy=False)
        finite = np.isfinite(x)
        self._holes += int((~finite).sum())
        least, most = int(flat.sizes.min()), int(flat.sizes.max())
        known = self._sizes or (least, most)
        self._sizes = min(known[0], least), max(known[1], most)
        self._shape = flat.shape if not self._rows or self._shape == flat.shape else None
        self._rows += len(flat.sizes)
        if finite.any():
            low, high = float(x[finite].min()), float(x[finite].max())
            self._low = low if self._low is None else min(self._low, low)
            self._high = high if self._high is None else max(self._high, high)
        x = np.where(finite, x, 0.0).reshape(-1, most if self._shape else 1)
        found = np.stack([np.full(x.shape[1], float(len(x))), x.sum(0), (x * x).sum(0)])
        if found.shape != self._moments.shape and self._moments[0, 0]:
            found, self._moments = (m.sum(1, keepdims=True) for m in (found, self._moments))
        self._moments = self._moments + found

    def range(self) -> tuple[Any, Any]:
        if self._low is None or self._high is None or self.decimals() is None:
            return self._low, self._high
        return int(self._low), int(self._high)

    def decimals(self) -> int | None:
        kind = self.kind
        while pa.types.is_nested(kind):
            kind = kind.value_type
        return 0 if pa.types.is_integer(kind) or pa.types.is_binary(kind) else None

    def distinct(self) -> dict[Any, int] | None:
        return None

    def cells(self) -> CellStats | None:
        least, most = self._sizes or (0, 0)
        count = np.maximum(self._moments[0], 1)
        mean = self._moments[1] / count
        std = np.sqrt(np.maximum(self._moments[2] / count - mean**2, 0))
        return CellStats(self._shape, least, most, mean, std, self._holes)


def stats_of(kind: pa.DataType, text_cap: int = TEXT_CAP, number_cap: int = NUMBER_CAP) -> ColumnStats:
    """The running figures for a column of this Arrow type."""
    plain = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_string(plain):
        return _TextStats(plain, text_cap)
    if pa.types.is_boolean(plain):
        return _BoolStats(plain, number_cap)
    if is_array(plain):
        return _ArrayStats(plain, number_cap)
    if pa.types.is_decimal(plain):
        return _DecimalStats(plain, number_cap)
    return _NumberStats(plain, number_cap)


def numbers_of(values: pa.Array) -> np.ndarray:
    """The numbers under an array without nulls: dates, times and timestamps as their integer storage."""
    if pa.types.is_temporal(values.type):
        values = values.view(pa.int32() if values.type.bit_width == 32 else pa.int64())
    return values.to_numpy(zero_copy_only=False)


def _merge_counts(into: dict[Any, int], values: list[Any], counts: list[int]) -> None:
    for value, n in zip(values, counts, strict=True):
        into[value] = into.get(value, 0) + n


def least_decimals(x: np.ndarray, at_least: int | None) -> int | None:
    """Least d >= at_least, d <= 12, with every finite x == round(x * 10**d) / 10**d in its own precision."""
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
