"""Cells that are arrays of numbers (vectors, series, images) enter; the arrays leave as they are, stacked.

Every cell has one shape, or they are lists that differ in length (series).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.base import books_of
from nemo_tabular.codecs.dense import Cells, DenseCodec, Ragged, with_missing
from nemo_tabular.errors import CodecError
from nemo_tabular.profile import flattened, nested

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

LEAST_POINTS = 32
"""Of a continuous axis in `every`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayCodec(DenseCodec):
    """Options `levels` (whole numbers 0 .. levels - 1), or `range: [low, high]` (default: the table's
    own)."""

    codec: ClassVar[str] = "array"

    item: str
    """numpy type of the numbers."""
    low: float
    high: float
    """Least and largest number that a cell may hold."""
    center: tuple[float, ...]
    scale: tuple[float, ...]
    """Mean and deviation of each number of a cell; one of each where cells differ in length."""
    longest: int
    """Numbers of a cell, at most."""
    shortest: int
    """And at least."""

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> ArrayCodec:
        """CodecError where the cells are not what the schema says."""
        stats, options, where = profile.cells, dict(column.options), f"column {column.name!r}"
        if stats is None:
            raise CodecError(
                f"{where}: kind {column.kind} is for lists of numbers, the table's are {profile.type}"
            )
        if stats.holes:
            raise CodecError(f"{where}: {stats.holes:,} numbers within its cells are missing or not finite")
        count, shape = int(np.prod(column.shape)), column.shape
        if shape and stats.longest and not stats.shortest == stats.longest == count:
            raise CodecError(
                f"{where}: the schema says shape {list(shape)}, {count} numbers, cells have "
                f"{stats.shortest} to {stats.longest}"
            )
        levels = options.pop("levels", None)
        low, high = (0, levels - 1) if levels else options.pop("range", (profile.minimum, profile.maximum))
        seen = (profile.minimum, profile.maximum)
        if seen[0] is not None and not (low <= seen[0] and seen[1] <= high):
            raise CodecError(
                f"{where}: its numbers lie between {seen[0]} and {seen[1]}, the schema says {low} to {high}"
            )
        mean, variance = stats.mean, stats.std**2
        if shape:
            mean, variance = np.broadcast_to(mean, count), np.broadcast_to(variance, count)
        else:  # one mean for all places, also where all lists happen to have one length
            mean, variance = (
                np.mean(mean, keepdims=True),
                np.mean(variance + (mean - mean.mean()) ** 2, keepdims=True),
            )
        scale = np.where(variance > 0, np.sqrt(variance), 1.0)
        return cls(
            **books_of(column), feature=column.feature, options=options, shape=shape, ragged=not shape,
            item=_item(column.arrow).str[1:], low=float(0 if low is None else low),
            high=float(0 if high is None else high), center=tuple(mean.tolist()), scale=tuple(scale.tolist()),
            longest=max(count if shape else stats.longest, 1), shortest=count if shape else stats.shortest,
        )  # fmt: skip

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.item)

    @property
    def numbers_of_a_cell(self) -> int:
        return self.longest

    @property
    def step(self) -> float:
        """Between neighbouring values: 1 for whole numbers, 0 for a continuum."""
        return float(self.dtype.kind in "iu")

    @property
    def levels(self) -> int | None:
        """Whole numbers 0 .. levels - 1; None: not whole, or not from 0."""
        return int(self.high) + 1 if self.step and self.low == 0 else None

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        missing = self._null_rows(array)
        codes[:, 0] = self.there
        if missing is not None:
            codes[missing, 0] = 0

    def cells(self, values: pa.Array | pa.ChunkedArray, *, unseen: str | None = None) -> Cells:
        array = self._typed(values)
        there = array.is_valid().to_numpy(zero_copy_only=False)
        flat = flattened(array.drop_null())
        self._check(flat.sizes, flat.values, flat.holes, unseen)
        numbers = flat.values.astype(self.dtype, copy=False)
        if unseen == "nearest" and len(numbers):
            numbers = numbers.clip(self.low, self.high).astype(self.dtype, copy=False)
        if self.ragged:
            sizes = np.zeros(len(array), np.int64)
            sizes[there] = flat.sizes
            return Ragged(numbers, np.concatenate([[0], np.cumsum(sizes)]))
        out = np.zeros((len(array), *self.shape), self.dtype)
        out[there] = numbers.reshape(-1, *self.shape)
        return out

    def _check(self, sizes: np.ndarray, values: np.ndarray, holes: int, unseen: str | None) -> None:
        if holes or not np.isfinite(values).all():
            raise CodecError(f"column {self.name!r}: a cell holds a number that is missing or not finite")
        bad = (sizes < self.shortest) | (sizes > self.longest)
        if bad.any():
            few = (
                f"{self.shortest} to {self.longest}"
                if self.ragged
                else f"{self.longest} (shape {list(self.shape)})"
            )
            raise CodecError(f"column {self.name!r}: a cell of {sizes[bad][0]} numbers, expected {few}")
        outside = (values < self.low) | (values > self.high)
        if outside.any() and unseen != "nearest":
            raise self._outside(
                f"{int(outside.sum()):,} numbers such as {values[outside][0]} are outside {self.low:g} to "
                f"{self.high:g}"
            )

    def restore(self, codes: np.ndarray, cells: Cells) -> pa.Array:
        if isinstance(cells, Ragged):
            sizes = np.diff(cells.offsets)
            array = nested(cells.values, sizes, self.arrow_type, ())
        else:
            sizes = np.full(len(cells), self.longest)
            array = nested(cells.reshape(-1), sizes, self.arrow_type, self.shape)
        return with_missing(array, codes, self.nullable)

    def padded(self, cells: Cells) -> np.ndarray:
        """Ragged cells as float64 (rows, longest), NaN after the end."""
        if not isinstance(cells, Ragged):
            return cells
        sizes = np.diff(cells.offsets)
        out = np.full((len(cells), int(sizes.max(initial=1))), np.nan)
        out[np.arange(out.shape[1]) < sizes[:, None]] = cells.values
        return out

    def unpadded(self, cells: np.ndarray) -> Cells:
        if not self.ragged:
            return cells
        inside = ~np.isnan(cells)
        return Ragged(cells[inside].astype(self.dtype), np.concatenate([[0], np.cumsum(inside.sum(1))]))

    def blank(self, rows: int) -> np.ndarray:
        return np.full((rows, 1), np.nan) if self.ragged else super().blank(rows)

    def every(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        points = int(most ** (1 / self.longest) + 1e-9)
        step = self.step or (self.high - self.low) / points
        count = round((self.high - self.low) / step) + bool(self.step)
        if self.ragged or count**self.longest > most or not (self.step or points >= LEAST_POINTS):
            return None
        line = self.low + step * (np.arange(count) + (0 if self.step else 0.5))
        grid = np.stack(np.meshgrid(*[line] * self.longest, indexing="ij"), -1).reshape(-1, *self.shape)
        return grid.astype(self.dtype), np.full(len(grid), 1.0 if self.step else step**self.longest)

    def one(self, value: Any) -> pa.Array:
        if value is None:
            return pa.nulls(1, self.arrow_type)
        try:
            numbers = np.asarray(value)
            if numbers.dtype.kind not in "iufb" or not numbers.ndim:
                raise ValueError("not an array of numbers")
            if not self.ragged and numbers.size != self.longest:
                raise ValueError(
                    f"an array of {numbers.size} numbers, its cells have shape {list(self.shape)}"
                )
            return nested(numbers.reshape(-1), np.array([numbers.size]), self.arrow_type, self.shape)
        except (ValueError, pa.ArrowInvalid) as error:
            shown = " ".join(str(value).split())[:60]
            raise CodecError(f"column {self.name!r}: {shown} is no cell of it: {error}") from error

    def is_cell(self, value: Any) -> bool:
        depth = 0
        while isinstance(value, (list, tuple)) and len(value):
            value, depth = value[0], depth + 1
        depth += value.ndim if isinstance(value, np.ndarray) else 0
        return 0 < depth <= max(1, len(self.shape)) and isinstance(
            value, (int, float, np.generic, np.ndarray)
        )

    def _params(self) -> dict[str, Any]:
        return {
            "feature": self.feature, "options": dict(self.options), "shape": list(self.shape),
            "item": self.item, "low": self.low, "high": self.high, "center": list(self.center),
            "scale": list(self.scale), "longest": self.longest, "shortest": self.shortest,
        }  # fmt: skip

    @classmethod
    def _restore(cls, books: dict[str, Any], params: Mapping[str, Any]) -> ArrayCodec:
        lists = {name: tuple(params[name]) for name in ("shape", "center", "scale")}
        return cls(**books, **{**params, **lists}, ragged=not lists["shape"])


def _item(kind: pa.DataType) -> np.dtype:
    while pa.types.is_nested(kind):
        kind = kind.value_type
    return np.dtype(np.uint8) if pa.types.is_binary(kind) else np.dtype(kind.to_pandas_dtype())
