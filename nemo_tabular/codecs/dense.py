"""A column whose cells a network reads as they are: an Arrow column enters; a code a cell and the cells'
numbers leave, and the other way round.

The one slot says what kind of cell it is: missing, one of a few special values, or `there`, the last code,
whose cells stand beside it as an array. So order, absence, stores and requests know a dense column by its
code as they know any other, and only the column type (features/) looks at the numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.base import Codec, Slot
from nemo_tabular.errors import CodecError


@dataclass(frozen=True)
class Ragged:
    """Cells of different lengths, one after another."""

    values: np.ndarray
    offsets: np.ndarray
    """int64 (rows + 1,): where each row's numbers begin, and the end."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def take(self, rows: np.ndarray) -> Ragged:
        """These rows."""
        starts, sizes = self.offsets[rows], self.offsets[np.asarray(rows) + 1] - self.offsets[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.repeat(starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Ragged(self.values[places], offsets)


Cells = np.ndarray | Ragged
"""(rows, *shape), or rows of different lengths; zeros, or nothing, where the code is not `there`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DenseCodec(Codec):
    """Authors write `fit`, `cells`, `restore`, the JSON, and `specials` if there are any; see real.py."""

    feature: str
    """Name of the column type."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the column type was told, beyond what the codec itself knows."""
    shape: tuple[int, ...] = ()
    """Of a cell; () for single numbers, and for cells that differ in length."""

    ragged: bool = False
    """Whether cells differ in length."""

    @property
    @abstractmethod
    def dtype(self) -> np.dtype:
        """Of the numbers, as they are stored."""

    @property
    def specials(self) -> int:
        """Codes between "missing" and "there": atoms."""
        return 0

    @property
    def there(self) -> int:
        """The code of cells that stand in the array: the last."""
        return int(self.nullable) + self.specials

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(self.there + 1),)

    @property
    def numbers_of_a_cell(self) -> int:
        """At most."""
        return int(np.prod(self.shape))

    @abstractmethod
    def cells(self, values: pa.Array | pa.ChunkedArray, *, unseen: str | None = None) -> Cells:
        """The numbers of each cell. CodecError for a cell outside the column's domain, unless `unseen` says
        that the nearest inside will do."""

    @abstractmethod
    def restore(self, codes: np.ndarray, cells: Cells) -> pa.Array:
        """Values of type `self.type` from codes (rows,) and cells."""

    def padded(self, cells: Cells) -> np.ndarray:
        """What a column type reads: as they are, or (rows, longest) where cells differ in length."""
        assert isinstance(cells, np.ndarray)
        return cells

    def unpadded(self, cells: np.ndarray) -> Cells:
        """The inverse of `padded`."""
        return cells

    def blank(self, rows: int) -> np.ndarray:
        """So many cells of zeros, as a column type reads them."""
        return np.zeros((rows, *self.shape), self.dtype)

    def every(self, most: int) -> tuple[np.ndarray, np.ndarray] | None:
        """All cells of the domain, as a column type reads them, and the size of what each stands for: 1 where
        it is a value, the volume of its box where values are a continuum. None where there are more than
        `most`."""
        return None

    def one(self, value: Any) -> pa.Array:
        """An array of one cell, from a Python or numpy value or from text. CodecError where it is none."""
        return self._one(value)

    def is_cell(self, value: Any) -> bool:
        """Whether a value that could be a sequence of cells is one cell."""
        return False

    def _decode(self, codes: np.ndarray) -> pa.Array:
        return self.restore(codes[:, 0], self.unpadded(self.blank(len(codes))))

    def _outside(self, what: str) -> CodecError:
        return CodecError(
            f"column {self.name!r}: {what}; mend it, or score and condition with unseen='nearest'"
        )


def with_missing(values: pa.Array, codes: np.ndarray, nullable: bool) -> pa.Array:
    """`values` (rows,), null where the code says missing."""
    if not nullable or codes.all():
        return values
    index = np.arange(len(values))
    return values.take(pa.array(index, mask=codes == 0))
