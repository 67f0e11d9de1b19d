"""Tables that bring their own types: Parquet and Arrow files, pandas and polars frames, Arrow objects.

Enters a path or an object; leaves record batches of its own types, or cast to a schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nemo_tabular.errors import SchemaError, TabularError
from nemo_tabular.profile import flattened, nested
from nemo_tabular.readers.badrows import BadRows, shown
from nemo_tabular.readers.cast import DICTIONARY, cast_batch, require_columns
from nemo_tabular.readers.matrices import holds_matrices, stacked
from nemo_tabular.schema.column import Schema, refuse_duplicates
from nemo_tabular.schema.types import plain_type

BATCH_ROWS = 1 << 16


class TypedTable:
    """A source of typed record batches; a child says how to read the columns it is asked for."""

    untyped = False

    def __init__(
        self, source: str, found: pa.Schema, max_bad_rows: int, quarantine: str | Path | None
    ) -> None:
        self.source = source
        self.bad_rows = 0
        self.column_names: list[str] = list(found.names)
        self._limit = max_bad_rows
        self._quarantine = Path(quarantine) if quarantine else None
        if not found.names:
            raise SchemaError(f"{source} has no columns; a table needs at least one")
        refuse_duplicates(found.names, source)
        self._types = [plain_type(f.type, f"column {f.name!r} of {source}") for f in found]

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError

    def batches(self, schema: Schema | None = None, *, dictionary: bool = False) -> Iterator[pa.RecordBatch]:
        """See TableReader. Rows are numbered from 1."""
        if schema is not None:
            require_columns(schema, self.column_names, self.source)
        bad = BadRows(self.source, self._limit, self._quarantine)
        before = 0
        for raw in self._read(list(schema.names) if schema else self.column_names):
            batch = self._plain(raw, dictionary)
            if schema is not None:
                batch, misfits = cast_batch(
                    batch, schema, dictionary=dictionary, number=(before + 1).__add__, most=max(bad.room, 1)
                )
                self.bad_rows = bad.count + len(misfits)
                bad.add(misfits)
            before += raw.num_rows
            if batch.num_rows:
                yield batch
        self.bad_rows = bad.count

    def _plain(self, batch: pa.RecordBatch, dictionary: bool) -> pa.RecordBatch:
        kinds = dict(zip(self.column_names, self._types, strict=True))
        arrays = [
            _as_plain(c, kinds[n], dictionary) for n, c in zip(batch.schema.names, batch.columns, strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _as_plain(values: pa.Array, kind: pa.DataType, dictionary: bool) -> pa.Array:
    if pa.types.is_dictionary(values.type) and pa.types.is_string(kind):
        if dictionary and values.dictionary.null_count == 0:
            return pc.cast(values, DICTIONARY)
        return pc.cast(values.dictionary_decode(), kind)
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if isinstance(values.type, pa.FixedShapeTensorType):
        flat = flattened(values.storage.drop_null())
        array = nested(flat.values, flat.sizes, kind, tuple(values.type.shape))
        there = values.is_valid().to_numpy(zero_copy_only=False)
        values = array.take(pa.array(np.cumsum(there) - 1, mask=~there))
    values = values if values.type == kind else pc.cast(values, kind)
    return values.dictionary_encode() if dictionary and pa.types.is_string(kind) else values


class ParquetTable(TypedTable):
    """A Parquet file, read a row group's part at a time."""

    def __init__(self, path: Path, *, max_bad_rows: int = 0, quarantine: str | Path | None = None) -> None:
        self._path = path
        try:
            found = pq.read_schema(path)
        except (pa.ArrowInvalid, OSError) as e:
            raise TabularError(f"{path} is not a whole Parquet file: {e}") from None
        super().__init__(path.name, found, max_bad_rows, quarantine)
        if pq.read_metadata(path).num_rows == 0:
            raise TabularError(f"{path.name} has columns but no rows; add rows")

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False)


class IpcTable(TypedTable):
    """An Arrow IPC or Feather (version 2) file."""

    def __init__(self, path: Path, *, max_bad_rows: int = 0, quarantine: str | Path | None = None) -> None:
        self._path = path
        try:
            with pa.ipc.open_file(path) as file:
                found, rows = file.schema, file.num_record_batches
        except (pa.ArrowInvalid, OSError) as e:
            raise TabularError(f"{path} is not a whole Arrow IPC file: {e}") from None
        super().__init__(path.name, found, max_bad_rows, quarantine)
        if rows == 0:
            raise TabularError(f"{path.name} has columns but no rows; add rows")

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        with pa.ipc.open_file(self._path) as file:
            for i in range(file.num_record_batches):
                batch = file.get_batch(i).select(columns)
                for start in range(0, batch.num_rows, BATCH_ROWS):
                    yield batch.slice(start, BATCH_ROWS)


class FrameTable(TypedTable):
    """A table in memory."""

    def __init__(
        self, table: pa.Table, source: str, *, max_bad_rows: int = 0, quarantine: str | Path | None = None
    ) -> None:
        super().__init__(source, table.schema, max_bad_rows, quarantine)
        if table.num_rows == 0:
            raise TabularError(f"{source} has columns but no rows; add rows")
        self._table = table

    @classmethod
    def of(cls, source: Any, *, max_bad_rows: int = 0, quarantine: str | Path | None = None) -> FrameTable:
        """From a pa.Table, RecordBatch, RecordBatchReader, or a pandas or polars frame."""
        table, name = _as_table(source)
        return cls(table, name, max_bad_rows=max_bad_rows, quarantine=quarantine)

    def _read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        yield from self._table.select(columns).to_batches(BATCH_ROWS)


def _as_table(source: Any) -> tuple[pa.Table, str]:
    """An Arrow table of whatever it is, and what to call it."""
    if isinstance(source, pa.Table):
        return source, "the table"
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source]), "the record batch"
    if isinstance(source, pa.RecordBatchReader):
        return source.read_all(), "the record batches"
    library = type(source).__module__.split(".")[0]
    if library == "pandas" and hasattr(source, "columns"):
        return _from_pandas(source), "the data frame"
    if library == "polars" and hasattr(source, "collect_schema"):
        frame = source.collect() if hasattr(source, "collect") else source
        return frame.to_arrow(), "the data frame"
    raise TabularError(
        f"cannot read a table from {type(source).__name__}; give a path, a pandas or polars frame, or an "
        "Arrow table"
    )


def _from_pandas(frame: Any) -> pa.Table:
    """Each column by itself, so that an error names it. NaN, None, NaT, pd.NA are missing."""
    names = [str(name) for name in frame.columns]
    refuse_duplicates(names, "the data frame")
    arrays = []
    for i, name in enumerate(names):
        values = frame.iloc[:, i]
        try:
            arrays.append(stacked(values) if holds_matrices(values) else pa.Array.from_pandas(values))
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            TypeError,
            OverflowError,
        ) as e:
            raise _mixed(values, name, e) from None
    arrays = [a.combine_chunks() if isinstance(a, pa.ChunkedArray) else a for a in arrays]
    return pa.Table.from_arrays(arrays, names=names)


def _mixed(values: Any, name: str, error: Exception) -> SchemaError:
    """Names the row of the first value whose type is not that of the first value."""
    import pandas as pd

    first = None
    for row, value in enumerate(values, 1):
        if not pd.api.types.is_scalar(value) or not pd.isna(value):
            first = first or type(value)
            if type(value) is not first:
                return SchemaError(
                    f"column {name!r} of the data frame holds values of several types: row {row:,} is "
                    f"{shown(value)} ({type(value).__name__}), the rows before are {first.__name__}; "
                    f"convert it, for example df[{name!r}] = df[{name!r}].astype(str)"
                )
    return SchemaError(f"column {name!r} of the data frame cannot be read: {error}; convert it, or drop it")
