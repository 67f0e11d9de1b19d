"""Tables to files, streaming: CSV (plain, gz, zst) and Parquet, by the suffix of the name.

Enters a path, then Arrow tables or batches; leaves the whole file under that name, or none at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from nemo_tabular.errors import TabularError
from nemo_tabular.readers.lines import csv_lines, header_line
from nemo_tabular.schema.column import ARRAYS, Schema

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
GROUP_ROWS = 1 << 17  # rows of a Parquet row group: enough for its encodings, little enough for memory


class WriteError(TabularError):
    """A table could not be written."""


class TableWriter(Protocol):
    """What `write_table` gives: takes tables or batches of the same columns, in order."""

    rows: int

    def write(self, table: pa.Table | pa.RecordBatch) -> None: ...


@contextmanager
def write_table(path: str | Path, schema: Schema | None = None) -> Iterator[TableWriter]:
    """Open a table for writing: `with write_table("out.csv.gz") as out: out.write(table)`.

    .csv, .tsv (also .gz, .zst) or .parquet. The file appears under its name when it is whole, and replaces
    what was there; on an error nothing is left. With a `schema`, a CSV writes dates, booleans, numbers and
    missing values as the original did. WriteError when the disk is full or the folder cannot be written.
    """
    path = Path(path)
    kind = _suffixes(path)
    arrays = [column.name for column in schema.columns if column.kind in ARRAYS] if schema else []
    if arrays and kind[0] != ".parquet":
        raise WriteError(
            f"cannot write {path}: column {arrays[0]!r} holds arrays, which a CSV cannot; name it .parquet"
        )
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        temporary = Path(name)
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        writer = _CsvWriter(temporary, kind, schema) if kind[0] != ".parquet" else _ParquetWriter(temporary)
        try:
            yield writer
        except BaseException:
            writer.abandon()
            raise
        writer.close()
        os.replace(temporary, path)
    except OSError as e:
        why = e.strerror or str(e)
        raise WriteError(
            f"cannot write {path}: {why}; nothing was left there. Free space or choose another folder"
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


class _CsvWriter:
    def __init__(self, path: Path, kind: tuple[str, str], schema: Schema | None) -> None:
        self.rows = 0
        self._schema = schema
        self._delimiter = "\t" if kind[0] == ".tsv" else ","
        compression = COMPRESSIONS.get(kind[1])
        self._out: Any = pa.output_stream(str(path), compression=compression)
        self._names: list[str] | None = None

    def write(self, table: pa.Table | pa.RecordBatch) -> None:
        names = table.schema.names
        if self._names is None:
            self._out.write(header_line(names, self._delimiter))
            self._names = names
        _same_columns(self._names, names)
        known = {c.name: c for c in self._schema.columns} if self._schema else {}
        for batch in table.to_batches(GROUP_ROWS) if isinstance(table, pa.Table) else [table]:
            self._out.write(csv_lines(batch, [known.get(n) for n in names], self._delimiter))
        self.rows += table.num_rows

    def close(self) -> None:
        self._out.close()

    def abandon(self) -> None:
        _close_quietly(self._out)


class _ParquetWriter:
    def __init__(self, path: Path) -> None:
        self.rows = 0
        self._path = path
        self._sink: Any = pa.OSFile(str(path), "wb")
        self._out: pq.ParquetWriter | None = None
        self._held: list[pa.Table] = []
        self._held_rows = 0

    def write(self, table: pa.Table | pa.RecordBatch) -> None:
        table = pa.Table.from_batches([table]) if isinstance(table, pa.RecordBatch) else table
        if self._held:
            _same_columns(self._held[0].column_names, table.column_names)
        self.rows += table.num_rows
        self._held.append(table)
        self._held_rows += table.num_rows
        if self._held_rows >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        whole = pa.concat_tables(self._held)
        if self._out is None:
            self._out = pq.ParquetWriter(self._sink, whole.schema, compression="zstd")
        self._out.write_table(whole, row_group_size=GROUP_ROWS)
        self._held, self._held_rows = [whole.slice(0, 0)], 0

    def close(self) -> None:
        if self._held_rows:
            self._flush()
        if self._out is not None:
            self._out.close()
        self._sink.close()

    def abandon(self) -> None:
        self._out = None
        _close_quietly(self._sink)


def _close_quietly(stream: Any) -> None:
    with suppress(OSError):  # the error in hand is the one to show
        stream.close()


def _same_columns(expected: list[str], found: list[str]) -> None:
    if expected != found:
        raise WriteError(f"a table with columns {found} cannot follow one with columns {expected}")


def _suffixes(path: Path) -> tuple[str, str]:
    """(kind, compression) of a name to write to."""
    suffixes = [s.lower() for s in path.suffixes[-2:]]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    if kind not in (".csv", ".tsv", ".parquet") or (kind == ".parquet" and compression):
        raise WriteError(
            f"cannot write {path}: the name must end in .csv, .tsv (also .gz or .zst) or .parquet"
        )
    return kind, compression


def _umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now
