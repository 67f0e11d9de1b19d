"""A sorted sample of lattice positions enters; a partition of the lattice 0 .. last into cells leaves.

The network models which cell; within a cell every lattice point is equally likely. The cells are the density.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

MAX_WIDTH = 1 << 62
"""Cells are cut to this, so that a width is an int64."""

BALANCE = 25.0
"""Price of uneven cells, in nats per (share of rows)**3: what a cell hides of the other columns' influence.

A density that tilts by s nats per unit of rank loses s**2 / 24 times the cube of the share; s = 25 is a
column that follows another one closely. On 40 columns 12 to 50 differed by 0.003 nats a row.
"""

SPLIT_PRICE = 8.0
"""Nats that a split must gain on the sample: what the best of hundreds of edges gains on noise."""

LEAST_SHARE = 0.06
"""A cell holds at least this share of an average cell's rows, unless it is an empty gap."""

LEAST_ROWS = 4
WORTH = 5e-4
"""Nats a row that a cell beyond the ordinary number must gain."""

HUG_PRICE = 1.0
"""An edge that touches a value needs this much more gain than one midway between two."""


def num_cells(rows: int) -> int:
    """The default number of cells: the power of two near 0.7 sqrt(rows), 16 to 1024 (128 for 32,561 rows)."""
    wanted = 0.7 * max(rows, 1) ** 0.5
    return int(np.clip(2 ** round(float(np.log2(max(wanted, 1)))), 16, 1024))


def equal_width(last: int, cells: int) -> list[int]:
    """Starts of cells of equal width, up to one lattice point."""
    cells = min(cells, last + 1)
    return [j * (last + 1) // cells for j in range(cells)]


def equal_mass(sample: np.ndarray, last: int, cells: int) -> list[int]:
    """Starts of cells with equal shares of the sorted sample; ties make fewer and fuller cells."""
    if len(sample) == 0:
        return [0]
    order = np.arange(1, cells) * len(sample) // cells
    return sorted({0, *(int(v) for v in sample[order])})


def cut_wide(starts: list[int], last: int) -> list[int]:
    """Starts, with cells wider than an int64 can say cut in equal parts."""
    ends = [*starts[1:], last + 1]
    out: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        parts = -(-(end - start) // MAX_WIDTH)
        out += [start + k * (end - start) // parts for k in range(parts)]
    return out


def adaptive(sample: np.ndarray, last: int, cells: int, most: int) -> list[int]:
    """Starts of cells, split greedily where it pays most: `cells` of them, `most` where each is worth it.

    A split pays the likelihood that it gains (heavy tails, gaps, several modes, values that repeat) and the
    evenness that it gains; on a smooth column that makes cells of equal mass, finer where the density bends.
    """
    if len(sample) == 0:
        return [0]
    search = _Search.of(sample, cells)
    open_cells: list[tuple[float, _Cell, _Split]] = []
    closed: list[int] = []

    def add(cell: _Cell) -> None:
        split = search.best_split(cell)
        if split is None:
            closed.append(int(cell.start))
        else:
            heapq.heappush(open_cells, (-split.gain, cell, split))

    add(_Cell(0.0, float(last + 1), 0, len(search.values)))
    while open_cells and (count := len(open_cells) + len(closed)) < most:
        gain, cell, split = heapq.heappop(open_cells)
        if count >= cells and -gain < WORTH * len(sample):
            heapq.heappush(open_cells, (gain, cell, split))
            break
        add(_Cell(cell.start, split.edge, cell.first, split.index))
        add(_Cell(split.edge, cell.end, split.index, cell.stop))
    return sorted(closed + [int(cell.start) for _, cell, _ in open_cells])


@dataclass(frozen=True, order=True)
class _Cell:
    """Positions start .. end-1, and which of the distinct values lie in it."""

    start: float
    end: float
    first: int
    stop: int


@dataclass(frozen=True, order=True)
class _Split:
    gain: float
    edge: float
    index: int
    """First distinct value at or after the edge."""


@dataclass(frozen=True, eq=False)
class _Search:
    """The sample's distinct positions, as floats, and how many rows lie below each."""

    values: np.ndarray
    below: np.ndarray
    least_rows: float

    @classmethod
    def of(cls, sample: np.ndarray, cells: int) -> _Search:
        values, counts = np.unique(sample, return_counts=True)
        below = np.concatenate([[0], np.cumsum(counts)]).astype(np.float64)
        return cls(values.astype(np.float64), below, max(LEAST_ROWS, LEAST_SHARE * len(sample) / cells))

    def best_split(self, cell: _Cell) -> _Split | None:
        """The edge that pays most, or None if none pays."""
        edges, index, hugs = self._candidates(cell)
        inside = (edges > cell.start) & (edges < cell.end)
        edges, index, hugs = edges[inside], index[inside], hugs[inside]
        if not len(edges):
            return None
        rows = self.below[cell.stop] - self.below[cell.first]
        left = self.below[index] - self.below[cell.first]
        pays = self._gain(rows, left, cell.end - cell.start, edges - cell.start, hugs)
        best = int(np.argmax(pays))
        return _Split(float(pays[best]), float(edges[best]), int(index[best])) if pays[best] > 0 else None

    def _candidates(self, cell: _Cell) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges between neighbouring values, and right before and after each value; which touch one."""
        values = self.values[cell.first : cell.stop]
        index = np.arange(cell.first, cell.stop + 1)
        after = np.concatenate([[cell.start], values + 1])
        before = np.concatenate([values, [cell.end]])
        middle = np.floor((after + before) / 2)[1:-1]
        edges = np.concatenate([middle, before[:-1], after[1:]])
        touches = np.arange(len(edges)) >= len(middle)
        return edges, np.concatenate([index[1:-1], index[:-1], index[1:]]), touches

    def _gain(
        self, rows: float, left: np.ndarray, width: float, left_width: np.ndarray, hugs: np.ndarray
    ) -> np.ndarray:
        """Likelihood gained beyond its price, plus evenness gained; -inf for cells with too few rows."""
        right, total = rows - left, self.below[-1]
        likelihood = _log_density(left, left_width) + _log_density(right, width - left_width)
        likelihood -= rows * np.log(rows / width) if rows else 0.0
        gap = (left == 0) | (right == 0)
        # A gap is found among all spacings of the sample, so chance makes long ones: 2 log N more.
        price = SPLIT_PRICE + hugs * HUG_PRICE + gap * 2 * np.log(total)
        uneven = rows**3 - left**3 - right**3
        evenness = np.where(gap, 0, BALANCE * uneven / total**2)
        pays = np.maximum(likelihood - price, 0) + evenness
        return np.where(~gap & (np.minimum(left, right) < self.least_rows), -np.inf, pays)


def _log_density(rows: np.ndarray, width: np.ndarray) -> np.ndarray:
    """rows log(rows / width), 0 where there are none."""
    return rows * np.log(np.maximum(rows, 1) / width)
