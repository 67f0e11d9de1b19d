"""Numbers enter; a code for each special value, or the digits of a cell and the remainder within it, leave.

value -> position on the column's exact integer lattice (grid.py) -> cell of a monotone partition (cells.py)
-> base-B digits, most significant first. The first slot: missing, nan, inf, -inf, spikes, leading digit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import array_of, numbers, python_value, storage_dtype
from nemo_tabular.codecs.base import Codec, Slot
from nemo_tabular.codecs.grid import FloatGrid, Grid, grid_from_json
from nemo_tabular.codecs.locate import Locator
from nemo_tabular.codecs.specials import NON_FINITE, all_finite, rows_of
from nemo_tabular.errors import CodecError

RESIDUAL_BITS = 10
"""Residual slots are digits of base 1024: shifts and masks; few ids, so a vocabulary stays 16 bits wide."""

POLICIES = ("error", "clip", "missing")


@dataclass(frozen=True, eq=False, kw_only=True)
class DigitsCodec(Codec):
    """Numbers as digits; made by `fit` (see digits_fit.py for the options and the choices it makes).

    `starts` are the cells' first positions on the lattice without the spikes; None: one cell a position, so
    that the digits are those of the position itself and nothing is left over.
    """

    codec: ClassVar[str] = "digits"

    grid: Grid | None
    """None if no finite value was seen: there are only special codes then."""
    starts: tuple[int, ...] | None = None
    bases: tuple[int, ...] = ()
    """Radix of each modelled slot, most significant first."""
    specials: tuple[str, ...] = ()
    spikes: tuple[int | float, ...] = ()
    """Storage numbers with a token of their own, rising."""
    out_of_range: str = "error"

    @classmethod
    def fit(cls, column: Any, profile: Any) -> DigitsCodec:
        """See digits_fit.fit_digits."""
        from nemo_tabular.codecs.digits_fit import fit_digits

        return fit_digits(cls, column, profile)

    def extended(self, column: Any, profile: Any) -> Self:
        """With further cells for what lies beyond the range; see digits_extend.py."""
        from nemo_tabular.codecs.digits_extend import extend_digits

        if self.grid is None:
            fitted = self.fit(column, profile)
            return replace(fitted, nullable=fitted.nullable or self.nullable)  # type: ignore[return-value]
        return extend_digits(super().extended(column, profile), profile)

    def _meanings(self) -> dict[str, list[Hashable]]:
        """A cell, or the cells of a leading digit, by the value that they begin with."""
        own: list[Hashable] = [*self.specials, *(("spike", value) for value in self.spikes)]
        if self.grid is None or self.starts is None:
            return super()._meanings() if self.grid is not None else {"lead": own}
        cells = np.arange(0, len(self.starts), prod(self.bases[1:]), dtype=np.int32)
        positions = self._positions_of(np.zeros((len(cells), len(self.slots)), np.int32), cells)
        lows = self.grid.values(np.minimum(positions, np.uint64(self.grid.last)), self._dtype)
        # nine digits: those of a float lattice are not the same to the last bit when it was made longer
        lead = [f"from {low:.9g}" if lows.dtype.kind == "f" else f"from {low}" for low in lows.tolist()]
        named: dict[str, list[Hashable]] = {"lead": [*own, *lead]}
        for place, base in reversed(list(enumerate(reversed(self.bases[1:])))):
            named[f"digit {place} of base {base}"] = list(range(base))
        return named

    # ------------------------------------------------------------------ shape

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Modelled digits, then residual digits as many as the widest cell needs."""
        if self.grid is None:
            return (Slot(self._num_special),)
        modelled = [Slot(size + (self._num_special if k == 0 else 0)) for k, size in enumerate(self.bases)]
        return (*modelled, *(Slot(size, residual=True) for size in self._residual_sizes))

    def places(self, slot: int) -> np.ndarray:
        """Digits in their order; spikes are values, which may mean something by themselves."""
        first = self._num_special if slot == 0 else 0
        digits = self.slots[slot].size - first
        return np.concatenate([np.full(first, np.nan), (np.arange(digits) + 0.5) / max(digits, 1)])

    @property
    def rising(self) -> bool:
        """Where no value has a token of its own."""
        return self.grid is not None and self._num_special == 0

    @cached_property
    def _residual_sizes(self) -> tuple[int, ...]:
        rest = int(self._widths.max()) - 1
        sizes: list[int] = []
        while rest:
            sizes.append(min(rest, (1 << RESIDUAL_BITS) - 1) + 1)
            rest >>= RESIDUAL_BITS
        return tuple(reversed(sizes))

    @property
    def _first_spike(self) -> int:
        return int(self.nullable) + len(self.specials)

    @property
    def _num_special(self) -> int:
        return self._first_spike + len(self.spikes)

    @cached_property
    def _dtype(self) -> np.dtype:
        return storage_dtype(self.arrow_type)

    # ------------------------------------------------------------------ the lattice without the spikes

    @cached_property
    def _spike_positions(self) -> np.ndarray:
        """Positions of the spikes; uint64."""
        if self.grid is None or not self.spikes:
            return np.zeros(0, np.uint64)
        return self.grid.positions(np.array(self.spikes, self._dtype)).astype(np.uint64)

    @cached_property
    def _removed(self) -> np.ndarray:
        """Positions taken out of the lattice, because what rounds to them is the spike; uint64."""
        assert self.grid is not None
        return removed_positions(self.grid, np.array(self.spikes, self._dtype)).astype(np.uint64)

    @cached_property
    def _cell_starts(self) -> np.ndarray:
        """First position of each cell on the lattice without the removed positions; uint64."""
        assert self.starts is not None
        return np.array(self.starts, np.uint64)

    @cached_property
    def _widths(self) -> np.ndarray:
        """Positions in each cell; int64. One entry of 1 for pure digits."""
        if self.grid is None or self.starts is None:
            return np.ones(1, np.int64)
        ends = [*self.starts[1:], self.grid.last + 1 - len(self._removed)]
        return np.array([max(1, b - a) for a, b in zip(self.starts, ends, strict=True)], np.int64)

    @property
    def num_cells(self) -> int:
        """Cells that exist; digit codes beyond them decode as the last one."""
        if self.grid is None:
            return 0
        return self.grid.last + 1 if self.starts is None else len(self.starts)

    # ------------------------------------------------------------------ encode

    @cached_property
    def _intervals(self) -> tuple[Locator, np.ndarray, np.ndarray, np.ndarray]:
        """Locator over cells and spikes; per interval: codes of the modelled slots, base of the residual,
        spike or -1.
        """
        assert self.grid is not None
        removed, spikes = self._removed, self._spike_positions
        shift = np.searchsorted(
            removed - np.arange(len(removed), dtype=np.uint64), self._cell_starts, side="right"
        )
        cell_starts = self._cell_starts + shift.astype(np.uint64)
        points = np.unique(np.concatenate([[np.uint64(0)], cell_starts, spikes, spikes + np.uint64(1)]))
        points = points[points <= np.uint64(self.grid.last)]
        before = np.searchsorted(removed, points).astype(np.uint64)
        cell = np.searchsorted(self._cell_starts, points - before, side="right") - 1
        codes = self._digit_codes(cell)
        base = self._cell_starts[cell] + before
        spike = np.where(np.isin(points, spikes), np.searchsorted(spikes, points), -1)
        sure = np.isin(points, removed)
        codes[sure] = 0
        codes[sure, 0] = self._first_spike + spike[sure]
        base[sure] = points[sure]
        spike[sure] = -1
        narrow = np.uint32 if self.grid.last < 1 << 32 else np.uint64
        return Locator(points, self.grid.last), np.asfortranarray(codes), base.astype(narrow), spike

    def _digit_codes(self, cell: np.ndarray) -> np.ndarray:
        """int32 codes (len(cell), modelled slots) of cell numbers."""
        codes = np.empty((len(cell), len(self.bases)), np.int32, order="F")
        rest = cell
        for k in range(len(self.bases) - 1, 0, -1):
            higher = rest // rest.dtype.type(self.bases[k])
            codes[:, k] = rest - higher * rest.dtype.type(self.bases[k])
            rest = higher
        codes[:, 0] = rest
        codes[:, 0] += self._num_special
        return codes

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        values = self._storage(array)
        overrides = self._special_rows(array, values)
        if self.grid is not None:
            values, mended = self._within_range(array, values, overrides, policy)
            positions = self.grid.positions(values)
            self._refuse_strays(array, values, positions, overrides)
            self._encode_positions(values, positions, codes)
            overrides = overrides + mended
        elif len(array) and sum(len(rows) for _, rows in overrides) < len(array):
            raise CodecError(
                f"column {self.name!r}: no number was seen at fit; refit on a table that has some"
            )
        for code, rows in overrides:
            codes[rows] = 0
            codes[rows, 0] = code

    def _encode_positions(self, values: np.ndarray, positions: np.ndarray, codes: np.ndarray) -> None:
        modelled = len(self.bases)
        if self.starts is None:
            codes[:, :modelled] = self._digit_codes(positions)
            return
        locator, interval_codes, base, spike = self._intervals
        found = locator.find(positions)
        for k in range(modelled):
            np.take(interval_codes[:, k], found, out=codes[:, k], mode="clip")
        rest = positions - base.take(found, mode="clip")
        for k in range(codes.shape[1] - 1, modelled - 1, -1):
            codes[:, k] = rest & rest.dtype.type((1 << RESIDUAL_BITS) - 1)
            rest >>= rest.dtype.type(RESIDUAL_BITS)
        if len(self.spikes) > len(self._removed):
            near = np.flatnonzero(spike.take(found) >= 0)
            which = spike[found[near]]
            same = values[near] == np.array(self.spikes, self._dtype)[which]
            codes[near[same]] = 0
            codes[near[same], 0] = self._first_spike + which[same]

    # ------------------------------------------------------------------ what is no ordinary value

    def _storage(self, array: pa.Array) -> np.ndarray:
        try:
            return numbers(array)
        except OverflowError as error:
            raise CodecError(f"column {self.name!r}: {error}; refit with codec: text") from error

    def _special_rows(self, array: pa.Array, values: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(code, rows) of what is missing or no finite number."""
        missing = self._null_rows(array)
        # numbers, not a mask: they are few, and each use of a mask looks at every row
        found = [] if missing is None else [(0, np.flatnonzero(missing))]
        if values.dtype.kind != "f" or all_finite(values):
            return found
        for name in NON_FINITE:
            rows = rows_of(name, values)
            rows = rows if missing is None else rows & ~missing
            if not rows.any():
                continue
            if name not in self.specials:
                raise CodecError(
                    f"column {self.name!r}: {int(rows.sum()):,} of {len(array):,} values are {name}, and "
                    "none was at fit; refit on a table that has some, or make them missing"
                )
            found.append((int(self.nullable) + self.specials.index(name), np.flatnonzero(rows)))
        return found

    def _within_range(
        self, array: pa.Array, values: np.ndarray, overrides: list[tuple[int, np.ndarray]], policy: str | None
    ) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
        """Values with every row inside the fitted range, and what the policy makes missing."""
        assert self.grid is not None
        low, high = (np.array(bound, self._dtype) for bound in (self.grid.minimum, self.grid.maximum))
        if overrides:
            values = values.copy()
            for _, rows in overrides:
                values[rows] = low
        if len(values) == 0 or (values.min() >= low and values.max() <= high):
            return values, []
        outside = (values < low) | (values > high)
        policy = self._policy("clip" if policy == "nearest" else policy, self.out_of_range, POLICIES)
        if policy == "clip":
            return np.clip(values, low, high), []
        if policy == "missing" and self.nullable:
            return np.where(outside, low, values), [(0, np.flatnonzero(outside))]
        first = array.filter(pa.array(outside))[0]
        raise CodecError(
            f"column {self.name!r}: {100 * outside.mean():.3g} % of values exceed the fitted range "
            f"[{python_value(low.item(), self.arrow_type)}, {python_value(high.item(), self.arrow_type)}] "
            f"(first: {first}); refit, or set out_of_range: clip"
        )

    def _refuse_strays(
        self,
        array: pa.Array,
        values: np.ndarray,
        positions: np.ndarray,
        overrides: list[tuple[int, np.ndarray]],
    ) -> None:
        """Whole numbers between two lattice points would be changed by coding them."""
        step = getattr(self.grid, "step", 1)
        if self._dtype.kind == "f" or step == 1:
            return
        stray = self.grid.values(positions, self._dtype) != values  # type: ignore[union-attr]
        for _, rows in overrides:
            stray[rows] = False
        if stray.any():
            raise CodecError(
                f"column {self.name!r}: {array.filter(pa.array(stray))[0]} is off the lattice of step "
                f"{step} that every value at fit was on ({int(stray.sum()):,} of {len(array):,} values); "
                "refit, or set step: 1"
            )

    # ------------------------------------------------------------------ decode

    def _cells_of(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Cell of each row (0 where special) and the mask of the rows that have one."""
        lead = codes[:, 0]
        ordinary = lead >= self._num_special
        wide: Any = np.uint64 if prod(self.bases) > 1 << 31 else np.int32
        cell = np.where(ordinary, lead - self._num_special, 0).astype(wide)
        for k in range(1, len(self.bases)):
            cell = cell * wide(self.bases[k]) + codes[:, k].astype(wide)
        cell = np.minimum(cell, wide(min(self.num_cells - 1, np.iinfo(wide).max)))
        return cell if ordinary.all() else np.where(ordinary, cell, wide(0)), ordinary

    def _positions_of(self, codes: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """Lattice positions, residual included."""
        if self.starts is None:
            return cell.astype(np.uint64)
        modelled = len(self.bases)
        positions = self._cell_starts.take(cell)
        if codes.shape[1] > modelled:
            rest = codes[:, modelled].astype(np.uint64)
            for k in range(modelled + 1, codes.shape[1]):
                rest = (rest << np.uint64(RESIDUAL_BITS)) | codes[:, k].astype(np.uint64)
            positions += np.minimum(rest, (self._widths - 1).astype(np.uint64).take(cell))
        if len(self._removed):
            gaps = self._removed - np.arange(len(self._removed), dtype=np.uint64)
            positions += np.searchsorted(gaps, positions, side="right").astype(np.uint64)
        return positions

    def _decode(self, codes: np.ndarray) -> pa.Array:
        if self.grid is None:
            values, ordinary = np.zeros(len(codes), self._dtype), np.zeros(len(codes), bool)
        else:
            cell, ordinary = self._cells_of(codes)
            # A lattice that is all spikes has no position left for its one cell.
            positions = np.minimum(self._positions_of(codes, cell), np.uint64(self.grid.last))
            values = self.grid.values(positions, self._dtype)
        missing = None
        if not ordinary.all():
            lead = codes[:, 0]
            values[~ordinary] = self._special_values.take(lead[~ordinary])
            missing = lead == 0 if self.nullable else None
        return array_of(values, missing, self.arrow_type)

    @cached_property
    def _special_values(self) -> np.ndarray:
        """Storage number of each special code (0 under missing)."""
        return np.array(
            [*[0] * int(self.nullable), *(NON_FINITE[s] for s in self.specials), *self.spikes], self._dtype
        )

    # ------------------------------------------------------------------ the uniform remainder

    def widths(self, codes: np.ndarray) -> np.ndarray:
        """Lattice points of the cell; 1 for special codes and pure digits."""
        if self.grid is None or self.starts is None:
            return np.ones(len(codes), np.int64)
        cell, ordinary = self._cells_of(codes)
        return np.where(ordinary, self._widths.take(cell), 1)

    def fill_residual(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """Residual floor(u * width): every lattice point of cells narrower than 2**53 can be drawn."""
        codes = codes.astype(np.int32)
        if len(self.slots) == len(self.bases) or self.grid is None:
            return codes
        width = self.widths(codes)
        rest = np.minimum((uniforms * width).astype(np.int64), width - 1)
        for k in range(codes.shape[1] - 1, len(self.bases) - 1, -1):
            codes[:, k] = rest & ((1 << RESIDUAL_BITS) - 1)
            rest >>= RESIDUAL_BITS
        return codes

    def half_step(self, values: pa.Array) -> np.ndarray | None:
        """Largest error allowed at each value; None where they come back exactly."""
        return self.grid.half_steps(numbers(values)) if isinstance(self.grid, FloatGrid) else None

    # ------------------------------------------------------------------ JSON

    def _params(self) -> dict[str, Any]:
        return {
            "grid": None if self.grid is None else self.grid.to_json(),
            "starts": None if self.starts is None else list(self.starts),
            "bases": list(self.bases),
            "specials": list(self.specials),
            "spikes": list(self.spikes),
            "out_of_range": self.out_of_range,
        }

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> DigitsCodec:
        lists = {k: tuple(params[k]) for k in ("bases", "specials", "spikes")}
        grid = None if params["grid"] is None else grid_from_json(params["grid"])
        starts = None if params["starts"] is None else tuple(params["starts"])
        return cls(**books, **(params | lists | {"grid": grid, "starts": starts}))


def removed_positions(grid: Grid, spikes: np.ndarray) -> np.ndarray:
    """Positions of those (rising) spikes that lie on a lattice point; elsewhere others round there."""
    if not len(spikes):
        return np.zeros(0, np.uint64)
    positions = grid.positions(spikes)
    return positions[grid.values(positions, spikes.dtype) == spikes]
