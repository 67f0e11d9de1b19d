"""What every reader offers, and which reader a source gets.

Enters a path, a glob, a list of paths or an object in memory; leaves a TableReader.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from nemo_tabular.errors import SchemaError, TabularError, nearest
from nemo_tabular.readers.arrow import FrameTable, IpcTable, ParquetTable
from nemo_tabular.readers.bytesource import is_utf8
from nemo_tabular.readers.csv import CsvTable
from nemo_tabular.schema.column import Schema

COMPRESSIONS = (".gz", ".zst")
READERS = {
    ".csv": CsvTable,
    ".tsv": CsvTable,
    ".txt": CsvTable,
    ".parquet": ParquetTable,
    ".arrow": IpcTable,
    ".feather": IpcTable,
}


class TableReader(Protocol):
    """A table that can be read again and again, a batch at a time."""

    source: str
    """What to call the table in messages."""
    column_names: list[str]
    bad_rows: int
    """Bad rows met by the last iteration."""
    untyped: bool
    """Whether the source holds text whose types must be guessed (CSV)."""

    def batches(self, schema: Schema | None = None, *, dictionary: bool = False) -> Iterator[pa.RecordBatch]:
        """Record batches in the table's order.

        With a schema: its columns in its order, typed exactly as `Column.type`. Without: CSV gives strings,
        typed sources their own types. `dictionary` asks for dictionary<int32, string> in place of string
        where texts repeat: categories with a schema, every text without one.
        """
        ...


def open_table(
    source: Any,
    *,
    max_bad_rows: int = 0,
    quarantine: str | Path | None = None,
    encoding: str = "utf-8",
    delimiter: str | None = None,
) -> TableReader:
    """The reader for a source.

    source: a path (.csv .tsv with or without .gz .zst, .parquet, .arrow, .feather), a folder, glob or list of
    such files of one kind, a pandas or polars frame, a pa.Table, RecordBatch or RecordBatchReader, a
    TableReader, or a .yaml that names several tables whose columns partly overlap (see union.py).
    More than `max_bad_rows` bad rows stop the reading with a BadRowsError; they are written to `quarantine`
    (by default NAME.quarantine.csv beside the file). `encoding` and `delimiter` concern CSV only.
    """
    is_utf8(encoding)  # an unknown name is refused here, whatever the source
    if delimiter is not None and (len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n'):
        raise TabularError(f"delimiter {delimiter!r}: expected one ASCII character, such as , or ; or a tab")
    if max_bad_rows < 0:
        raise TabularError(f"max_bad_rows must be 0 or more, got {max_bad_rows}")
    if hasattr(source, "batches"):
        return source
    if isinstance(source, str | Path) and Path(source).suffix in (".yaml", ".yml"):
        from nemo_tabular.readers.union import open_union  # which is built on this file

        if quarantine is not None:
            raise TabularError("quarantine: each of several tables has its own, beside it; leave it out")
        return open_union(Path(source), max_bad_rows=max_bad_rows, encoding=encoding, delimiter=delimiter)
    if not isinstance(source, str | Path | list | tuple):
        return FrameTable.of(source, max_bad_rows=max_bad_rows, quarantine=quarantine)
    paths = _paths(source)
    tables = []
    for path in paths:
        reader = READERS[_suffix(path)]
        text = {"encoding": encoding, "delimiter": delimiter or ("\t" if ".tsv" in path.suffixes else None)}
        extra: dict[str, Any] = text if reader is CsvTable else {}
        tables.append(reader(path, max_bad_rows=max_bad_rows, quarantine=quarantine, **extra))
    return tables[0] if len(tables) == 1 else ManyTables(tables, str(source))


class ManyTables:
    """Files with the same columns, read one after the other; each counts its own rows and bad rows."""

    def __init__(self, tables: Sequence[TableReader], source: str) -> None:
        self._tables = tables
        self.source = source if len(source) < 80 else f"{tables[0].source} and {len(tables) - 1} more files"
        self.column_names = tables[0].column_names
        self.bad_rows = 0
        self.untyped = tables[0].untyped
        for table in tables[1:]:
            if table.column_names != self.column_names:
                odd = sorted(set(table.column_names) ^ set(self.column_names)) or table.column_names
                raise SchemaError(
                    f"{table.source} has other columns than {tables[0].source} (or another order): "
                    f"{odd[:5]}; read files with the same columns"
                )

    def batches(self, schema: Schema | None = None, *, dictionary: bool = False) -> Iterator[pa.RecordBatch]:
        self.bad_rows = 0
        for table in self._tables:
            yield from table.batches(schema, dictionary=dictionary)
            self.bad_rows += table.bad_rows


def _paths(source: str | Path | list | tuple) -> list[Path]:
    """The files of a source, sorted within a folder or a glob; all of one kind."""
    if isinstance(source, list | tuple):
        paths = [p for one in source for p in _paths(one)]
    elif has_magic(str(source)) and not Path(source).exists():
        paths = [Path(p) for p in sorted(glob(str(source)))]
    elif Path(source).is_dir():
        paths = sorted(p for p in Path(source).iterdir() if _known(p))
    else:
        paths = [Path(source)]
    if not paths:
        raise TabularError(
            f"{source}: no table found there; known are {', '.join(READERS)}, also with .gz or .zst"
        )
    for path in paths:
        if not path.is_file():
            raise TabularError(f"{path}: no such file")
        if not _known(path):
            raise TabularError(
                f"{path}: unknown kind of file{nearest(path.suffix, list(READERS))}; "
                f"known are {', '.join(READERS)}, CSV also with .gz or .zst"
            )
    if len({READERS[_suffix(p)] for p in paths}) > 1:
        raise TabularError(f"{source}: files of several kinds; read files of one kind")
    return paths


def _known(path: Path) -> bool:
    return _suffix(path) in READERS and not path.name.endswith(".quarantine.csv")


def _suffix(path: Path) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""
