"""Texts of any length enter; their UTF-8 bytes leave, as they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.codecs.base import books_of
from nemo_tabular.codecs.dense import Cells, DenseCodec, Ragged, with_missing

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

END = 256
"""After the last byte of a text, and from there on, in what a column type reads."""


@dataclass(frozen=True, eq=False, kw_only=True)
class BytesCodec(DenseCodec):
    """Option `max_bytes`: of the longest text there may be (default: the table's longest)."""

    codec: ClassVar[str] = "bytes"
    sampled: ClassVar[bool] = False

    max_bytes: int
    ragged: bool = True

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> BytesCodec:
        options = dict(column.options)
        most = options.pop("max_bytes", None) or max(profile.max_bytes or 0, 1)
        return cls(**books_of(column), feature=column.feature, options=options, max_bytes=most)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def numbers_of_a_cell(self) -> int:
        return self.max_bytes

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        missing = self._null_rows(array)
        codes[:, 0] = self.there
        if missing is not None:
            codes[missing, 0] = 0

    def cells(self, values: pa.Array | pa.ChunkedArray, *, unseen: str | None = None) -> Cells:
        array = pc.cast(pc.fill_null(self._typed(values), ""), pa.string())
        _, ends, data = array.buffers()
        offsets = np.frombuffer(ends, np.int32)[array.offset : array.offset + len(array) + 1].astype(np.int64)
        numbers = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
        found = Ragged(numbers[offsets[0] : offsets[-1]], offsets - offsets[0])
        longest = int(np.diff(offsets).max(initial=0))
        if longest <= self.max_bytes:
            return found
        if unseen not in ("nearest", "truncate"):
            raise self._outside(f"a text of {longest:,} bytes where the longest may have {self.max_bytes:,}")
        cut = [_cut(text, self.max_bytes) for text in array.to_pylist()]
        return self.cells(pa.array(cut, array.type))

    def restore(self, codes: np.ndarray, cells: Cells) -> pa.Array:
        assert isinstance(cells, Ragged)
        data = pa.py_buffer(np.ascontiguousarray(cells.values, np.uint8))
        ends = pa.py_buffer(cells.offsets.astype(np.int32))
        array = pa.Array.from_buffers(pa.string(), len(cells), [None, ends, data])
        array.validate(full=True)  # bytes that are no UTF-8 are a column type's mistake
        return with_missing(array.cast(self.arrow_type), codes, self.nullable)

    def padded(self, cells: Cells) -> np.ndarray:
        """int16 (rows, longest + 1), END after each text."""
        assert isinstance(cells, Ragged)
        sizes = np.diff(cells.offsets)
        out = np.full((len(cells), int(sizes.max(initial=0)) + 1), END, np.int16)
        out[np.arange(out.shape[1]) < sizes[:, None]] = cells.values
        return out

    def unpadded(self, cells: np.ndarray) -> Cells:
        inside = np.logical_and.accumulate(cells != END, axis=1)
        return Ragged(cells[inside].astype(np.uint8), np.concatenate([[0], np.cumsum(inside.sum(1))]))

    def blank(self, rows: int) -> np.ndarray:
        return np.full((rows, 1), END, np.int16)

    def every(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        if self.max_bytes > 2 or most < 18_433:
            return None
        chars = [chr(c) for c in range(0x80 if self.max_bytes == 1 else 0x800)]
        ascii = chars[:0x80]
        pairs = [a + b for a in ascii for b in ascii] if self.max_bytes == 2 else []
        cells = self.padded(self.cells(pa.array(["", *chars, *pairs])))
        return cells, np.ones(len(cells))

    def _params(self) -> dict[str, Any]:
        return {"feature": self.feature, "options": dict(self.options), "max_bytes": self.max_bytes}

    @classmethod
    def _restore(cls, books: dict[str, Any], params: Mapping[str, Any]) -> BytesCodec:
        return cls(**books, **params)


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")
