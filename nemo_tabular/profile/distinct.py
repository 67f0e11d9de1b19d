"""Exact counts of distinct values over a stream of batches, given up beyond a cap.

Enters the distinct values of each batch with their counts; leaves those of the whole stream. Batches are
pooled and merged seldom, so that a merge costs little per row.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MOST_BYTES = 64 << 20
"""Distinct texts are also given up beyond this many bytes, so that a column of essays stays small."""
_POOL = 4  # times the cap: how many values are pooled before they are merged
_SMALL_RANGE = 1 << 16


class WordCounter:
    """Counts distinct texts, in the order of their first occurrence; `overflown` once there are too many."""

    def __init__(self, cap: int) -> None:
        self.overflown = False
        self._longest = 0
        self._cap = cap
        self._words: list[pa.Array] = []
        self._counts: list[np.ndarray] = []
        self._pooled = self._bytes = 0

    def add(self, words: pa.Array, counts: np.ndarray) -> None:
        """Add a batch's distinct texts; once there were too many, only their length counts."""
        if not len(words):
            return
        if self.overflown:
            self._longest = max(self._longest, _bytes_of_longest(words))
            return
        self._words.append(words)
        self._counts.append(counts)
        self._pooled += len(words)
        self._bytes += words.nbytes
        if len(words) > self._cap or self._pooled > _POOL * self._cap or self._bytes > MOST_BYTES:
            self._merge()

    def result(self) -> tuple[pa.Array, np.ndarray]:
        """(distinct texts, int64 counts); of an overflown counter, those seen until then."""
        if not self._words:
            return pa.array([], pa.string()), np.array([], np.int64)
        self._merge()
        return self._words[0], self._counts[0]

    def max_bytes(self) -> int:
        """Of the longest text there was, in UTF-8."""
        self.result()
        return self._longest

    def _merge(self) -> None:
        if len(self._words) > 1:
            encoded = pa.concat_arrays(self._words).dictionary_encode()
            counts = np.zeros(len(encoded.dictionary), np.int64)
            np.add.at(counts, encoded.indices.to_numpy(), np.concatenate(self._counts))
            self._words, self._counts = [encoded.dictionary], [counts]
        self._longest = max(self._longest, _bytes_of_longest(self._words[0]))
        self._pooled, self._bytes = len(self._words[0]), self._words[0].nbytes
        self.overflown = self.overflown or self._pooled > self._cap or 2 * self._bytes > MOST_BYTES


def _bytes_of_longest(words: pa.Array) -> int:
    return pc.max(pc.binary_length(words)).as_py() or 0


class NumberCounter:
    """Counts distinct numbers; values of a small range by counting, others by hashing."""

    def __init__(self, cap: int) -> None:
        self.overflown = False
        self._cap = cap
        self._pool: list[tuple[np.ndarray, np.ndarray]] = []
        self._pooled = 0

    def add(self, x: np.ndarray, low: Any, high: Any) -> None:
        """Count a batch of finite numbers between low and high; does nothing once there were too many."""
        if self.overflown:
            return
        values, counts = _small_range_counts(x, low, high)
        if values is None:
            counted = pc.value_counts(pa.array(x))
            values, counts = counted.field(0).to_numpy(), counted.field(1).to_numpy()
        self._pool.append((values, counts))
        self._pooled += len(values)
        if len(values) > self._cap or self._pooled > _POOL * self._cap:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray] | None:
        """(sorted distinct numbers, counts), or None when there are too many."""
        if not self._pool:
            return np.array([]), np.array([], np.int64)
        if not self.overflown:
            self._merge()
        return None if self.overflown else self._pool[0]

    def _merge(self) -> None:
        values, where = np.unique(np.concatenate([v for v, _ in self._pool]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, where, np.concatenate([c for _, c in self._pool]))
        self.overflown = len(values) > self._cap
        self._pool, self._pooled = [(values, counts)], len(values)


def word_counts(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct texts of a string or dictionary array and how often each occurs; nulls are not counted."""
    if not pa.types.is_dictionary(values.type):
        values = values.dictionary_encode()
    words, indices = values.dictionary, values.indices
    if indices.null_count:  # as one word more, which is cheaper than leaving them out
        indices = indices.fill_null(len(words))
    counts = np.bincount(indices.to_numpy(), minlength=len(words))[: len(words)]
    if not counts.all():
        used = np.flatnonzero(counts)
        return words.take(pa.array(used)), counts[used]
    return words, counts


def _small_range_counts(x: np.ndarray, low: Any, high: Any) -> tuple[Any, Any]:
    """Distinct integers and counts, three times cheaper than by hashing; (None, None) if spread out."""
    if x.dtype.kind not in "iu" or int(high) - int(low) >= min(_SMALL_RANGE, 4 * len(x)):
        return None, None
    counts = np.bincount((x - low).astype(np.int64, copy=False))
    found = np.flatnonzero(counts)
    return found.astype(x.dtype) + x.dtype.type(low), counts[found]
