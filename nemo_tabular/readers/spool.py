"""Typed record batches kept for a second reading, so that a CSV is parsed once though it is needed twice.

Enters record batches; leaves the same batches as often as wanted: the first ones from memory, the rest from
an Arrow stream in a temporary file.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from nemo_tabular.errors import StoreError

MEMORY_BYTES = 64 << 20  # below this a disk would only cost time


class Spool:
    """A context manager; the temporary file is deleted at its end.

    >>> with Spool(folder) as spool:
    ...     found = profile(spool.tee(table.batches(schema, dictionary=True)))
    ...     for batch in spool.batches(): ...
    """

    def __init__(self, folder: str | Path | None = None, *, memory_bytes: int = MEMORY_BYTES) -> None:
        self.rows = 0
        self._folder = Path(folder) if folder is not None else None
        self._limit = memory_bytes
        self._held: list[pa.RecordBatch] = []
        self._bytes = 0
        self._path: Path | None = None
        self._sink: pa.NativeFile | None = None
        self._writer: pa.RecordBatchWriter | None = None

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep a batch. StoreError when the disk is full."""
        self.rows += batch.num_rows
        self._bytes += batch.get_total_buffer_size()
        if self._bytes <= self._limit:
            self._held.append(batch)
        else:
            self._append(batch)

    def tee(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The same batches, each kept as it passes."""
        for batch in batches:
            self.write(batch)
            yield batch

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Every batch written so far, in order. Nothing may be written after the first call."""
        yield from self._held
        if self._path is None:
            return
        self._finish()
        # read, not mapped: mapped pages would count as this process's memory
        with pa.OSFile(str(self._path), "rb") as source, pa.ipc.open_stream(source) as reader:
            yield from reader

    def close(self) -> None:
        """Forget everything; deletes the temporary file."""
        self._held = []
        try:
            self._finish()
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Path:
        """A new temporary file."""
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(prefix="spool-", suffix=".arrows", dir=self._folder)
        os.close(handle)
        return Path(path)

    def _append(self, batch: pa.RecordBatch) -> None:
        try:
            if self._path is None:
                self._path = self._open()
            if self._writer is None:
                self._sink = pa.OSFile(str(self._path), "wb")
                self._writer = pa.ipc.new_stream(self._sink, batch.schema)
            self._writer.write_batch(batch)
        except OSError as e:
            where = self._path
            self._discard()
            raise StoreError(
                f"cannot write the spool {where} after {self.rows:,} rows: {e}; free space there, or set "
                "TMPDIR to a folder on a larger disk"
            ) from None

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _discard(self) -> None:
        """Drop the file without minding that its end cannot be written either."""
        self._writer = None
        sink, self._sink = self._sink, None
        try:
            if sink is not None:
                sink.close()
        except OSError:
            pass  # the disk is full: the error in hand says so
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
