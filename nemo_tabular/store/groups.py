"""Batches of a table in any order come in; the same rows leave, each group's together and in order.
A table that is in order already streams through; any other is spread over files and sorted file by file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.types as pat

from nemo_tabular.profile import splitmix64
from nemo_tabular.schema import Schema

BUCKET_BYTES = 64 << 20  # Arrow bytes sorted in memory at a time; sorting needs about three times as much
MAX_BUCKETS = 256  # files open at once
MAX_RUNS = 1 << 24  # borders of groups remembered while looking whether the groups are together: 128 MB


def row_hash(batch: pa.RecordBatch, names: Iterable[str]) -> np.ndarray:
    """uint64 (rows,) of the named columns' values: the same for the same values, in any batch of any run."""
    out = np.zeros(batch.num_rows, np.uint64)
    for name in names:
        out = splitmix64(0, out ^ _hash(batch.column(name)))
    return out


def _hash(values: pa.Array) -> np.ndarray:
    if pat.is_dictionary(values.type):
        of_value = np.append(_hash(values.dictionary), np.uint64(0))
        return of_value[values.indices.fill_null(len(values.dictionary)).to_numpy(zero_copy_only=False)]
    missing = values.is_null().to_numpy(zero_copy_only=False)
    if pat.is_integer(values.type):
        numbers = values.fill_null(0).to_numpy(zero_copy_only=False)
        codes = splitmix64(0, numbers.astype(np.int64).view(np.uint64))
    else:
        codes = _text_hash(values.cast(pa.large_string()))
    return np.where(missing, np.uint64(0), codes)


def _text_hash(values: pa.Array) -> np.ndarray:
    """A polynomial in an odd base over each text's bytes, modulo 2**64, then mixed."""
    _, offset_buffer, data_buffer = values.buffers()
    ends = np.frombuffer(offset_buffer, np.int64)[values.offset : values.offset + len(values) + 1]
    lengths = np.diff(ends)
    if not lengths.any():
        return splitmix64(0, np.zeros(len(values), np.uint64))
    data = np.frombuffer(data_buffer, np.uint8)[ends[0] : ends[-1]].astype(np.uint64)
    base = np.full(int(lengths.max()), 0xD1342543DE82EF95, np.uint64)
    powers = np.cumprod(base, dtype=np.uint64)
    place = np.arange(len(data)) - np.repeat(ends[:-1] - ends[0], lengths)
    sums = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum((data + np.uint64(1)) * powers[place], dtype=np.uint64)]
    )
    return splitmix64(0, sums[ends[1:] - ends[0]] - sums[ends[:-1] - ends[0]])


def group_starts(hashes: np.ndarray, previous: np.uint64 | None) -> np.ndarray:
    """bool (rows,): the row begins a group; `previous` is the last hash of the batch before."""
    starts = np.empty(len(hashes), bool)
    starts[0] = previous is None or hashes[0] != previous
    np.not_equal(hashes[1:], hashes[:-1], out=starts[1:])
    return starts


class DocumentOrder:
    """Sees all batches once, then hands them out with each group's rows together and in order."""

    def __init__(self, schema: Schema) -> None:
        self.group_by, self.order_by = list(schema.group_by), list(schema.order_by)
        self.in_order = True
        self.first: np.uint64 | None = None
        """Hash of the group of the table's first row."""
        self.bytes = 0
        self._runs: list[np.ndarray] = []
        self._num_runs = 0
        self._last: pa.RecordBatch | None = None

    def watch(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches; notes where groups begin, and whether all is in order, as they pass."""
        for batch in batches:
            self._see(batch)
            yield batch

    def _see(self, batch: pa.RecordBatch) -> None:
        self.bytes += batch.nbytes
        if not self.in_order or not batch.num_rows:
            return
        keys = batch.select(self.group_by + [n for n in self.order_by if n not in self.group_by])
        with_last = pa.concat_batches([self._last, keys]) if self._last is not None else keys
        hashes = row_hash(with_last, self.group_by)
        starts = group_starts(hashes, None)
        self.first = hashes[0] if self.first is None else self.first
        self._runs.append(hashes[starts][0 if self._last is None else 1 :])
        self._num_runs += len(self._runs[-1])
        self._last = keys.slice(batch.num_rows - 1)
        self.in_order = self._num_runs <= MAX_RUNS and self._ordered(with_last, starts)

    def _ordered(self, keys: pa.RecordBatch, starts: np.ndarray) -> bool:
        if not self.order_by:
            return True
        columns = [pa.array(np.cumsum(starts))] + [_plain(keys.column(name)) for name in self.order_by]
        names = [str(i) for i in range(len(columns))]
        order = pc.sort_indices(pa.table(columns, names), [(name, "ascending") for name in names])
        # The sort is stable: rows are in order if and only if none moves.
        return bool((order.to_numpy() == np.arange(len(starts))).all())

    def together(self) -> bool:
        """Whether every group is one run of rows, and these are in order."""
        if not self.in_order:
            return False
        runs = np.sort(np.concatenate(self._runs)) if self._runs else np.empty(0, np.uint64)
        return not (runs[1:] == runs[:-1]).any()

    def arrange(self, batches: Iterable[pa.RecordBatch], folder: Path) -> Iterator[pa.RecordBatch]:
        """The rows of `batches`, group by group and in order; `folder` takes temporary files."""
        if self.together():
            yield from batches
            return
        self._runs = []
        count = min(MAX_BUCKETS, -(-self.bytes // BUCKET_BYTES))
        for path in spread(batches, self.group_by, max(1, count), folder):
            with ipc.open_stream(str(path)) as stream:
                table = stream.read_all().unify_dictionaries().combine_chunks()
            path.unlink()
            keys = self.group_by + self.order_by
            columns = {str(i): _plain(table.column(name).combine_chunks()) for i, name in enumerate(keys)}
            order = pc.sort_indices(pa.table(columns), [(name, "ascending") for name in columns])
            yield from table.take(order).to_batches()


def spread(
    batches: Iterable[pa.RecordBatch], group_by: list[str], count: int, folder: Path
) -> Iterator[Path]:
    """Spread rows over `count` files by the hash of their group, keeping their order; then give the files."""
    writers: dict[int, ipc.RecordBatchStreamWriter] = {}
    paths = [folder / f"bucket-{i}.arrows" for i in range(count)]
    try:
        for batch in batches:
            bucket = (row_hash(batch, group_by) % np.uint64(count)).astype(np.int64)
            order = np.argsort(bucket, kind="stable")
            borders = np.searchsorted(bucket[order], np.arange(count + 1))
            sorted_batch = batch.take(pa.array(order))
            for i in np.flatnonzero(np.diff(borders)).tolist():
                if i not in writers:
                    writers[i] = ipc.new_stream(str(paths[i]), batch.schema)
                writers[i].write_batch(sorted_batch.slice(borders[i], borders[i + 1] - borders[i]))
    finally:
        for writer in writers.values():
            writer.close()
    yield from (paths[i] for i in sorted(writers))


def _plain(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Values instead of a dictionary's indices: these are in the order of appearance."""
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    return values.dictionary_decode() if pat.is_dictionary(values.type) else values
