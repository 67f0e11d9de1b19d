"""A column's options and its profile enter; the lattice, spikes and cells of its digits codec leave.

Options
- `transform`: auto (default) | identity | robust | log1p | yeo-johnson | quantile: where the cells lie.
- `cells`: how many (default: from the number of rows). `base`: radix of the modelled digits.
- `code_len` (with `base`, NeMo's way): so many digits, all modelled, nothing left over.
- `accuracy`: step of a float lattice, in the column's units (after log1p and yeo-johnson: in transformed units).
- `step`: lattice of whole numbers; default the largest that divides all differences, if the whole table was looked at.
- `spikes`: auto (default) | how many at most | a list of values.
- `out_of_range`: error (default) | clip | missing | widen; `widen`: the share of the range added at both ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import numbers, storage_dtype, storage_number
from nemo_tabular.codecs.base import check_options
from nemo_tabular.codecs.cells import adaptive, cut_wide, equal_mass, equal_width, num_cells
from nemo_tabular.codecs.grid import DecimalGrid, FloatGrid, Grid, IntegerGrid
from nemo_tabular.codecs.specials import seen_specials
from nemo_tabular.codecs.transforms import TRANSFORMS, Identity, Log1p, Transform, robust_scale
from nemo_tabular.errors import CodecError, nearest

if TYPE_CHECKING:
    from nemo_tabular.codecs.digits import DigitsCodec
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

OPTIONS = (
    "transform", "cells", "base", "code_len", "accuracy", "step", "spikes", "out_of_range", "widen", "decimals",
)  # fmt: skip

MAX_SPIKES = 32
SPIKE_SHARE = 1 / 256
SPIKE_COUNT = 8
"""A value is a spike if it holds this share of the rows, and so many of them that it is no chance repetition."""

RELATIVE_ACCURACY = 1e-6
"""Default float step in robust scales: three orders below what any model here resolves."""

MAX_POSITIONS = 1 << 50
"""Float lattices are no finer: positions and their products stay exact in float64."""

MAX_CELLS = 32_768
MORE_CELLS = 4
"""So many times the default number of cells where they describe the column much better (prices, round numbers)."""

ONE_SLOT = 256
"""Up to so many cells are one slot; more are two balanced ones."""


@dataclass(frozen=True)
class _Numbers:
    """What the fit looks at: the column's finite sample and range, as storage numbers."""

    column: Column
    options: dict[str, Any]
    kind: pa.DataType
    sample: np.ndarray
    """Sorted."""
    minimum: int | float
    maximum: int | float
    complete: bool
    """The sample is the whole column."""
    decimals: int | None

    def error(self, text: str) -> CodecError:
        return CodecError(f"column {self.column.name!r}: {text}")

    def option(self, key: str, kind: type, low: float, high: float = float("inf")) -> Any:
        """A number among the options, or None; CodecError if it is none or out of bounds."""
        value = self.options.get(key)
        if value is None:
            return None
        good = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        if not good or (kind is int and value != int(value)):
            raise self.error(
                f"{key}: {value!r} must be {'a whole number' if kind is int else 'a number'} from {low}"
            )
        return kind(value)


def fit_digits(cls: type[DigitsCodec], column: Column, profile: ColumnProfile) -> DigitsCodec:
    """Grid, then spikes, then cells; CodecError if the options do not fit the column."""
    options = check_options(column, OPTIONS)
    out_of_range = options.get("out_of_range", "error")
    if out_of_range not in ("error", "clip", "missing", "widen"):
        raise CodecError(
            f"column {column.name!r}: out_of_range: {out_of_range} is not error, clip, missing or widen"
        )
    specials = seen_specials(profile)
    books: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "nullable": column.nullable
        or out_of_range == "missing"
        or (profile.minimum is None and not specials),
        "format": column.format,
        "specials": specials,
        "out_of_range": "error" if out_of_range == "widen" else out_of_range,
    }
    if profile.minimum is None:
        return cls(**books, grid=None)
    data = _numbers(column, options, profile)
    if options.get("code_len") is not None:
        grid, bases = _by_hand(data)
        return cls(**books, grid=grid, bases=bases)
    grid = _grid(data)
    spikes, rest = _spikes(data, grid)
    starts = _cells(data, grid, rest, spikes)
    return cls(**books, grid=grid, starts=tuple(starts), bases=_bases(data, len(starts)), spikes=spikes)


def _numbers(column: Column, options: dict[str, Any], profile: ColumnProfile) -> _Numbers:
    kind = profile_type(column)
    try:
        values = numbers(_plain(profile.sample, kind).drop_null())
        low, high = (storage_number(v, kind) for v in (profile.minimum, profile.maximum))
    except OverflowError as error:
        raise CodecError(f"column {column.name!r}: {error}; set codec: text, or a smaller scale") from error
    if pa.types.is_decimal(kind) and max(abs(low), abs(high)) >= 1 << 63:
        raise CodecError(
            f"column {column.name!r}: decimals beyond 63 bits at scale {kind.scale}; set codec: text"
        )
    complete = len(profile.sample) == profile.rows
    finite = np.sort(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    if len(finite):
        low, high = min(low, finite[0].item()), max(high, finite[-1].item())
    if not complete and getattr(kind, "unit", None) == "ns" and (finite % 1000).any():
        high += 999  # Python's times end at the microsecond, and so may the profile's maximum
    decimals = options.get("decimals", profile.decimals)
    return _widened(_Numbers(column, options, kind, finite, low, high, complete, decimals))


def profile_type(column: Column) -> pa.DataType:
    """The Arrow type that the codec of a column decodes to."""
    from nemo_tabular.codecs.arrow_arrays import arrow_type

    return arrow_type(column.type)


def _plain(sample: pa.Array, kind: pa.DataType) -> pa.Array:
    if isinstance(sample, pa.ChunkedArray):
        sample = pa.concat_arrays(sample.chunks) if sample.num_chunks else pa.array([], sample.type)
    if isinstance(sample, pa.DictionaryArray):
        sample = sample.dictionary_decode()
    return sample if sample.type == kind else sample.cast(kind)


def _widened(data: _Numbers) -> _Numbers:
    """The range with `widen` of it added at both ends, within what the type can hold."""
    share = data.option("widen", float, 0)
    if data.options.get("out_of_range") == "widen" and share is None:
        share = 0.1
    if not share:
        return data
    if isinstance(data.minimum, int) and isinstance(data.maximum, int):
        more = int(share * (data.maximum - data.minimum)) or 1
        bounds = np.iinfo(storage_dtype(data.kind))
        low, high = max(data.minimum - more, int(bounds.min)), min(data.maximum + more, int(bounds.max))
        return _replace(data, low, high)
    room = share * (data.maximum / 2 - data.minimum / 2) * 2 or abs(data.maximum) * share or share
    top = float(np.finfo(storage_dtype(data.kind)).max)
    low, high = max(data.minimum - room, -top), min(data.maximum + room, top)
    if data.decimals is not None:
        low, high = round(low, data.decimals), round(high, data.decimals)
    return _replace(data, low, high)


def _replace(data: _Numbers, low: int | float, high: int | float) -> _Numbers:
    from dataclasses import replace

    return replace(data, minimum=low, maximum=high)


# ---------------------------------------------------------------------- the lattice


def _exact_grid(data: _Numbers) -> Grid | None:
    """The column's own resolution, if it has one."""
    if data.kind in (pa.float16(), pa.float32(), pa.float64()):
        return None if data.options.get("accuracy") is not None else _decimal_grid(data)
    step = data.option("step", int, 1) or _common_step(data)
    lo, hi = int(data.minimum), int(data.maximum)
    return IntegerGrid(lo, (hi - lo) // step, step)


def _common_step(data: _Numbers) -> int:
    """Greatest common divisor of the differences: hundreds stay hundreds, whole seconds whole seconds.

    Only where every value was looked at, or for times, where a finer value is named at encode; anything else could
    refuse rows of the very table it was fitted on.
    """
    temporal = pa.types.is_temporal(data.kind)
    if not (data.complete or temporal) or len(data.sample) == 0:
        return 1
    if data.options.get("out_of_range") == "widen" or data.options.get("widen"):
        return 1
    signed = data.sample.astype(np.int64 if data.sample.dtype.kind == "i" else np.uint64)
    offset = signed.view(np.uint64) - np.uint64(int(data.minimum) % (1 << 64))
    offset = np.append(offset, np.uint64(int(data.maximum) - int(data.minimum)))
    return int(np.gcd.reduce(np.unique(offset))) or 1


def _decimal_grid(data: _Numbers) -> Grid | None:
    d = data.decimals
    low, high = float(data.minimum), float(data.maximum)
    if d is None or not DecimalGrid.fits(low, high, d, data.sample.dtype):
        return None
    first, end = round(Fraction(low) * 10**d), round(Fraction(high) * 10**d)
    grid = DecimalGrid(first, end - first, d)
    back = grid.values(grid.positions(data.sample), data.sample.dtype)
    return (
        grid if np.array_equal(back, data.sample) else None
    )


def _grid(data: _Numbers) -> Grid:
    exact = _exact_grid(data)
    if exact is not None:
        return exact
    low, high = float(data.minimum), float(data.maximum)
    transform = _float_transform(data, low, high)
    ends = transform.forward(np.array([low, high]))
    span = float(ends[1] - ends[0])
    accuracy = data.option("accuracy", float, 5e-324)
    if accuracy is None and transform.linear:
        accuracy = RELATIVE_ACCURACY * robust_scale(data.sample)
    elif accuracy is None:
        accuracy = RELATIVE_ACCURACY
    # No finer than the type itself is at the far end.
    digits = float(np.finfo(storage_dtype(data.kind)).eps) * (
        max(abs(low), abs(high)) if transform.linear else 1.0
    )
    step = max(accuracy, span / MAX_POSITIONS, 4 * digits if data.kind != pa.float64() else digits)
    if not span:
        return FloatGrid(low, high, 1.0, 0, transform)
    # Rounded, not up: the maximum must decode to a value that is coded by the same position.
    last = round(span / step)
    if transform.linear:
        return FloatGrid(low, high, step, last, transform)
    # A curved map may have no inverse beyond the maximum, so there the last position is the maximum.
    return FloatGrid(low, high, span / max(1, last), max(1, last), transform)


def _float_transform(data: _Numbers, low: float, high: float) -> Transform:
    """The space in which a float lattice is linear: by hand, or logarithmic for values of very many magnitudes."""
    name = _transform_name(data)
    if name in ("log1p", "yeo-johnson"):
        return TRANSFORMS[name].fit(data.sample)
    if name != "auto" or data.options.get("accuracy") is not None:
        return Identity()
    size = np.abs(data.sample[data.sample != 0])
    small = float(np.quantile(size, 0.01)) if len(size) else 1.0
    scale = robust_scale(data.sample)
    # A linear step would leave the small values less than two digits, or need too many positions for the large ones.
    many_magnitudes = small < 100 * RELATIVE_ACCURACY * scale or high / scale - low / scale > 1e12
    return Log1p.fit(data.sample) if many_magnitudes else Identity()


def _transform_name(data: _Numbers) -> str:
    name = str(data.options.get("transform") or "auto")
    if name != "auto" and name not in TRANSFORMS:
        known = ["auto", *TRANSFORMS]
        raise data.error(f"unknown transform {name!r}{nearest(name, known)}; there are {', '.join(known)}")
    return name


# ---------------------------------------------------------------------- spikes and cells


def _spikes(data: _Numbers, grid: Grid) -> tuple[tuple[int | float, ...], np.ndarray]:
    """Storage numbers with a token of their own, and the sorted positions of everything else."""
    positions = grid.positions(data.sample)
    wanted = data.options.get("spikes", "auto")
    wanted = MAX_SPIKES if wanted is True else 0 if wanted in (False, "none", None) else wanted
    if isinstance(wanted, list | tuple):
        chosen = np.array([storage_number(v, data.kind) for v in wanted], data.sample.dtype)
        if len(chosen) and (chosen.min() < data.minimum or chosen.max() > data.maximum):
            raise data.error(f"spikes: {wanted} lie outside the range [{data.minimum}, {data.maximum}]")
    elif wanted == 0 or (grid.exact and grid.last < _budget(data, len(positions))):
        return (), positions
    else:
        limit = MAX_SPIKES if wanted == "auto" else data.option("spikes", int, 0)
        values, counts = np.unique(data.sample, return_counts=True)
        often = counts >= max(SPIKE_COUNT, SPIKE_SHARE * len(data.sample))
        values, counts = values[often], counts[often]
        chosen = values[np.argsort(-counts, kind="stable")[:limit]]
    chosen = np.unique(chosen)
    if not grid.exact:  # two spikes within one step: the lattice cannot tell their neighbours apart
        chosen = chosen[np.unique(grid.positions(chosen), return_index=True)[1]] if len(chosen) else chosen
    return tuple(chosen.tolist()), positions[~np.isin(data.sample, chosen)]


def _budget(data: _Numbers, rows: int) -> int:
    cells = data.option("cells", int, 1, MAX_CELLS)
    return cells if cells is not None else max(num_cells(rows), 16)


def _cells(data: _Numbers, grid: Grid, rest: np.ndarray, spikes: tuple[int | float, ...]) -> list[int]:
    from nemo_tabular.codecs.digits import removed_positions

    removed = removed_positions(grid, np.array(spikes, data.sample.dtype))
    last = max(0, grid.last - len(removed))
    sample = rest - np.searchsorted(removed, rest).astype(rest.dtype)
    cells = _budget(data, len(sample))
    if last < cells:
        return list(range(last + 1))
    name = _transform_name(data)
    if name == "auto":
        most = cells if data.options.get("cells") is not None else max(cells, min(MORE_CELLS * cells, ONE_SLOT))
        return cut_wide(adaptive(sample, last, cells, most), last)
    if name == "quantile":
        return cut_wide(equal_mass(sample, last, cells), last)
    if name in ("identity", "robust") or isinstance(grid, FloatGrid):
        return cut_wide(equal_width(last, cells), last)
    return cut_wide(
        _equal_width_after(TRANSFORMS[name].fit(_sample_floats(data)), data, grid, last, cells), last
    )


def _sample_floats(data: _Numbers) -> np.ndarray:
    return data.sample.astype(np.float64)


def _equal_width_after(transform: Transform, data: _Numbers, grid: Grid, last: int, cells: int) -> list[int]:
    """Starts on an exact lattice of cells that have equal width in the transformed space."""
    low, high = transform.forward(np.array([data.minimum, data.maximum], np.float64))
    edges = transform.inverse(low + (high - low) * np.arange(1, cells) / cells)
    share = (edges - float(data.minimum)) / (float(data.maximum) - float(data.minimum))
    return sorted({0, *(min(last, max(0, round(float(s) * last))) for s in share)})


def _bases(data: _Numbers, cells: int) -> tuple[int, ...]:
    """Radix of each modelled slot, the leading one no larger than the cells need."""
    base = data.option("base", int, 2, 65_000)
    if base is None:
        base = cells if cells <= ONE_SLOT else int(np.ceil(cells**0.5))
    bases: list[int] = []
    while not bases or cells > 1:
        bases.append(min(base, max(1, cells)))
        cells = -(-cells // base)
    return tuple(reversed(bases))


# ---------------------------------------------------------------------- by hand, as in NeMo


def _by_hand(data: _Numbers) -> tuple[Grid, tuple[int, ...]]:
    """base ** code_len levels, all modelled: exact where they suffice, the finest even steps where they do not."""
    code_len = data.option("code_len", int, 1, 64)
    base = data.option("base", int, 2, 65_000)
    if data.options.get("spikes") not in (None, "none", False, 0) or data.options.get("cells") is not None:
        raise data.error("spikes and cells need room of their own: leave out code_len, or leave them out")
    exact = _exact_grid(data)
    if base is None and exact is None:
        raise data.error("code_len needs a base for numbers without a resolution; set base, e.g. base: 100")
    if base is None:
        assert exact is not None
        base = next(
            b
            for b in range(max(2, int((exact.last + 1) ** (1 / code_len)) - 1), 1 << 63)
            if b**code_len > exact.last
        )
    levels = base**code_len
    if exact is not None and exact.last < levels:
        return exact, _digits_needed(exact.last + 1, base, code_len)
    if exact is not None and data.sample.dtype.kind != "f":
        need = next(n for n in range(code_len, 65) if base**n > exact.last)
        raise data.error(
            f"code_len too small: [{data.minimum}, {data.maximum}] has {exact.last + 1:,} values, "
            f"{code_len} digits of base {base} hold {levels:,}; set code_len: {need}, or leave out base and code_len"
        )
    return _levels_grid(data, levels, base), _digits_needed(levels, base, code_len)


def _digits_needed(levels: int, base: int, code_len: int) -> tuple[int, ...]:
    """code_len radices; the leading ones no larger than the levels need."""
    return tuple(max(1, min(base, -(-levels // base**k))) for k in reversed(range(code_len)))


def _levels_grid(data: _Numbers, levels: int, base: int) -> FloatGrid:
    """`levels` float positions under the transform by hand, or under the best one measured."""
    low, high, name = float(data.minimum), float(data.maximum), _transform_name(data)
    levels = min(levels, MAX_POSITIONS)
    names = ["identity", "log1p", "yeo-johnson", "quantile"] if name == "auto" else [name]
    grids = [_levels(low, high, levels, TRANSFORMS[n].fit(data.sample)) for n in names]
    return min(grids, key=lambda grid: _levels_cost(grid, data.sample, base))


def _levels(low: float, high: float, levels: int, transform: Transform) -> FloatGrid:
    ends = transform.forward(np.array([low, high]))
    span = float(ends[1] - ends[0])
    return FloatGrid(low, high, span / (levels - 1) if span else 1.0, levels - 1 if span else 0, transform)


def _levels_cost(grid: FloatGrid, sample: np.ndarray, base: int) -> float:
    """Log mean error, less the nats that the leading digit tells: small error at a digit that always is 0 is no use."""
    few = sample[:: max(1, len(sample) // 10_000)]
    positions = grid.positions(few)
    error = np.abs(grid.values(positions, np.dtype(np.float64)) - few).mean()
    lead = np.bincount((positions.astype(np.float64) * base / (grid.last + 1)).astype(int)) / len(few)
    entropy = -(lead[lead > 0] * np.log(lead[lead > 0])).sum()
    return float(np.log(error + 1e-300) - entropy)
