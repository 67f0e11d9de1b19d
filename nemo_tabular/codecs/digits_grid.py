"""A numeric column's options and profile enter; the integer lattice that its numbers lie on leaves.

Whole numbers and fixed decimals have one of their own; other floats get one of a stated step.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import arrow_type, numbers, storage_dtype, storage_number
from nemo_tabular.codecs.grid import DecimalGrid, FloatGrid, Grid, IntegerGrid
from nemo_tabular.codecs.transforms import TRANSFORMS, Identity, Log1p, Transform, robust_scale
from nemo_tabular.errors import CodecError, nearest

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

RELATIVE_ACCURACY = 1e-6
"""Default float step in robust scales: three orders below what any model here resolves."""

MAX_POSITIONS = 1 << 50
"""Float lattices are no finer: positions and their products stay exact in float64."""

WIDEN = 0.1
"""Share of the range that out_of_range: widen adds at both ends, unless `widen` says how much."""


@dataclass(frozen=True)
class ColumnNumbers:
    """What the fit looks at: the column's options, finite sample and range, as storage numbers."""

    name: str
    options: dict[str, Any]
    kind: pa.DataType
    sample: np.ndarray
    """Sorted."""
    minimum: int | float
    maximum: int | float
    rows: int
    """Finite values of the whole column."""
    complete: bool
    """The sample is the whole column."""
    decimals: int | None

    def error(self, text: str) -> CodecError:
        """A CodecError that names the column."""
        return CodecError(f"column {self.name!r}: {text}")

    def option(self, key: str, kind: type, low: float, high: float = float("inf")) -> Any:
        """A number among the options, or None; CodecError if it is none or out of bounds."""
        value = self.options.get(key)
        if value is None:
            return None
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not good or (kind is int and value != int(value)):
            word = "a whole number" if kind is int else "a number"
            bounds = f"of at least {low:g}" if high == float("inf") else f"from {low:g} to {high:g}"
            raise self.error(f"{key}: {value!r} must be {word} {bounds}")
        return kind(value)

    @property
    def transform(self) -> str:
        """The name of the transform; CodecError if there is none of that name."""
        name = str(self.options.get("transform") or "auto")
        if name != "auto" and name not in TRANSFORMS:
            known = ["auto", *TRANSFORMS]
            raise self.error(
                f"unknown transform {name!r}{nearest(name, known)}; there are {', '.join(known)}"
            )
        return name


def column_numbers(column: Column, options: dict[str, Any], profile: ColumnProfile) -> ColumnNumbers:
    """CodecError for decimals that do not fit int64."""
    kind = arrow_type(column.type)
    try:
        values = numbers(_plain(profile.sample, kind).drop_null())
        low, high = (storage_number(v, kind) for v in (profile.minimum, profile.maximum))
    except OverflowError as error:
        raise CodecError(f"column {column.name!r}: {error}; set codec: text, or a smaller scale") from error
    if pa.types.is_decimal(kind) and max(abs(low), abs(high)) >= 1 << 63:
        raise CodecError(
            f"column {column.name!r}: decimals beyond 63 bits at scale {kind.scale}; set codec: text"
        )
    finite = np.sort(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    complete = len(profile.sample) == profile.rows
    if len(finite):
        low, high = min(low, finite[0].item()), max(high, finite[-1].item())
    if not complete and getattr(kind, "unit", None) == "ns" and (finite % 1000).any():
        high += 999  # Python's times end at the microsecond, and so may the profile's maximum
    rows = profile.rows - profile.missing - profile.nan - profile.posinf - profile.neginf
    decimals = options.get("decimals", profile.decimals)
    data = ColumnNumbers(column.name, options, kind, finite, low, high, rows, complete, decimals)
    return _widened(data)


def _plain(sample: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(sample, pa.ChunkedArray):
        sample = pa.concat_arrays(sample.chunks) if sample.num_chunks else pa.array([], sample.type)
    if isinstance(sample, pa.DictionaryArray):
        sample = sample.dictionary_decode()
    return sample if sample.type == kind else sample.cast(kind)


def _widened(data: ColumnNumbers) -> ColumnNumbers:
    """The range with `widen` of it added at both ends, within what the type can hold."""
    share = data.option("widen", float, 0)
    if data.options.get("out_of_range") == "widen" and share is None:
        share = WIDEN
    if not share:
        return data
    low, high = data.minimum, data.maximum
    if isinstance(low, int) and isinstance(high, int):
        more, bounds = int(share * (high - low)) or 1, np.iinfo(storage_dtype(data.kind))
        return replace(
            data, minimum=max(low - more, int(bounds.min)), maximum=min(high + more, int(bounds.max))
        )
    room = share * (high / 2 - low / 2) * 2 or abs(high) * share or share
    top = float(np.finfo(storage_dtype(data.kind)).max)
    low, high = max(low - room, -top), min(high + room, top)
    if data.decimals is not None:
        low, high = round(low, data.decimals), round(high, data.decimals)
    return replace(data, minimum=low, maximum=high)


def exact_grid(data: ColumnNumbers) -> Grid | None:
    """The column's own resolution, if it has one."""
    if pa.types.is_floating(data.kind):
        return None if data.options.get("accuracy") is not None else _decimal_grid(data)
    step = data.option("step", int, 1) or _common_step(data)
    low, high = int(data.minimum), int(data.maximum)
    return IntegerGrid(low, (high - low) // step, step)


def _common_step(data: ColumnNumbers) -> int:
    """Greatest common divisor of the differences: hundreds stay hundreds, whole seconds whole seconds.

    Only where every value was looked at, or for times, where encoding names a finer value and the way out;
    anything else could refuse rows of the very table it was fitted on.
    """
    if not (data.complete or pa.types.is_temporal(data.kind)) or len(data.sample) == 0:
        return 1
    if data.options.get("out_of_range") == "widen" or data.options.get("widen"):
        return 1
    signed = data.sample.astype(np.int64 if data.sample.dtype.kind == "i" else np.uint64)
    offset = signed.view(np.uint64) - np.uint64(int(data.minimum) % (1 << 64))
    offset = np.append(offset, np.uint64(int(data.maximum) - int(data.minimum)))
    return int(np.gcd.reduce(np.unique(offset))) or 1


def _decimal_grid(data: ColumnNumbers) -> Grid | None:
    places = data.decimals
    low, high = float(data.minimum), float(data.maximum)
    if places is None or not DecimalGrid.fits(low, high, places, data.sample.dtype):
        return None
    first, end = round(Fraction(low) * 10**places), round(Fraction(high) * 10**places)
    grid = DecimalGrid(first, end - first, places)
    back = grid.values(grid.positions(data.sample), data.sample.dtype)
    return grid if np.array_equal(back, data.sample) else None


def choose_grid(data: ColumnNumbers) -> Grid:
    """The column's own lattice, or one of the stated accuracy."""
    exact = exact_grid(data)
    if exact is not None:
        return exact
    low, high = float(data.minimum), float(data.maximum)
    transform = _float_transform(data, low, high)
    first, end = transform.forward(np.array([low, high])).tolist()
    span = end - first
    if not np.isfinite(span):
        raise data.error(f"[{low}, {high}] is too wide for even steps; set transform: log1p")
    if not span:
        return FloatGrid(low, high, 1.0, 0, transform)
    step = _float_step(data, transform, low, high, span)
    # Rounded, not up: the maximum must decode to a value that is coded by the same position.
    last = round(span / step)
    if transform.linear:
        return FloatGrid(low, high, step, last, transform)
    # A curved map may have no inverse beyond the maximum, so there the last position is the maximum.
    return FloatGrid(low, high, span / max(1, last), max(1, last), transform)


ULPS = 4
"""Of the type that a step spans where values are rounded on their way to the grid and back."""


def _float_step(data: ColumnNumbers, transform: Transform, low: float, high: float, span: float) -> float:
    """The accuracy asked for or the default, but no finer than the type is at the far end."""
    accuracy = data.option("accuracy", float, 5e-324)
    if accuracy is None:
        accuracy = RELATIVE_ACCURACY * (robust_scale(data.sample) if transform.linear else 1.0)
    eps, ends = float(np.finfo(storage_dtype(data.kind)).eps), np.array([low, high])
    if transform.linear:
        digits = eps * float(np.abs(ends).max())
    else:
        apart = np.abs(transform.forward(ends) - transform.forward(ends * (1 - eps)))
        digits = max(eps, float(apart.max()))
    exact = transform.linear and data.kind == pa.float64()  # a curved map and its inverse lose some digits
    return max(accuracy, span / MAX_POSITIONS, digits if exact else ULPS * digits)


def _float_transform(data: ColumnNumbers, low: float, high: float) -> Transform:
    """The space in which a float lattice is linear: by hand, or logarithmic for very many magnitudes."""
    name = data.transform
    if name in ("log1p", "yeo-johnson"):
        return TRANSFORMS[name].fit(data.sample)
    if name != "auto" or data.options.get("accuracy") is not None:
        return Identity()
    size = np.abs(data.sample[data.sample != 0])
    small = float(np.quantile(size, 0.01)) if len(size) else 1.0
    scale = robust_scale(data.sample)
    # A linear step would leave the small values less than two digits, or the large ones too many positions.
    fine = small >= 100 * RELATIVE_ACCURACY * scale and high / scale - low / scale < 1e12
    if fine and np.isfinite(high - low):
        return Identity()
    # Without a change of sign, relative accuracy down to the least value; with one, even steps around zero.
    least = max(low, -high)
    return Log1p(max(least, 1e-300)) if least > 0 else Log1p.fit(data.sample)
