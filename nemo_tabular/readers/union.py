"""Several tables whose columns partly overlap enter, with how their columns and values are called in the
others; one table of all columns leaves, in which a row has no value where its own table has no such column.

    tables:
      - table: adult.csv                      # a path, seen from this file
      - table: census.parquet
        name: census                          # default: the file's name
        rename: {marital_stat: marital_status}
        values:                               # by the new names; null: missing
          marital_status: {Never married: Never-married, "?": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError, TabularError, nearest
from nemo_tabular.readers.cast import DICTIONARY, cast_column, require_columns, wants_dictionary
from nemo_tabular.readers.table import TableReader, open_table
from nemo_tabular.schema.column import Column, Schema, refuse_duplicates

KEYS = ("table", "name", "rename", "values")


@dataclass(frozen=True)
class Member:
    """One of the tables. Raises SchemaError for names that it does not have."""

    name: str
    table: TableReader
    rename: Mapping[str, str] = field(default_factory=dict)
    """Its own name of a column -> the name in the union."""
    values: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    """Column of the union -> this table's text of a value -> the union's; None: missing."""

    def __post_init__(self) -> None:
        own = self.table.column_names
        for where, asked, known in (("rename", self.rename, own), ("values", self.values, self.columns)):
            for name in asked:
                if name not in known:
                    raise SchemaError(
                        f"table {self.name!r}: {where}: {self.table.source} has no column {name!r}"
                        f"{nearest(str(name), list(known))}"
                    )
        renamed = [self.rename.get(name, name) for name in own]
        refuse_duplicates(renamed, f"table {self.name!r} (as renamed)")

    @property
    def columns(self) -> dict[str, str]:
        """Name in the union -> its own name."""
        return {self.rename.get(name, name): name for name in self.table.column_names}


class UnionTable:
    """The members one after the other, each row with all columns; a TableReader."""

    def __init__(self, members: Sequence[Member], source: str) -> None:
        if not members:
            raise SchemaError(f"{source} names no table")
        names = [member.name for member in members]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise SchemaError(f"two tables are called {twice}: say `name` for one of them")
        self.members, self.source, self.bad_rows = list(members), source, 0
        self.column_names = list(dict.fromkeys(name for member in members for name in member.columns))
        self.partial = tuple(n for n in self.column_names if any(n not in m.columns for m in members))
        """Columns that some table does not have."""
        self.untyped = any(member.table.untyped for member in members)
        self.rows: dict[str, int] = {}
        """Rows of each table in the last iteration, in its order."""

    def batches(self, schema: Schema | None = None, *, dictionary: bool = False) -> Iterator[pa.RecordBatch]:
        """See TableReader. Where a member lacks a column of the schema its rows are null there."""
        self.bad_rows, self.rows = 0, {member.name: 0 for member in self.members}
        if schema is not None:
            self._require(schema)
        types = {} if schema is not None else self._types()
        for member in self.members:
            if schema is not None:
                pieces = _typed(member, schema, dictionary)
            else:
                pieces = _as_it_is(member, types, dictionary)
            for batch in pieces:
                self.rows[member.name] += batch.num_rows
                yield batch
            self.bad_rows += member.table.bad_rows

    def _require(self, schema: Schema) -> None:
        require_columns(schema, self.column_names, self.source)
        for member in self.members:
            if not set(schema.names) & set(member.columns):
                raise SchemaError(f"table {member.name!r} has none of the schema's columns: leave it out")
        strict = [c.name for c in schema.columns if c.name in self.partial and not c.nullable]
        if strict:
            raise SchemaError(
                f"{self.source}: not all tables have {strict}: set nullable: true and missing: absent"
            )

    def _types(self) -> dict[str, pa.DataType]:
        """The type of each column that holds what every member has in it; text where nothing else does."""
        found: dict[str, set[pa.DataType]] = {name: set() for name in self.column_names}
        for member in self.members:
            batch = next(iter(member.table.batches()))
            for name, own in member.columns.items():
                kind = batch.schema.field(own).type
                found[name].add(pa.string() if name in member.values else kind)
        return {name: _common(kinds) for name, kinds in found.items()}


def _common(kinds: set[pa.DataType]) -> pa.DataType:
    if len(kinds) == 1:
        return next(iter(kinds))
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64() if any(map(pa.types.is_floating, kinds)) else pa.int64()
    return pa.string()


def _as_it_is(member: Member, types: Mapping[str, pa.DataType], dictionary: bool) -> Iterator[pa.RecordBatch]:
    for batch in member.table.batches():
        arrays = []
        for name, kind in types.items():
            if name in member.columns:
                values = batch.column(batch.schema.get_field_index(member.columns[name]))
                values = _renamed(values, member.values[name]) if name in member.values else values
                values = values if values.type == kind else pc.cast(values, kind)
            else:
                values = pa.nulls(batch.num_rows, kind)
            arrays.append(values.dictionary_encode() if dictionary and kind == pa.string() else values)
        yield pa.RecordBatch.from_arrays(arrays, names=list(types))


def _typed(member: Member, schema: Schema, dictionary: bool) -> Iterator[pa.RecordBatch]:
    own = [_own(member, column) for column in schema.columns if column.name in member.columns]
    for batch in member.table.batches(Schema(tuple(own)), dictionary=dictionary):
        arrays = []
        for column in schema.columns:
            coded = dictionary and wants_dictionary(column)
            if column.name not in member.columns:
                arrays.append(pa.nulls(batch.num_rows, DICTIONARY if coded else column.arrow))
                continue
            values = batch.column(batch.schema.get_field_index(member.columns[column.name]))
            if column.name in member.values:
                values = _translated(values, member, column)
                values = values.dictionary_encode() if coded else values
            arrays.append(values)
        yield pa.RecordBatch.from_arrays(arrays, names=list(schema.names))


def _own(member: Member, column: Column) -> Column:
    """How the member's reader has to read it: as text where values are called otherwise."""
    name = member.columns[column.name]
    if column.name in member.values:
        return Column(name, "text", "string", "text", missing_values=())
    return replace(column, name=name)


def _translated(texts: pa.Array, member: Member, column: Column) -> pa.Array:
    values, bad = cast_column(_renamed(texts, member.values[column.name]), column, 1)
    if bad:
        raise SchemaError(f"table {member.name!r}: {next(iter(bad.values()))}: say in `values` what it is")
    return values


def _renamed(values: pa.Array, words: Mapping[str, str | None]) -> pa.Array:
    texts = values if values.type == pa.string() else pc.cast(values, pa.string())
    place = pc.index_in(texts, value_set=pa.array(list(words), pa.string()))
    return pc.if_else(place.is_valid(), pa.array(list(words.values()), pa.string()).take(place), texts)


def open_union(path: Path, **reading: Any) -> UnionTable:
    """The tables that a YAML names (see above); `reading` goes to `open_table`. Errors name the YAML."""
    import yaml

    try:
        content = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise TabularError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise SchemaError(f"{path} is not YAML: {error}") from None
    listed = content.get("tables") if isinstance(content, dict) else None
    if not isinstance(listed, list) or not all(isinstance(one, dict) and "table" in one for one in listed):
        raise SchemaError(f"{path}: expected a list called tables, each with `table: PATH`")
    try:
        return UnionTable([_member(one, path.parent, reading) for one in listed], str(path))
    except TabularError as error:
        raise type(error)(f"{path}: {error}") from None


def _member(told: Mapping[str, Any], folder: Path, reading: Mapping[str, Any]) -> Member:
    for key in told:
        if key not in KEYS:
            raise SchemaError(f"unknown key {key!r} of a table{nearest(str(key), KEYS)}; known: {KEYS}")
    rename, values = told.get("rename") or {}, told.get("values") or {}
    if not isinstance(rename, dict) or not all(isinstance(m, dict) for m in [values, *values.values()]):
        raise SchemaError(f"table {told['table']!r}: rename and values are mappings of name to name")
    path = folder / str(told["table"])
    return Member(
        str(told.get("name") or path.name.split(".")[0]),
        open_table(path, **reading),
        {str(own): str(name) for own, name in rename.items()},
        {
            str(name): {str(old): None if new is None else str(new) for old, new in words.items()}
            for name, words in values.items()
        },
    )
