"""Chunks of ids come in; the `.bin`, `.idx` and count files of one split leave, with size and sha256 of each.
Nothing of the size of the table is held in memory: document lengths wait in a file of their own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from nemo_tabular.store.index import write_index
from nemo_tabular.store.manifest import FileStamp
from nemo_tabular.tokenizer import BOS, EOD

CHUNK = 1 << 20  # document lengths in hand at a time
PIECE = 1 << 16  # tokens laid out, written, hashed and counted while they are in a core's cache


class StampedFile:
    """A file written once from its beginning, whose sha256 is known when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes, self._digest = path, 0, hashlib.sha256()
        self._file = open(path, "xb")  # noqa: SIM115 - closed by close(), which also flushes to the disk

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes."""
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    def close(self) -> FileStamp:
        """Flush to the disk and say what the file is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return FileStamp(self.bytes, self._digest.hexdigest())

    def abandon(self) -> None:
        """Close what will not be finished; the flush that fails again is not news."""
        with suppress(OSError):
            self._file.close()


class SplitWriter:
    """Writes the documents of one split: BOS, its rows, EOD."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype, num_slots: int, vocab_size: int) -> None:
        self.name, self.dtype, self.num_slots, self.vocab_size = name, dtype, num_slots, vocab_size
        self.documents, self.rows = 0, 0
        self.counts = np.zeros(vocab_size, np.int64)
        """How often each id was written."""
        self._bin = StampedFile(folder / f"{name}.bin")
        self._lengths = open(folder / f"{name}.lengths", "w+b")  # noqa: SIM115 - see finish() and abandon()
        self._open_rows = 0  # rows so far of the document that is not closed yet
        self._frame = np.empty((max(1, PIECE // (num_slots + 2)), num_slots + 2), dtype)
        self._frame[:, 0], self._frame[:, -1] = BOS, EOD

    def add_rows(self, ids: np.ndarray, mine: np.ndarray) -> None:
        """Append the rows `mine` of ids (rows, S), each a document."""
        for start in range(0, len(mine), len(self._frame)):
            part = mine[start : start + len(self._frame)]
            out = self._frame[: len(part)]
            out[:, 1:-1] = ids[part]
            self._write(out)
        self.rows += len(mine)
        self.documents += len(mine)

    def add(self, ids: np.ndarray, starts: np.ndarray) -> None:
        """Append rows (rows, S); `starts` (rows,) says which begin a document, the very first among them."""
        if not len(ids):
            return
        out = np.empty((len(ids), self.num_slots + 2), self.dtype)
        keep = np.ones(out.shape, bool)
        # The EOD of a document is written in front of the next one's BOS, when it is known that it has ended.
        out[:, 0], out[:, 1], out[:, 2:] = EOD, BOS, ids
        keep[:, :2] = starts[:, None]
        keep[0, 0] &= self.documents > 0
        self._write(out[keep])
        borders = np.flatnonzero(starts)
        if len(borders):
            rows = np.diff(np.concatenate([[-self._open_rows], borders]))
            self._close_documents(rows if self.documents else rows[1:])
            self.documents += len(borders)
            self._open_rows = len(ids) - int(borders[-1])
        else:
            self._open_rows += len(ids)
        self.rows += len(ids)

    def _close_documents(self, rows: np.ndarray) -> None:
        self._lengths.write((rows * self.num_slots + 2).astype("<i4").tobytes())

    def _write(self, out: np.ndarray) -> None:
        flat = out.reshape(-1)
        self._bin.write(flat.view(np.uint8).data)
        for start in range(0, len(flat), PIECE):
            found = np.bincount(flat[start : start + PIECE])
            self.counts[: len(found)] += found

    def finish(self) -> dict[str, FileStamp]:
        """Close the last document, write the index, remove the files of an empty split; name -> stamp."""
        if self._open_rows:
            self._write(np.array([EOD], self.dtype))
            self._close_documents(np.array([self._open_rows]))
        stamp = self._bin.close()
        folder = self._bin.path.parent
        if self.documents:
            index = StampedFile(folder / f"{self.name}.idx")
            try:
                write_index(index, self.dtype, self.documents, self._document_lengths)
            except BaseException:
                index.abandon()
                raise
            stamps = {f"{self.name}.bin": stamp, f"{self.name}.idx": index.close()}
        else:
            self._bin.path.unlink()  # an empty file cannot be mapped
            stamps = {}
        self._lengths.close()
        os.unlink(self._lengths.name)
        return stamps

    def abandon(self) -> None:
        """Close the files of a store that will not be finished."""
        self._bin.abandon()
        with suppress(OSError):
            self._lengths.close()

    def _document_lengths(self) -> Iterator[np.ndarray]:
        """Tokens of each document, in chunks."""
        if self._lengths.tell() == 0:  # add_rows writes none: all are of one length
            for first in range(0, self.documents, CHUNK):
                yield np.full(min(CHUNK, self.documents - first), self.num_slots + 2, np.int32)
            return
        self._lengths.seek(0)
        while data := self._lengths.read(4 * CHUNK):
            yield np.frombuffer(data, "<i4")
