"""A fitted digits codec and the profile of another table enter; the codec leaves that holds the numbers of
both: the old cells stay where they are, and what lies beyond them gets cells of its own at the ends.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor, prod
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nemo_tabular.codecs.arrow_arrays import numbers, storage_number
from nemo_tabular.codecs.cells import adaptive, cut_wide, equal_width
from nemo_tabular.codecs.digits import DigitsCodec
from nemo_tabular.codecs.grid import DecimalGrid, FloatGrid, Grid, IntegerGrid
from nemo_tabular.codecs.specials import of_either, seen_specials
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile

D = TypeVar("D", bound=DigitsCodec)

ROWS_PER_CELL, MAX_CELLS = 16, 64
"""Beyond the old range: a cell for so many of the new table's rows, at most so many cells at either end."""


def extend_digits(codec: D, profile: ColumnProfile) -> D:
    """CodecError where the new numbers do not lie on the old lattice, or it cannot be made longer."""
    codec = replace(codec, specials=of_either(codec.specials, seen_specials(profile)))
    if profile.minimum is None:
        return codec
    grid = codec.grid
    assert grid is not None, "a codec without numbers is fitted anew"
    if isinstance(grid, DecimalGrid) and (profile.decimals is None or profile.decimals > grid.decimals):
        raise CodecError(
            f"column {codec.name!r}: {profile.decimals or 'more than 12'} decimals, where the model's table "
            f"has {grid.decimals}: round them, or rename the column, which begins it afresh"
        )
    values = _values_of(codec, profile)
    if isinstance(grid, IntegerGrid) and grid.step > 1 and len(off := _off(grid, values)):
        raise CodecError(
            f"column {codec.name!r}: {off[0]} is off the lattice of step {grid.step} that every value of the "
            "model's table is on: round the values, or rename the column, which begins it afresh"
        )
    low, high = (storage_number(v, codec.arrow_type) for v in (profile.minimum, profile.maximum))
    below, above = _points(grid, grid.minimum, low), _points(grid, high, grid.maximum)
    if not below and not above:
        return codec
    if codec.starts is None or (isinstance(grid, FloatGrid) and not grid.transform.linear):
        raise CodecError(
            f"column {codec.name!r}: [{low}, {high}] exceeds the model's range [{grid.minimum}, "
            f"{grid.maximum}], and this codec cannot be made wider: clip the values, or rename the column, "
            "which begins it afresh"
        )
    return _widened(codec, grid, values, profile.rows / max(1, len(profile.sample)), below, above)


def _points(grid: Grid, upper: float, lower: float) -> int:
    """Lattice points from `upper` down to `lower`, rounded up; 0 where it does not lie below."""
    if lower >= upper:
        return 0
    if isinstance(grid, IntegerGrid):
        return -((int(lower) - int(upper)) // grid.step)
    if isinstance(grid, DecimalGrid):
        return round(upper * 10**grid.decimals) - round(lower * 10**grid.decimals)
    ends = grid.transform.forward(np.array([lower, upper], np.float64))
    return floor((ends[1] - ends[0]) / grid.step) + 1


def _widened(codec: D, grid: Grid, values: np.ndarray, scale: float, below: int, above: int) -> D:
    """`scale`: rows of the table for each of `values`."""
    assert codec.starts is not None
    block = prod(codec.bases[1:])
    # Lower digits keep their meaning only where whole leading digits are put in front.
    below = max(below, block) if below else 0
    wider = _longer(codec, grid, below, above)
    inside = grid.last + 1 - len(codec._removed)
    positions = np.sort(wider.positions(values)).astype(np.int64)
    under = positions[positions < below]
    over = positions[positions > below + grid.last] - (below + grid.last + 1)
    whole = equal_width(below - 1, block) if below else []
    starts = (
        *(whole if block > 1 else _cells(under, below, scale)),
        *(start + below for start in codec.starts),
        *(start + below + inside for start in _cells(over, above, scale)),
    )
    bases = (-(-len(starts) // block), *codec.bases[1:])
    return replace(codec, grid=wider, starts=starts, bases=bases)


def _longer(codec: DigitsCodec, grid: Grid, below: int, above: int) -> Grid:
    last = grid.last + below + above
    if isinstance(grid, DecimalGrid):
        return replace(grid, lo=grid.lo - below, last=last)
    if isinstance(grid, FloatGrid):
        ends = np.array([grid.origin - below * grid.step, grid.origin + (grid.last + above) * grid.step])
        low, high = grid.transform.inverse(ends).tolist()
        return replace(
            grid,
            minimum=low if below else grid.minimum,
            maximum=high if above else grid.maximum,
            last=last,
        )
    wider = replace(grid, lo=grid.lo - below * grid.step, last=last)
    limits = np.iinfo(codec._dtype)
    if wider.minimum < limits.min or wider.maximum > limits.max:
        raise CodecError(
            f"column {codec.name!r}: {codec.type} has no room for further cells below {grid.minimum}: clip "
            "the values, or rename the column, which begins it afresh"
        )
    return wider


def _values_of(codec: DigitsCodec, profile: ColumnProfile) -> np.ndarray:
    """The finite numbers of the sample."""
    sample = profile.sample
    values = numbers(sample.cast(codec.arrow_type).drop_null())
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values


def _off(grid: IntegerGrid, values: np.ndarray) -> np.ndarray:
    """Those that lie between two lattice points."""
    return values[(values.astype(object) - grid.lo) % grid.step != 0]


def _cells(positions: np.ndarray, points: int, scale: float) -> list[int]:
    """Starts of the cells of a range of so many points beyond the old one."""
    if not points:
        return []
    wanted = int(np.clip(len(positions) * scale / ROWS_PER_CELL, 1, MAX_CELLS))
    if points <= wanted:
        return list(range(points))
    return cut_wide(adaptive(positions.astype(np.uint64), points - 1, wanted, wanted), points - 1)
