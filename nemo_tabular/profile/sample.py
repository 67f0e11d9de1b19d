"""A uniform sample of a stream of rows, the same however the rows were split into batches.

Enters record batches; leaves the rows of the lowest hashes of (seed, row number), in row order.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(seed: int, numbers: np.ndarray) -> np.ndarray:
    """uint64 hash of each number (Steele, Lea and Flood 2014), in a stream of its own for each seed."""
    with np.errstate(over="ignore"):
        start = _mix(np.array([seed & 0xFFFFFFFFFFFFFFFF], np.uint64) + _GOLDEN)
        return _mix(numbers.astype(np.uint64) * _GOLDEN + start)


def _mix(z: np.ndarray) -> np.ndarray:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class RowSample:
    """Bottom-k sample of rows, without replacement; all rows while there are at most k.

    Rows are hashed only once there are more of them than wanted: one hash a row, whatever the columns.
    """

    def __init__(self, wanted: int, seed: int) -> None:
        self.seen = 0
        self._wanted, self._seed = wanted, seed
        self._held: list[pa.RecordBatch] = []
        self._numbers: list[np.ndarray] = []
        self._rows = 0
        self._highest: np.uint64 | None = None

    def update(self, batch: pa.RecordBatch) -> None:
        """Take in the next rows of the table."""
        numbers = np.arange(self.seen, self.seen + batch.num_rows, dtype=np.int64)
        self.seen += batch.num_rows
        if self._highest is not None:
            low = np.flatnonzero(splitmix64(self._seed, numbers) <= self._highest)
            batch, numbers = batch.take(pa.array(low)), numbers[low]
        self._held.append(batch)
        self._numbers.append(numbers)
        self._rows += batch.num_rows
        if self._rows > 2 * self._wanted:
            self._compact()

    def table(self) -> pa.Table:
        """The sample; columns that came as dictionaries are plain."""
        if self._rows > self._wanted:
            self._compact()
        table = pa.Table.from_batches(self._held)
        plain = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in table.columns]
        return pa.Table.from_arrays(plain, names=table.column_names)

    def _compact(self) -> None:
        numbers = np.concatenate(self._numbers)
        hashes = splitmix64(self._seed, numbers)
        self._highest = np.partition(hashes, self._wanted - 1)[self._wanted - 1]
        chosen = hashes <= self._highest  # no two numbers have the same hash
        table = pa.Table.from_batches(self._held).unify_dictionaries().filter(pa.array(chosen))
        self._held = _with_used_words(table.combine_chunks()).to_batches()
        self._numbers, self._rows = [numbers[chosen]], self._wanted


def _with_used_words(table: pa.Table) -> pa.Table:
    """Dictionaries without the words that no sampled row uses, so that they do not grow with the table."""
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type) and len(column.chunk(0).dictionary) > len(column):
            column = pc.dictionary_encode(column.cast(column.type.value_type))
        columns.append(column)
    return pa.Table.from_arrays(columns, names=table.column_names)
