"""A column's options and its profile enter; the lattice, spikes and cells of its digits codec leave.

Options
- `transform`: auto (default) | identity | robust | log1p | yeo-johnson | quantile: where the cells lie.
- `cells`: how many (default: from the number of rows). `base`: radix of the modelled digits.
- `code_len` (with `base`, NeMo's way): so many digits, all modelled, nothing left over.
- `accuracy`: step of a float lattice, in the column's units (log1p, yeo-johnson: in transformed units).
- `decimals`: a float column's resolution, where the profile's is not wanted.
- `step`: lattice of whole numbers; default the largest that divides all differences, if all were looked at.
- `spikes`: auto (default) | how many at most | a list of values.
- `out_of_range`: error (default) | clip | missing | widen; `widen`: share of the range added at both ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import arrow_type, storage_number
from nemo_tabular.codecs.base import books_of, check_options
from nemo_tabular.codecs.cells import adaptive, cut_wide, equal_mass, equal_width, num_cells
from nemo_tabular.codecs.digits import DigitsCodec, removed_positions
from nemo_tabular.codecs.digits_grid import (
    MAX_POSITIONS,
    ColumnNumbers,
    choose_grid,
    column_numbers,
    exact_grid,
)
from nemo_tabular.codecs.grid import FloatGrid, Grid
from nemo_tabular.codecs.specials import seen_specials
from nemo_tabular.codecs.transforms import TRANSFORMS, Transform
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

OPTIONS = (
    "transform", "cells", "base", "code_len", "accuracy", "decimals", "step", "spikes", "out_of_range",
    "widen",
)  # fmt: skip
OUT_OF_RANGE = ("error", "clip", "missing", "widen")

MAX_SPIKES = 32
SPIKE_SHARE = 1 / 256
SPIKE_COUNT = 8
"""A value is a spike if it holds this share of the rows, and so many that it is no chance repetition."""

MAX_CELLS = 32_768
MAX_BASE = 65_000

ONE_SLOT = 256
"""Up to so many cells are one slot; more are two balanced ones."""

MORE_CELLS = 4
"""So many times the default number of cells where they describe the column much better (prices, round
numbers).
"""


def fit_digits(cls: type[DigitsCodec], column: Column, profile: ColumnProfile) -> DigitsCodec:
    """Grid, then spikes, then cells; CodecError if the options do not fit the column."""
    options = check_options(column, OPTIONS)
    out_of_range = options.get("out_of_range", "error")
    if out_of_range not in OUT_OF_RANGE:
        raise CodecError(
            f"column {column.name!r}: out_of_range: {out_of_range} is not one of {', '.join(OUT_OF_RANGE)}"
        )
    kind = arrow_type(column.type)
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)) or pa.types.is_boolean(kind):
        raise CodecError(f"column {column.name!r}: {kind} is no number; set codec: category or codec: text")
    specials = seen_specials(profile)
    nothing = profile.minimum is None and not specials
    books = books_of(column, nullable=out_of_range == "missing" or nothing)
    books |= {"specials": specials, "out_of_range": "error" if out_of_range == "widen" else out_of_range}
    if profile.minimum is None:
        return cls(**books, grid=None)
    data = column_numbers(column, options, profile)
    if options.get("code_len") is not None:
        grid, bases = _by_hand(data)
        return cls(**books, grid=grid, bases=bases)
    grid = choose_grid(data)
    spikes, rest = _spikes(data, grid)
    starts = _cells(data, grid, rest, spikes)
    return cls(**books, grid=grid, starts=tuple(starts), bases=_bases(data, len(starts)), spikes=spikes)


# ---------------------------------------------------------------------- spikes and cells


def _spikes(data: ColumnNumbers, grid: Grid) -> tuple[tuple[int | float, ...], np.ndarray]:
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
        limit = MAX_SPIKES if wanted == "auto" else data.option("spikes", int, 0, MAX_BASE)
        chosen = _frequent(data.sample, limit)
    chosen = np.unique(chosen)
    if len(chosen) and not grid.exact:  # of two spikes within one step only one is told from its neighbours
        chosen = chosen[np.unique(grid.positions(chosen), return_index=True)[1]]
    return tuple(chosen.tolist()), positions[~np.isin(data.sample, chosen)]


def _frequent(sample: np.ndarray, limit: int) -> np.ndarray:
    """The values that repeat most, at most `limit`."""
    values, counts = np.unique(sample, return_counts=True)
    often = counts >= max(SPIKE_COUNT, SPIKE_SHARE * len(sample))
    values, counts = values[often], counts[often]
    return values[np.argsort(-counts, kind="stable")[:limit]]


def _budget(data: ColumnNumbers, rows: int) -> int:
    """Cells asked for, or by the rows of the whole column that are no spikes."""
    cells = data.option("cells", int, 1, MAX_CELLS)
    if cells is not None:
        return cells
    return num_cells(rows * data.rows // max(1, len(data.sample)))


def _cells(data: ColumnNumbers, grid: Grid, rest: np.ndarray, spikes: tuple[int | float, ...]) -> list[int]:
    """Starts of the cells on the lattice without the spikes."""
    removed = removed_positions(grid, np.array(spikes, data.sample.dtype))
    last = max(0, grid.last - len(removed))
    sample = rest - np.searchsorted(removed, rest).astype(rest.dtype)
    cells = _budget(data, len(sample))
    if last < cells:
        return list(range(last + 1))
    return cut_wide(_partition(data, grid, sample, last, cells), last)


def _partition(data: ColumnNumbers, grid: Grid, sample: np.ndarray, last: int, cells: int) -> list[int]:
    name = data.transform
    if name == "auto":
        if data.options.get("cells") is not None:
            return adaptive(sample, last, cells, cells)
        return adaptive(sample, last, cells, max(cells, min(MORE_CELLS * cells, ONE_SLOT)))
    if name == "quantile":
        return equal_mass(sample, last, cells)
    if name in ("identity", "robust") or isinstance(grid, FloatGrid):
        return equal_width(last, cells)
    return _equal_width_after(TRANSFORMS[name].fit(data.sample.astype(np.float64)), data, last, cells)


def _equal_width_after(transform: Transform, data: ColumnNumbers, last: int, cells: int) -> list[int]:
    """Starts on an exact lattice of cells that have equal width in the transformed space."""
    low, high = transform.forward(np.array([data.minimum, data.maximum], np.float64))
    edges = transform.inverse(low + (high - low) * np.arange(1, cells) / cells)
    share = (edges - float(data.minimum)) / (float(data.maximum) - float(data.minimum))
    return sorted({0, *(min(last, max(0, round(float(s) * last))) for s in share)})


def _bases(data: ColumnNumbers, cells: int) -> tuple[int, ...]:
    """Radix of each modelled slot, the leading one no larger than the cells need."""
    base = data.option("base", int, 2, MAX_BASE)
    if base is None:
        base = cells if cells <= ONE_SLOT else int(np.ceil(cells**0.5))
    bases: list[int] = []
    while not bases or cells > 1:
        bases.append(min(base, max(1, cells)))
        cells = -(-cells // base)
    return tuple(reversed(bases))


# ---------------------------------------------------------------------- by hand, as in NeMo


def _by_hand(data: ColumnNumbers) -> tuple[Grid, tuple[int, ...]]:
    """base ** code_len levels, all modelled: exact where they suffice, the finest steps where they do not."""
    code_len = data.option("code_len", int, 1, 64)
    base = data.option("base", int, 2, MAX_BASE)
    if data.options.get("spikes") not in (None, "none", False, 0) or data.options.get("cells") is not None:
        raise data.error("spikes and cells need room of their own: leave out code_len, or leave them out")
    exact = exact_grid(data)
    if base is None and exact is None:
        raise data.error("code_len needs a base for numbers without a resolution; set base, e.g. base: 100")
    if base is None:
        assert exact is not None
        base = next(b for b in range(2, 1 << 63) if b**code_len > exact.last)
    levels = base**code_len
    if exact is not None and exact.last < levels:
        return exact, _digits_needed(exact.last + 1, base, code_len)
    if exact is not None and data.sample.dtype.kind != "f":
        need = next(n for n in range(code_len, 65) if base**n > exact.last)
        raise data.error(
            f"code_len too small: [{data.minimum}, {data.maximum}] has {exact.last + 1:,} values, {code_len} "
            f"digits of base {base} hold {levels:,}; set code_len: {need}, or leave out base and code_len"
        )
    return _levels_grid(data, levels, base), _digits_needed(levels, base, code_len)


def _digits_needed(levels: int, base: int, code_len: int) -> tuple[int, ...]:
    """code_len radices; the leading ones no larger than the levels need."""
    return tuple(max(1, min(base, -(-levels // base**k))) for k in reversed(range(code_len)))


def _levels_grid(data: ColumnNumbers, levels: int, base: int) -> FloatGrid:
    """`levels` float positions under the transform by hand, or under the best one measured."""
    low, high, name = float(data.minimum), float(data.maximum), data.transform
    levels = min(levels, MAX_POSITIONS)
    names = ["identity", "log1p", "yeo-johnson", "quantile"] if name == "auto" else [name]
    grids = [_levels(low, high, levels, TRANSFORMS[n].fit(data.sample)) for n in names]
    return min(grids, key=lambda grid: _levels_cost(grid, data.sample, base))


def _levels(low: float, high: float, levels: int, transform: Transform) -> FloatGrid:
    ends = transform.forward(np.array([low, high]))
    span = float(ends[1] - ends[0])
    if not span or levels < 2:
        return FloatGrid(low, high, 1.0, 0, transform)
    return FloatGrid(low, high, span / (levels - 1), levels - 1, transform)


def _levels_cost(grid: FloatGrid, sample: np.ndarray, base: int) -> float:
    """Log mean error, less the nats that the leading digit tells: a digit that is always 0 is of no use."""
    few = sample[:: max(1, len(sample) // 10_000)]
    positions = grid.positions(few)
    error = np.abs(grid.values(positions, np.dtype(np.float64)) - few).mean()
    lead = np.bincount((positions.astype(np.float64) * base / (grid.last + 1)).astype(int)) / len(few)
    entropy = -(lead[lead > 0] * np.log(lead[lead > 0])).sum()
    return float(np.log(error + 1e-300) - entropy)
