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

MOST_VALUES = 65_536
"""The search looks at about so many distinct values, evenly drawn from the sorted sample.

On 37 columns the mean held-out log density was the same as with 262,144, and that of the worst smooth one
0.0025 nats a row less.
"""


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
    distinct = 1 + np.count_nonzero(sample[1:] != sample[:-1])
    sample = sample[:: -(-distinct // MOST_VALUES)]
    search = _Search.of(sample, last, cells)
    open_cells: list[tuple[float, _Cell, int]] = []
    closed: list[_Cell] = []

    def add(cell: _Cell) -> None:
        gain, edge = search.best_split(cell)
        if gain > 0:
            heapq.heappush(open_cells, (-gain, cell, edge))
        else:
            closed.append(cell)

    add((0, len(search.edges) - 1))
    while open_cells and (count := len(open_cells) + len(closed)) < most:
        if count >= cells and -open_cells[0][0] < WORTH * len(sample):
            break
        _, (first, end), edge = heapq.heappop(open_cells)
        add((first, edge))
        add((edge, end))
    return sorted(int(search.edges[first]) for first, _ in closed + [cell for _, cell, _ in open_cells])


_Cell = tuple[int, int]
"""Which of the search's edges a cell lies between."""


@dataclass(frozen=True, eq=False)
class _Search:
    """All edges that a cell may have, rising, the lattice's two ends among them."""

    edges: np.ndarray
    below: np.ndarray
    """Rows of the sample below each edge."""
    price: np.ndarray
    """Nats that a split there must gain."""
    least_rows: float

    @classmethod
    def of(cls, sample: np.ndarray, last: int, cells: int) -> _Search:
        """Edges right before and after each value, and midway between two."""
        values, counts = np.unique(sample, return_counts=True)
        before, rows = values.astype(np.float64), np.cumsum(counts).astype(np.float64)
        after = before + 1
        middle = after.copy()
        middle[:-1] = np.floor((after[:-1] + before[1:]) / 2)
        hugs = np.ones(len(rows), bool)
        hugs[:-1] = after[:-1] < middle[:-1]
        edges = np.stack([before, after, middle], axis=1).ravel()
        below = np.stack([rows - counts, rows, rows], axis=1).ravel()
        price = SPLIT_PRICE + HUG_PRICE * np.stack([np.ones(len(rows)), hugs, np.zeros(len(rows))], axis=1)
        keep = (np.diff(edges, prepend=0.0) > 0) & (edges < float(last + 1))
        return cls(
            edges=np.concatenate([[0.0], edges[keep], [float(last + 1)]]),
            below=np.concatenate([[0.0], below[keep], rows[-1:]]),
            price=np.concatenate([[0.0], price.ravel()[keep], [0.0]]),
            least_rows=max(LEAST_ROWS, LEAST_SHARE * len(sample) / cells),
        )

    def best_split(self, cell: _Cell) -> tuple[float, int]:
        """What the edge that pays most gains, and which it is; a gain of 0 or less is not worth a split."""
        first, end = cell
        if first + 1 == end:
            return 0.0, first
        pays = self._gain(first, end)
        best = int(pays.argmax())
        return float(pays[best]), first + 1 + best

    def _gain(self, first: int, end: int) -> np.ndarray:
        """Likelihood gained beyond its price, plus evenness gained; -inf for cells with too few rows."""
        at = slice(first + 1, end)
        rows, total = self.below[end] - self.below[first], self.below[-1]
        left, left_width = self.below[at] - self.below[first], self.edges[at] - self.edges[first]
        right, right_width = rows - left, self.edges[end] - self.edges[at]
        likelihood = _log_density(left, left_width) + _log_density(right, right_width)
        likelihood -= _log_density(rows, self.edges[end] - self.edges[first])
        fewer = np.minimum(left, right)
        gap = fewer == 0
        # A gap is found among all spacings of the sample, so chance makes long ones: 2 log N more.
        price = self.price[at] + gap * (2 * np.log(total))
        # BALANCE / total**2 times rows**3 - left**3 - right**3, which is 3 rows left right
        evenness = left * right * (3 * BALANCE * rows / total**2)
        pays = np.maximum(likelihood - price, 0) + evenness
        pays[(fewer < self.least_rows) & ~gap] = -np.inf
        return pays


def _log_density(rows: np.ndarray, width: np.ndarray) -> np.ndarray:
    """rows log(rows / width), 0 where there are none."""
    return rows * np.log(np.maximum(rows, 1) / width)
