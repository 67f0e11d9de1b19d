"""Typed columns as lines of CSV, whole batches at a time.

Enters a record batch and, if there is one, the schema that says how the original wrote its values; leaves
bytes that our own reader reads back to the same values.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.schema.column import Column
from nemo_tabular.schema.texts import has_marks

_UNITS = ("s", "ms", "us", "ns")


def csv_lines(batch: pa.RecordBatch, columns: Sequence[Column | None], delimiter: str = ",") -> pa.Buffer:
    """The batch as UTF-8 bytes, one line a row, each ending in a newline.

    Missing is an empty field (or the column's first missing_values), an empty text is `""`. Floats are the
    shortest text that reads back as the same double, with a point; timestamps are ISO 8601 with their offset.
    """
    if not batch.num_rows:
        return pa.py_buffer(b"")
    fields = [_fields(v, c, delimiter) for v, c in zip(batch.columns, columns, strict=True)]
    end, between, nothing = (pa.scalar(text, pa.large_string()) for text in ("\n", delimiter, ""))
    fields[-1] = pc.binary_join_element_wise(fields[-1], end, nothing)
    lines = pc.binary_join_element_wise(*fields, between) if len(fields) > 1 else fields[0]
    return pa.py_buffer(_bytes_of(lines))


def header_line(names: Sequence[str], delimiter: str = ",") -> bytes:
    """The first line of the file."""
    return (
        delimiter.join(_quoted(pa.array(list(names), pa.large_string()), delimiter).to_pylist()) + "\n"
    ).encode()


def _bytes_of(lines: pa.Array) -> memoryview:
    """The texts of an array, one after the other, without a copy."""
    offsets = memoryview(lines.buffers()[1]).cast("q")
    start, stop = offsets[lines.offset], offsets[lines.offset + len(lines)]
    return memoryview(lines.buffers()[2])[start:stop]


def _fields(values: pa.Array, column: Column | None, delimiter: str) -> pa.Array:
    """One column as the text of its fields, large_string, without nulls."""
    if pa.types.is_dictionary(values.type):
        words = _quoted(pc.cast(values.dictionary, pa.large_string()), delimiter)
        texts = pc.take(words, values.indices)
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        texts = _quoted(pc.cast(values, pa.large_string()), delimiter)
    else:
        texts = pc.cast(_shown(values, column), pa.large_string())
        if delimiter in ".,-:" or (column is not None and (has_marks(column) or column.format)):
            texts = _quoted(texts, delimiter)
    missing = column.missing_values[0] if column is not None else ""
    return pc.fill_null(texts, missing) if texts.null_count else texts


def _shown(values: pa.Array, column: Column | None) -> pa.Array:
    kind = values.type
    if pa.types.is_boolean(kind):
        false, true = (column.format if column and column.format else "false/true").split("/", 1)
        return pc.if_else(values, true, false)
    if pa.types.is_temporal(kind):
        return _time_text(values, column.format if column else None)
    texts = _float_text(values) if pa.types.is_floating(kind) else pc.cast(values, pa.string())
    return _with_marks(texts, column) if column is not None and has_marks(column) else texts


def _float_text(values: pa.Array) -> pa.Array:
    """Shortest text that reads back; whole numbers keep a `.0`, so that the column stays one of floats."""
    texts = pc.cast(values, pa.string())
    whole = pc.and_(pc.equal(pc.floor(values), values), pc.is_finite(values))
    if not pc.any(whole).as_py():
        return texts
    bare = pc.and_(whole, pc.equal(pc.find_substring(texts, "e"), -1))
    return pc.if_else(pc.fill_null(bare, False), pc.binary_join_element_wise(texts, ".0", ""), texts)


def _with_marks(texts: pa.Array, column: Column) -> pa.Array:
    """1234.5 as `1234,5` or `$1234.5`; marks of thousands are not written, the reader does without them."""
    texts = pc.replace_substring(texts, ".", column.decimal)
    if column.prefix:
        texts = pc.replace_substring_regex(texts, r"^(-?)(\d)", rf"\1{column.prefix.strip()}\2")
    if column.suffix:
        texts = pc.replace_substring_regex(texts, r"(\d)$", rf"\1{column.suffix}")
    return texts


def _time_text(values: pa.Array, format: str | None) -> pa.Array:
    kind = values.type
    if pa.types.is_time(kind):  # strftime and casts know timestamps only
        stamps = pc.cast(
            pc.cast(values, pa.time64(kind.unit) if kind.bit_width == 64 else pa.time64("us")), pa.int64()
        )
        values = pc.cast(stamps, pa.timestamp(kind.unit if kind.bit_width == 64 else "us"))
    if format is not None:
        seconds = _coarsest(values) if "%f" not in format else values
        return pc.strftime(seconds, format=format.replace("%S.%f", "%S"))
    if pa.types.is_time(kind):
        return pc.strftime(_coarsest(values), format="%H:%M:%S")
    return pc.cast(_coarsest(values), pa.string())


def _coarsest(values: pa.Array) -> pa.Array:
    """The same instants in the coarsest unit that holds them all: no `.000000` behind whole seconds."""
    if not pa.types.is_timestamp(values.type):
        return values
    for unit in _UNITS:
        try:
            return pc.cast(values, pa.timestamp(unit, values.type.tz))
        except pa.ArrowInvalid:
            continue
    return values


def _quoted(texts: pa.Array, delimiter: str) -> pa.Array:
    """Puts quotes around the texts that need it: with specials, or empty."""
    special = "|".join(('["\r\n]', "\\" + delimiter, "^$"))
    needed = pc.fill_null(pc.match_substring_regex(texts, special), False)
    if not pc.any(needed).as_py():
        return texts
    inner = pc.replace_substring(texts, '"', '""')
    quote = pa.scalar('"', texts.type)
    return pc.if_else(
        needed, pc.binary_join_element_wise(quote, inner, quote, pa.scalar("", texts.type)), texts
    )
