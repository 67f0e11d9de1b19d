"""Arrow cells that are arrays of numbers (lists, lists of lists, bytes) enter; flat numbers and the cells'
shapes leave."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


@dataclass(frozen=True)
class Flat:
    """The numbers of all cells, one after another."""

    values: np.ndarray
    sizes: np.ndarray
    """int64 (cells,): numbers of each cell."""
    shape: tuple[int, ...] | None
    """Of every cell, where it is one; None: they differ."""
    holes: int
    """Numbers that are missing within a cell."""


def is_array(kind: pa.DataType) -> bool:
    """Whether cells of this type are arrays of numbers."""
    return pa.types.is_nested(kind) or pa.types.is_binary(kind)


def flattened(cells: pa.Array) -> Flat:
    """Cells without nulls as flat numbers."""
    if pa.types.is_binary(cells.type):
        return _bytes(cells)
    shape: tuple[int, ...] = ()
    sizes, whole = np.ones(len(cells), np.int64), True
    while pa.types.is_nested(cells.type):
        lengths = pc.fill_null(pc.list_value_length(cells), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        whole = whole and len(lengths) > 0 and bool((lengths == lengths[0]).all())
        shape += (int(lengths[0]) if len(lengths) else 0,)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        sizes = np.bincount(owner, lengths, len(sizes)).astype(np.int64)
        cells = cells.flatten()
    return Flat(cells.to_numpy(zero_copy_only=False), sizes, shape if whole else None, cells.null_count)


def _bytes(cells: pa.Array) -> Flat:
    _, offsets, data = cells.buffers()
    ends = np.frombuffer(offsets, np.int32)[cells.offset : cells.offset + len(cells) + 1]
    values = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]] if data is not None else np.empty(0, np.uint8)
    sizes = np.diff(ends).astype(np.int64)
    same = len(sizes) > 0 and bool((sizes == sizes[0]).all())
    return Flat(values, sizes, (int(sizes[0]),) if same else None, 0)


def nested(values: np.ndarray, sizes: np.ndarray, kind: pa.DataType, shape: Sequence[int]) -> pa.Array:
    """The inverse of `flattened`, as cells of this type; `shape` (of a cell) where lists are nested."""
    if pa.types.is_binary(kind):
        ends = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        data = pa.py_buffer(np.ascontiguousarray(values, np.uint8))
        return pa.Array.from_buffers(kind, len(sizes), [None, pa.py_buffer(ends), data])
    levels = [kind]
    while pa.types.is_nested(levels[-1]):
        levels.append(levels[-1].value_type)
    depth, cells = len(levels) - 1, pa.array(values, levels[-1])
    inner = [*shape[: depth - 1], int(np.prod(shape[depth - 1 :]))] if shape else [0]
    for level in range(depth - 1, -1, -1):
        size, listed = inner[level], levels[level]
        if pa.types.is_fixed_size_list(listed):
            cells = pa.FixedSizeListArray.from_arrays(cells, type=listed)
            continue
        lengths = sizes if not shape else np.full(len(cells) // size, size)
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        cells = pa.ListArray.from_arrays(pa.array(ends), cells, type=listed)
    return cells
