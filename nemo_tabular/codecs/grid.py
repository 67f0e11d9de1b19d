"""Storage numbers of a column enter; positions on its integer lattice, 0 .. last, leave, and back.

Whole numbers, fixed decimals and everything that Arrow stores as an integer are exact; floats without a
resolution are laid on a lattice of a stated step, linear in a transformed space if a transform was chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from nemo_tabular.codecs.transforms import Transform, transform_from_json, transform_to_json

_MODULUS = 1 << 64


def lattice_dtype(last: int) -> np.dtype:
    """The narrower of the two unsigned types that hold 0 .. last; half the memory traffic where it does."""
    return np.dtype(np.uint32 if last < 1 << 32 else np.uint64)


@dataclass(frozen=True)
class IntegerGrid:
    """value = lo + step * position, for anything stored as int8 .. uint64; exact over all 64 bits."""

    kind: ClassVar[str] = "integer"
    exact: ClassVar[bool] = True
    lo: int
    last: int
    step: int = 1

    @property
    def minimum(self) -> int:
        """The value at position 0."""
        return self.lo

    @property
    def maximum(self) -> int:
        """The value at the last position."""
        return self.lo + self.last * self.step

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Positions of values within [minimum, maximum]; between two points, the lower one."""
        # Modular arithmetic: int64's whole range is wider than int64, and uint64's too.
        offset = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64, copy=False).view(
            np.uint64
        )
        offset = offset - np.uint64(self.lo % _MODULUS)
        narrow = offset.astype(lattice_dtype(self.last * self.step), copy=False)
        return narrow if self.step == 1 else narrow // narrow.dtype.type(self.step)

    def values(self, positions: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The values at these positions."""
        wide = positions.astype(np.uint64)
        if self.step != 1:
            wide *= np.uint64(self.step)
        wide += np.uint64(self.lo % _MODULUS)
        return wide.view(np.int64).astype(dtype) if dtype.kind == "i" else wide.astype(dtype)

    def to_json(self) -> dict[str, Any]:
        """Plain ints."""
        return {"kind": self.kind, "lo": self.lo, "last": self.last, "step": self.step}


@dataclass(frozen=True)
class DecimalGrid:
    """value = (lo + position) / 10**decimals, for floats that are all written with so many decimals."""

    kind: ClassVar[str] = "decimal"
    exact: ClassVar[bool] = True
    lo: int
    last: int
    decimals: int

    @property
    def minimum(self) -> float:
        """The value at position 0."""
        return self.lo / 10**self.decimals

    @property
    def maximum(self) -> float:
        """The value at the last position."""
        return (self.lo + self.last) / 10**self.decimals

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Positions of finite values within [minimum, maximum]; between two points, the nearer one."""
        scaled = values.astype(np.float64, copy=False) * 10.0**self.decimals
        np.rint(scaled, out=scaled)
        scaled -= self.lo  # exact: both are integers under 2**53 (`fits`)
        return scaled.astype(np.int64).astype(lattice_dtype(self.last))

    def values(self, positions: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The values at these positions: the float nearest to the decimal number."""
        scaled = positions.astype(np.float64)
        scaled += self.lo
        scaled /= 10.0**self.decimals
        return scaled.astype(dtype, copy=False)

    @staticmethod
    def fits(minimum: float, maximum: float, decimals: int, dtype: np.dtype) -> bool:
        """Whether every number of so many decimals is a float of its own."""
        return (
            max(abs(minimum), abs(maximum), maximum - minimum) * 10.0**decimals < 2.0 ** np.finfo(dtype).nmant
        )

    def to_json(self) -> dict[str, Any]:
        """Plain ints."""
        return {"kind": self.kind, "lo": self.lo, "last": self.last, "decimals": self.decimals}


@dataclass(frozen=True)
class FloatGrid:
    """transform(value) = origin + step * position, rounded: no bias, half a step of error."""

    kind: ClassVar[str] = "float"
    exact: ClassVar[bool] = False
    minimum: float
    maximum: float
    step: float
    last: int
    transform: Transform

    @cached_property
    def origin(self) -> float:
        """The transformed minimum."""
        return float(self.transform.forward(np.array([self.minimum]))[0])

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Positions of finite values within [minimum, maximum]."""
        scaled = self.transform.forward(values.astype(np.float64, copy=False))
        scaled = (scaled - self.origin) / self.step
        np.rint(scaled, out=scaled)
        np.clip(scaled, 0, self.last, out=scaled)
        return scaled.astype(np.int64).astype(lattice_dtype(self.last))

    def values(self, positions: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The middle, in the column's own units, of what rounds to each position: no bias."""
        centre = positions.astype(np.float64)
        if self.transform.linear:
            with np.errstate(over="ignore"):  # next to the largest float; clipped below
                result = self.transform.inverse(centre * self.step + self.origin)
        else:
            low = self.transform.inverse(np.maximum(centre - 0.5, 0) * self.step + self.origin)
            high = self.transform.inverse(np.minimum(centre + 0.5, self.last) * self.step + self.origin)
            result = low + 0.5 * (high - low)
            result[positions == 0] = self.minimum
            result[positions == self.last] = self.maximum
        np.clip(result, self.minimum, self.maximum, out=result)
        return result.astype(dtype, copy=False)

    def half_steps(self, values: np.ndarray) -> np.ndarray:
        """The largest error allowed at each value, in the column's own units."""
        position = (self.transform.forward(values.astype(np.float64)) - self.origin) / self.step
        with np.errstate(over="ignore"):
            around = [
                np.clip(np.rint(position) + d, 0, self.last) * self.step + self.origin for d in (-0.5, 0.5)
            ]
        low, high = (self.transform.inverse(t) for t in around)
        high = np.where(np.rint(position) >= self.last, self.maximum, high)
        # The decoded value lies in the cell, so the cell's width bounds the error of a curved transform.
        share = 0.5 if self.transform.linear else 1.0
        return share * np.maximum(high - low, self.step if self.transform.linear else 0)

    def to_json(self) -> dict[str, Any]:
        """Floats by their repr."""
        return {
            "kind": self.kind,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "step": self.step,
            "last": self.last,
            "transform": transform_to_json(self.transform),
        }


Grid = IntegerGrid | DecimalGrid | FloatGrid


def grid_from_json(document: dict[str, Any]) -> Grid:
    """Inverse of the grids' `to_json`."""
    fields = dict(document)
    kind = fields.pop("kind")
    if kind == "integer":
        return IntegerGrid(**fields)
    if kind == "decimal":
        return DecimalGrid(**fields)
    return FloatGrid(**(fields | {"transform": transform_from_json(fields["transform"])}))
