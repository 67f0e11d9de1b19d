"""A sorted sample of lattice positions enters; a partition of the lattice 0 .. last into cells leaves.

The network models which cell; within a cell every lattice point is equally likely. So the cells are the density.
"""

from __future__ import annotations

import numpy as np

MAX_WIDTH = 1 << 62
"""Cells are cut to this, so that a width is an int64."""


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


def adaptive(sample: np.ndarray, last: int, cells: int) -> list[int]:
    """For now: equal mass."""
    return equal_mass(sample, last, cells)


def cut_wide(starts: list[int], last: int) -> list[int]:
    """Starts, with cells wider than an int64 can say cut in equal parts."""
    ends = [*starts[1:], last + 1]
    out: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        parts = -(-(end - start) // MAX_WIDTH)
        out += [start + k * (end - start) // parts for k in range(parts)]
    return out
