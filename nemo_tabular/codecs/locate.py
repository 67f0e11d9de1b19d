"""Lattice positions enter; the interval that holds each leaves: one gather where binary search takes many."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

TABLE_BITS = 16
"""A table of 2**16 entries of 2 bytes stays in the second-level cache."""


@dataclass(frozen=True, eq=False)
class Locator:
    """Intervals [starts[i], starts[i+1]) that tile 0 .. last; `starts` rises from 0, fewer than 65,536."""

    starts: np.ndarray
    last: int

    @cached_property
    def _shift(self) -> int:
        return max(0, self.last.bit_length() - TABLE_BITS)

    @cached_property
    def _edges(self) -> np.ndarray:
        """Starts after the first, in the positions' own type."""
        return self.starts[1:].astype(np.uint32 if self.last < 1 << 32 else np.uint64)

    @cached_property
    def _first_of_bucket(self) -> np.ndarray:
        """For each bucket of 2**shift positions, the interval of its first position."""
        buckets = np.arange((self.last >> self._shift) + 1, dtype=np.uint64) << np.uint64(self._shift)
        return np.searchsorted(self._edges, buckets.astype(self._edges.dtype), side="right").astype(np.uint16)

    @cached_property
    def _steps(self) -> list[int]:
        """Halving steps of the search within a bucket, for the bucket with the most edges."""
        lowest = self._first_of_bucket.astype(np.int64)
        most = int(np.diff(lowest, append=len(self._edges)).max())
        return [1 << k for k in reversed(range(most.bit_length()))]

    @cached_property
    def _padded(self) -> np.ndarray:
        """Edges with room to look past the end."""
        top = np.iinfo(self._edges.dtype).max
        return np.concatenate([self._edges, np.full(1 + sum(self._steps), top, self._edges.dtype)])

    def find(self, positions: np.ndarray) -> np.ndarray:
        """Interval of each position, as an index array."""
        if not len(self._edges):
            return np.zeros(len(positions), np.intp)
        buckets = positions >> positions.dtype.type(self._shift) if self._shift else positions
        found = self._first_of_bucket.take(buckets.astype(np.intp, copy=False), mode="clip").astype(np.intp)
        for step in self._steps:
            # `step - 1` further edges are skipped exactly if the last of them is at or below the position.
            reached = self._padded.take(found + (step - 1), mode="clip") <= positions
            found += reached * np.intp(step)
        return np.minimum(found, len(self._edges))  # the sentinels equal the largest position there is
