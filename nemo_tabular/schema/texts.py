"""Text to typed values, the way a column of the schema says, whole arrays at a time.

Enters an Arrow array of strings and a Column; leaves an array of the column's type, or the positions of the
texts that do not fit it. Nothing is rounded, clipped or guessed: a text fits or it does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.schema.column import Column
from nemo_tabular.schema.dateformats import DAY_US, ISO_FORMATS, instants

Parse = Callable[[pa.Array], pa.Array]
_INFINITE = pa.array(["inf", "infinity"])
_NOT_FINITE = r"[+-]?(?i:inf|infinity|nan)"


def parse_texts(texts: pa.Array, column: Column) -> pa.Array:
    """`texts` (string array, nulls stay null) as the column's type; pa.ArrowInvalid if any text does not fit.

    Blanks around numbers and dates carry no meaning and are allowed; strings are kept to the letter. An
    integer may have leading zeros here (the inference never calls such a column integer by itself).
    """
    parse = parser_of(column)
    try:
        return parse(texts)
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(texts)
        if trimmed.equals(texts):
            raise
        return parse(trimmed)


def parser_of(column: Column) -> Parse:
    """The strict parser of a column's texts: raises pa.ArrowInvalid when any of them does not fit."""
    kind = column.arrow
    if pa.types.is_string(kind):
        return lambda texts: texts
    if pa.types.is_boolean(kind):
        return lambda texts: _by_distinct(texts, lambda t: _booleans(t, column.format))
    if pa.types.is_temporal(kind):
        if column.format is not None:
            return lambda texts: _by_distinct(texts, lambda t: _formatted(t, column.format or "", kind))
        return lambda texts: _iso(texts, kind)
    marked = _marks(column)
    plain = _integers if pa.types.is_integer(kind) else _floats if pa.types.is_floating(kind) else _decimals
    return lambda texts: plain(marked(texts), kind)


def bad_positions(texts: pa.Array, parse: Parse, most: int) -> list[int]:
    """Positions of the texts that `parse` refuses, in order, by bisection; stops after `most` of them."""
    found: list[int] = []
    stack = [(0, len(texts))]
    while stack and len(found) < most:
        start, stop = stack.pop()
        try:
            parse(texts.slice(start, stop - start))
        except pa.ArrowInvalid:
            if stop - start == 1:
                found.append(start)
                continue
            middle = (start + stop) // 2
            stack += [(middle, stop), (start, middle)]
    return found


def has_marks(column: Column) -> bool:
    """Whether the column's numbers are written otherwise than 1234.5."""
    return (column.decimal, column.thousands, column.prefix, column.suffix) != (".", "", "", "")


def number_pattern(decimal: str, thousands: str, prefix: str = "", suffix: str = "") -> str:
    """RE2 pattern of numbers with these marks: `$-1,234.56`, `-1.234,5`, `12 %`."""
    mark, sep, before, after = (re.escape(m) for m in (decimal, thousands, prefix.strip(), suffix.strip()))
    whole = rf"[1-9]\d{{0,2}}(?:{sep}\d{{3}})+|\d+" if thousands else r"\d+"
    return rf"^\s*-?(?:{before}\s*)?-?(?:{whole})(?:{mark}\d+)?(?:\s*{after})?\s*$"


def _marks(column: Column) -> Parse:
    """Turns `1.234,56 EUR` into `1234.56`, and refuses what is not written so."""
    if not has_marks(column):
        return lambda texts: texts
    pattern = number_pattern(column.decimal, column.thousands, column.prefix, column.suffix)
    pattern = f"{pattern}|^{_NOT_FINITE}$"
    drop = "|".join(
        re.escape(m.strip()) for m in (column.prefix, column.suffix, column.thousands) if m.strip()
    )
    drop = rf"\s+|{drop}" if drop else r"\s+"

    def plain(texts: pa.Array) -> pa.Array:
        if pc.all(pc.match_substring_regex(texts, pattern)).as_py() is False:
            raise pa.ArrowInvalid("a number is written with other marks")
        return pc.replace_substring(pc.replace_substring_regex(texts, drop, ""), column.decimal, ".")

    return plain


def _integers(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    values = pc.cast(texts, kind)
    if _mentions(texts, "xX") and pc.any(pc.match_substring_regex(texts, "[xX]")).as_py():
        raise pa.ArrowInvalid("hexadecimal")  # Arrow reads 0x10 as 16: a code, not a number
    return values


def _floats(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    values = pc.cast(texts, kind)
    infinite = pc.is_inf(values)
    if pc.any(infinite).as_py():
        written = pc.utf8_lower(pc.utf8_ltrim(pc.filter(texts, infinite), "+-"))
        if not pc.all(pc.is_in(written, _INFINITE)).as_py():
            raise pa.ArrowInvalid("too large for a float")  # Arrow reads 1e309 as inf
    return values


def _decimals(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    return pc.cast(texts, kind)


def _booleans(texts: pa.Array, format: str | None) -> pa.Array:
    false, true = (format or "false/true").split("/", 1)
    if format is None:
        texts = pc.utf8_lower(texts)
    if not pc.all(pc.is_in(texts, pa.array([false, true]))).as_py():
        raise pa.ArrowInvalid("not a boolean")
    return pc.equal(texts, true)


def _iso(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_time(kind):
        whole = pc.binary_join_element_wise("1970-01-01", texts, "T")
        return pc.cast(pc.cast(whole, pa.timestamp(kind.unit)), kind)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        try:
            return pc.cast(texts, kind)
        except pa.ArrowInvalid:  # no offset in the text: the wall clock of the column's zone
            return pc.assume_timezone(pc.cast(texts, pa.timestamp(kind.unit)), kind.tz)
    return pc.cast(texts, kind)


def _formatted(texts: pa.Array, format: str, kind: pa.DataType) -> pa.Array:
    if pc.all(pc.equal(pc.utf8_length(texts), ISO_FORMATS.get(format, -1))).as_py():
        return _iso(texts, kind)
    us, ok = instants(texts, format)
    if not ok.all():
        raise pa.ArrowInvalid(f"not of the format {format}")
    if pa.types.is_date(kind):
        return pa.array((us // DAY_US).astype(np.int32), pa.int32()).view(pa.date32())
    if pa.types.is_time(kind):
        return pc.cast(pa.array(us % DAY_US).view(pa.time64("us")), kind)
    wall = pc.cast(pa.array(us).view(pa.timestamp("us")), pa.timestamp(kind.unit))
    return wall if kind.tz is None else pc.assume_timezone(wall, kind.tz)


def _by_distinct(texts: pa.Array, parse: Parse) -> pa.Array:
    """Parse each distinct text once: dates and booleans repeat."""
    encoded = texts.dictionary_encode()
    return parse(encoded.dictionary).take(encoded.indices)


def _mentions(texts: pa.Array, letters: str) -> bool:
    """Whether any of the letters occurs in the array's bytes; far cheaper than a look at each text."""
    data = texts.buffers()[2]
    if data is None or len(texts) == 0:
        return False
    offsets = np.frombuffer(texts.buffers()[1], np.int32)
    raw = np.frombuffer(data, np.uint8)[offsets[texts.offset] : offsets[texts.offset + len(texts)]]
    return any(bool((raw == ord(c)).any()) for c in letters)
