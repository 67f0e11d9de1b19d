"""Numbers that are best read as real numbers enter; a code leaves for what is missing, not finite, or a value
that repeats often (an atom), and the number itself for all others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.codecs.base import books_of
from nemo_tabular.codecs.dense import Cells, DenseCodec, with_missing
from nemo_tabular.codecs.specials import NON_FINITE, rows_of, seen_specials
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

ATOM_SHARE = 0.02
ATOM_EXCESS = 5.0
"""A value is an atom where it is a fiftieth of the rows, and so many times as frequent as the usual value: of
a column of few values every one is frequent, and none is a spike."""
QUANTILES = 33


@dataclass(frozen=True, eq=False, kw_only=True)
class RealCodec(DenseCodec):
    """Options `atoms: [..]` (default: found) and `range: [low, high]` (default: the table's own)."""

    codec: ClassVar[str] = "real"

    low: float
    high: float
    step: float
    """Between neighbouring values: 0.01 for cents, 1 for whole numbers, 0 for a continuum."""
    center: float
    scale: float
    """Mean and deviation of what is neither missing nor an atom."""
    quantiles: tuple[float, ...]
    """Of the same, from the least to the greatest, as multiples of `scale` from `center`."""
    atoms: tuple[float, ...] = ()
    nonfinite: tuple[str, ...] = ()

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> RealCodec:
        """CodecError for numbers that a double cannot hold."""
        options, where = dict(column.options), f"column {column.name!r}"
        sample = _doubles(profile.sample.drop_null())
        sample = np.sort(sample[np.isfinite(sample)])
        low, high = (0.0 if end is None else float(end) for end in (profile.minimum, profile.maximum))
        if max(abs(low), abs(high)) > 2.0**53 and column.kind == "integer":
            raise CodecError(f"{where}: whole numbers up to {high:.0f} are too large for a real number; "
                             "leave feature out, and set codec: digits")  # fmt: skip
        atoms = options.pop("atoms", None)
        found = tuple(_atoms(profile, sample) if atoms is None else sorted(float(a) for a in atoms))
        rest = sample[~np.isin(sample, found)]
        rest = rest if len(rest) else np.array([low, high])
        wanted = options.pop("range", (low, high))
        if not wanted[0] <= low <= high <= wanted[1]:
            raise CodecError(
                f"{where}: values lie between {low:g} and {high:g}, the schema says {list(wanted)}"
            )
        center, scale = float(rest.mean()), float(rest.std()) or 1.0
        quantiles = (np.quantile(rest, np.linspace(0, 1, QUANTILES)) - center) / scale
        step = 0.0 if profile.decimals is None else 10.0**-profile.decimals
        return cls(
            **books_of(column),
            feature=column.feature,
            options=options,
            low=float(wanted[0]),
            high=float(wanted[1]),
            step=step,
            center=center,
            scale=scale,
            quantiles=tuple(quantiles.tolist()),
            atoms=found,
            nonfinite=seen_specials(profile),
        )

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.float64)

    @property
    def specials(self) -> int:
        return len(self.nonfinite) + len(self.atoms)

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        missing, x = self._null_rows(array), _doubles(array)
        codes[:, 0] = self.there
        first = int(self.nullable)
        for k, name in enumerate(self.nonfinite):
            codes[rows_of(name, x), 0] = first + k
        first += len(self.nonfinite)
        for k, atom in enumerate(self.atoms):
            codes[x == atom, 0] = first + k
        if missing is not None:
            codes[missing, 0] = 0

    def cells(self, values: pa.Array | pa.ChunkedArray, *, unseen: str | None = None) -> Cells:
        array = self._typed(values)
        x = _doubles(array)
        special = np.isin(x, self.atoms) | (np.isnan(x) if array.null_count else False)
        for name in self.nonfinite:
            special |= rows_of(name, x)
        x = np.where(special, self.center, x)
        bad = ~special & ~((x >= self.low) & (x <= self.high))
        if bad.any() and (unseen not in ("nearest", "clip") or np.isnan(x[bad]).any()):
            raise self._outside(
                f"{int(bad.sum()):,} of {len(x):,} values such as {x[bad][0]:g} are outside {self.low:g} to "
                f"{self.high:g}"
            )
        return np.where(bad, x.clip(self.low, self.high), x)

    def restore(self, codes: np.ndarray, cells: Cells) -> pa.Array:
        x = np.array(cells, np.float64)
        first = int(self.nullable)
        table = [NON_FINITE[name] for name in self.nonfinite] + list(self.atoms)
        for k, value in enumerate(table):
            x[codes == first + k] = value
        kind = self.arrow_type
        if pa.types.is_integer(kind):
            array = pa.array(np.rint(x).astype(np.int64)).cast(kind)
        elif pa.types.is_decimal(kind):
            array = (
                pc.round(pa.array(x), kind.scale).cast(pa.decimal128(38, kind.scale), safe=False).cast(kind)
            )
        else:
            array = pa.array(self.rounded(x)).cast(kind)
        return with_missing(array, codes, self.nullable)

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """0.1 times a whole number is not always the double nearest to the decimal: divide instead."""
        return np.rint(x / self.step) / round(1 / self.step) + 0.0 if 0 < self.step <= 1 else x

    def every(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.step:
            width = (self.high - self.low) / most
            return self.low + width * (np.arange(most) + 0.5), np.full(most, width)
        first, last = round(self.low / self.step), round(self.high / self.step)
        if last - first >= most:
            return None
        line = self.rounded(np.arange(first, last + 1) * self.step)
        line = line[~np.isin(line, self.atoms)]
        return line, np.ones(len(line))

    def _params(self) -> dict[str, Any]:
        return {
            "feature": self.feature, "options": dict(self.options), "low": self.low, "high": self.high,
            "step": self.step, "center": self.center, "scale": self.scale, "quantiles": list(self.quantiles),
            "atoms": list(self.atoms), "nonfinite": list(self.nonfinite),
        }  # fmt: skip

    @classmethod
    def _restore(cls, books: dict[str, Any], params: Mapping[str, Any]) -> RealCodec:
        lists = {name: tuple(params[name]) for name in ("quantiles", "atoms", "nonfinite")}
        return cls(**books, **{**params, **lists})


def _doubles(array: pa.Array) -> np.ndarray:
    """float64, NaN where missing."""
    return array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def _atoms(profile: ColumnProfile, sample: np.ndarray) -> list[float]:
    values, counts = np.unique(sample, return_counts=True)
    if not len(values):
        return []
    usual = np.median(counts)
    spikes = (counts >= ATOM_SHARE * counts.sum()) & (counts > ATOM_EXCESS * usual)
    return [float(v) for v in values[spikes]]
