"""Record batches of text or of a source's own types, turned into the types of a schema.

Enters a batch and a Schema; leaves a batch with exactly the schema's columns and types, and the rows that do
not fit it, each with its reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError, nearest
from nemo_tabular.readers.badrows import BadRow, shown
from nemo_tabular.schema.column import Column, Schema
from nemo_tabular.schema.texts import bad_positions, parse_texts

DICTIONARY = pa.dictionary(pa.int32(), pa.string())
_NOUNS = {
    "integer": "an integer",
    "category": "a category",
    "decimal": "a number",
    "float": "a float",
    "boolean": "a boolean",
    "date": "a date",
    "time": "a time",
    "timestamp": "a timestamp",
}


def wants_dictionary(column: Column) -> bool:
    """Whether a column of text repeats so much that it is best kept as a dictionary with indices."""
    return column.type == "string" and column.codec == "category"


def require_columns(schema: Schema, found: Sequence[str], source: str) -> None:
    """SchemaError unless the source has every column of the schema (more are ignored)."""
    for name in schema.names:
        if name not in found:
            raise SchemaError(
                f"{source} has no column {name!r}{nearest(name, list(found))}; the schema needs "
                f"{len(schema.names)} columns, the table has {len(found)}"
            )


def cast_batch(
    batch: pa.RecordBatch, schema: Schema, *, dictionary: bool, number: Callable[[int], int], most: int
) -> tuple[pa.RecordBatch, list[BadRow]]:
    """The batch as the schema says, without its bad rows, and those (at most `most` a column).

    `number` gives the row number, for people, of a position in this batch.
    """
    arrays: list[pa.Array] = []
    reasons: dict[int, str] = {}
    for column in schema.columns:
        texts = batch.column(batch.schema.get_field_index(column.name))
        values, bad = cast_column(texts, column, most)
        arrays.append(_as_dictionary(values) if dictionary and wants_dictionary(column) else _plain(values))
        for position, reason in bad.items():
            reasons.setdefault(position, reason)
    out = pa.RecordBatch.from_arrays(arrays, names=list(schema.names))
    if not reasons:
        return out, []
    keep = np.ones(batch.num_rows, bool)
    keep[list(reasons)] = False
    rows = [BadRow(number(p), reason, _line(batch, p)) for p, reason in reasons.items()]
    return out.filter(pa.array(keep)), rows


def cast_column(values: pa.Array, column: Column, most: int) -> tuple[pa.Array, dict[int, str]]:
    """The values in the column's type, and the reason for each position that does not fit (null there)."""
    is_text = pa.types.is_string(values.type) or values.type == DICTIONARY
    if is_text:
        values = _missing_to_null(values, column)
    elif pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    typed, bad = _parsed(values, column, most)
    if not column.nullable and typed.null_count > len(bad) and len(bad) < most:
        nulls = np.flatnonzero(np.asarray(pc.is_null(typed).to_numpy(zero_copy_only=False)))
        for position in nulls[: most + len(bad)].tolist():
            bad.setdefault(
                position, f"column {column.name!r} is missing, where the schema says nullable: false"
            )
    return typed, bad


def _parsed(values: pa.Array, column: Column, most: int) -> tuple[pa.Array, dict[int, str]]:
    if values.type == DICTIONARY and pa.types.is_string(column.arrow):
        return values, {}
    values = _plain(values)
    if values.type == column.arrow:
        return values, {}
    is_text = pa.types.is_string(values.type)

    def parse(some: pa.Array) -> pa.Array:
        return parse_texts(some, column) if is_text else pc.cast(some, column.arrow)

    try:
        return parse(values), {}
    except pa.ArrowInvalid:
        positions = bad_positions(values, parse, most)
    noun = _NOUNS.get(column.kind, f"a {column.kind}") + (
        f" of the format {column.format}" if column.format else ""
    )
    bad = {
        p: f"column {column.name!r}: {shown(values[p].as_py())} is not {noun} ({column.type})"
        for p in positions
    }
    if len(positions) >= most:
        return pa.nulls(len(values), column.arrow), bad  # the caller stops at these: nobody reads the values
    mask = np.zeros(len(values), bool)
    mask[positions] = True
    return parse(pc.if_else(pa.array(mask), pa.scalar(None, values.type), values)), bad


def _missing_to_null(texts: pa.Array, column: Column) -> pa.Array:
    """Nulls where the text says missing; "" in quotes is a value of string columns, missing in others."""
    is_string = pa.types.is_string(column.arrow)
    marks = [m for m in column.missing_values if m or not is_string]
    if "" not in column.missing_values and texts.null_count:
        texts = pc.fill_null(_plain(texts), "")
    if pa.types.is_dictionary(texts.type):
        words = _null_where(texts.dictionary, marks)
        return (
            pa.DictionaryArray.from_arrays(texts.indices, words) if words is not texts.dictionary else texts
        )
    return _null_where(texts, marks)


def _null_where(texts: pa.Array, marks: list[str]) -> pa.Array:
    if marks == [""]:
        found = pc.equal(pc.binary_length(texts), 0)
    elif marks:
        found = pc.is_in(texts, pa.array(marks))
    else:
        return texts
    return pc.if_else(found, pa.scalar(None, texts.type), texts) if pc.any(found).as_py() else texts


def _as_dictionary(values: pa.Array) -> pa.Array:
    """Dictionary-encoded with int32 indices, and no null among the words."""
    if values.type == DICTIONARY and values.dictionary.null_count == 0:
        return values
    return _plain(values).dictionary_encode()


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _line(batch: pa.RecordBatch, position: int) -> str:
    """The row as a line of CSV."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow([c[position].as_py() for c in batch.columns])
    return out.getvalue()
