"""A pandas column whose cells are numpy arrays of two or more dimensions, which Arrow cannot read by itself,
enters; an Arrow array of nested lists leaves, and a frame with such cells comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.errors import SchemaError
from nemo_tabular.profile import flattened, nested


def holds_matrices(values: Any) -> bool:
    """Whether the first cell that is there is an array of two or more dimensions."""
    if values.dtype != object:
        return False
    first = next((v for v in values if isinstance(v, np.ndarray) or v is not None), None)
    return isinstance(first, np.ndarray) and first.ndim > 1


def stacked(values: Any) -> pa.Array:
    """Nested lists of one size; None and NaN are missing. SchemaError naming the first cell of another
    shape."""
    cells = [v if isinstance(v, (np.ndarray, list)) else None for v in values]
    there = [np.asarray(cell) for cell in cells if cell is not None]
    shape = there[0].shape
    for row, cell in enumerate(cells):
        if cell is not None and np.shape(cell) != shape:
            raise SchemaError(
                f"column {values.name!r}: the array of row {row + 1:,} has shape {list(np.shape(cell))}, "
                f"the first one {list(shape)}; make them one shape"
            )
    flat = np.stack(there).reshape(-1)
    kind = pa.from_numpy_dtype(flat.dtype)
    for size in reversed(shape):
        kind = pa.list_(kind, size)
    array = nested(flat, np.full(len(there), int(np.prod(shape))), kind, shape)
    missing = np.array([cell is None for cell in cells])
    if not missing.any():
        return array
    return array.take(pa.array(np.cumsum(~missing) - 1, mask=missing))


def matrix_cells(column: pa.ChunkedArray, shape: Sequence[int]) -> list[np.ndarray | None]:
    """A numpy array a cell, of this shape (empty: as long as it is), None where it is missing."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    there = array.is_valid().to_numpy(zero_copy_only=False)
    flat = flattened(array.drop_null())
    parts = iter(np.split(flat.values, np.cumsum(flat.sizes)[:-1]) if len(flat.sizes) else [])
    return [
        (next(parts).reshape(shape) if shape else next(parts)) if is_there else None for is_there in there
    ]
