"""The cells of a dense column enter, chunk by chunk; files beside a split's `.bin` leave, and memory maps of
them that give any rows. Row r of the file is row r of the split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nemo_tabular.codecs import Cells, DenseCodec, Ragged
from nemo_tabular.store.files import StampedFile
from nemo_tabular.store.manifest import FileStamp


def file_names(split: str, column: int) -> tuple[str, str]:
    """Of the numbers and, where cells differ in length, of where each row's begin; `column`: its number."""
    return f"{split}.{column}.cells", f"{split}.{column}.offsets"


class CellWriter:
    """Writes one column's cells of one split: numbers as they are, and int64 offsets where they are
    ragged."""

    def __init__(self, folder: Path, split: str, column: int, codec: DenseCodec) -> None:
        self._paths = [folder / name for name in file_names(split, column)]
        self._numbers, self._rows, self._end = StampedFile(self._paths[0]), 0, 0
        self._offsets = StampedFile(self._paths[1]) if codec.ragged else None
        if self._offsets is not None:
            self._offsets.write(np.zeros(1, "<i8").tobytes())

    def add(self, cells: Cells, mine: np.ndarray) -> None:
        """Append the rows `mine` of a chunk."""
        self._rows += len(mine)
        if self._offsets is None:
            assert isinstance(cells, np.ndarray)
            self._numbers.write(_bytes(cells[mine]))
            return
        assert isinstance(cells, Ragged)
        part = cells.take(mine)
        self._numbers.write(_bytes(part.values))
        self._offsets.write((part.offsets[1:] + self._end).astype("<i8").tobytes())
        self._end += int(part.offsets[-1])

    def finish(self) -> dict[str, FileStamp]:
        """Close, and remove the files of an empty split; name -> stamp."""
        files = [self._numbers] if self._offsets is None else [self._numbers, self._offsets]
        stamps = {file.path.name: file.close() for file in files}
        if self._rows:
            return stamps
        for file in files:
            file.path.unlink()
        return {}

    def abandon(self) -> None:
        """Close the files of a store that will not be finished."""
        self._numbers.abandon()
        if self._offsets is not None:
            self._offsets.abandon()


class StoredCells:
    """One column's cells of one or more splits, one after another; nothing is read before it is asked for."""

    def __init__(
        self, folder: Path, splits: Sequence[tuple[str, int]], column: int, codec: DenseCodec
    ) -> None:
        """`splits`: name and rows of each."""
        self.codec = codec
        self._parts = [_mapped(folder, split, rows, column, codec) for split, rows in splits]
        self._ends = np.cumsum([rows for _, rows in splits])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Cells of these rows (int64), as a column type reads them."""
        if len(self._parts) == 1:
            return self.codec.padded(_take(self._parts[0], rows))
        part_of = np.searchsorted(self._ends, rows, side="right")
        pieces = []
        for p, part in enumerate(self._parts):
            first = int(self._ends[p - 1]) if p else 0
            pieces.append(_take(part, rows[part_of == p] - first))
        back = np.empty(len(rows), np.int64)
        back[np.argsort(part_of, kind="stable")] = np.arange(len(rows))
        return self.codec.padded(_take(_joined(pieces), back))


def _take(cells: Cells, rows: np.ndarray) -> Cells:
    return cells.take(rows) if isinstance(cells, Ragged) else np.take(cells, rows, axis=0)


def _joined(pieces: Sequence[Cells]) -> Cells:
    if isinstance(pieces[0], np.ndarray):
        return np.concatenate([piece for piece in pieces if isinstance(piece, np.ndarray)])
    ragged = [piece for piece in pieces if isinstance(piece, Ragged)]
    sizes = np.concatenate([np.diff(piece.offsets) for piece in ragged])
    return Ragged(np.concatenate([p.values for p in ragged]), np.concatenate([[0], np.cumsum(sizes)]))


def _mapped(folder: Path, split: str, rows: int, column: int, codec: DenseCodec) -> Cells:
    numbers, offsets = (folder / name for name in file_names(split, column))
    if not codec.ragged:
        shape = (rows, *codec.shape)
        return np.memmap(numbers, codec.dtype, "r", shape=shape) if rows else np.empty(shape, codec.dtype)
    if not rows:
        return Ragged(np.empty(0, codec.dtype), np.zeros(1, np.int64))
    empty = numbers.stat().st_size == 0  # such a file cannot be mapped
    values = np.empty(0, codec.dtype) if empty else np.memmap(numbers, codec.dtype, "r")
    return Ragged(values, np.memmap(offsets, np.int64, "r"))


def _bytes(values: np.ndarray) -> bytes | memoryview:
    """A memory's own bytes, where there are any."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat.view(np.uint8).data if flat.size else b""
