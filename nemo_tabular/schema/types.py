"""Arrow types and their printed names, both ways: `timestamp[us, tz=UTC]` <-> pa.timestamp("us", "UTC").

Enters the text of a type; leaves the Arrow type, or a SchemaError that lists what is possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyarrow as pa

from nemo_tabular.errors import SchemaError

_PLAIN: dict[str, pa.DataType] = {
    str(t): t
    for t in (
        pa.int8(), pa.int16(), pa.int32(), pa.int64(),
        pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float32(), pa.float64(), pa.bool_(), pa.string(), pa.date32(),
        pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"), pa.binary(),
    )
}  # fmt: skip
_PATTERNS: dict[str, Callable[..., pa.DataType]] = {
    r"timestamp\[(s|ms|us|ns)\]": lambda unit: pa.timestamp(unit),
    r"timestamp\[(s|ms|us|ns), tz=(.+)\]": lambda unit, tz: pa.timestamp(unit, tz),
    r"decimal128\((\d+), (\d+)\)": lambda p, s: pa.decimal128(int(p), int(s)),
}


_LIST = re.compile(r"(fixed_size_list|large_list|list)<(?:\w+: )?(.+)>(?:\[(\d+)\])?")


def arrow_type(text: str, where: str) -> pa.DataType:
    """The Arrow type that prints as `text`; `where` opens the message of the SchemaError if there is none."""
    if text in _PLAIN:
        return _PLAIN[text]
    if found := _LIST.fullmatch(str(text)):
        item = arrow_type(found[2], where)
        return pa.list_(item, int(found[3])) if found[3] else pa.list_(item)
    for pattern, build in _PATTERNS.items():
        found = re.fullmatch(pattern, str(text))
        if found:
            try:
                return build(*found.groups())
            except (ValueError, pa.ArrowInvalid) as e:
                raise SchemaError(f"{where}: type {text!r} is impossible: {e}") from None
    known = ", ".join(_PLAIN)
    raise SchemaError(
        f"{where}: type {text!r} is not known; it is one of {known}, timestamp[us], timestamp[us, "
        "tz=Europe/Paris], decimal128(20, 3), or lists of numbers such as list<item: float> and "
        "fixed_size_list<item: float>[16]"
    )


def plain_type(found: pa.DataType, where: str) -> pa.DataType:
    """The type under which a typed source's column is kept: dictionaries and all strings become string, lists
    of numbers keep their nesting.

    Raises SchemaError for what no codec can hold (structs, lists of texts, durations).
    """
    if pa.types.is_dictionary(found):
        return plain_type(found.value_type, where)
    if pa.types.is_large_string(found) or pa.types.is_string_view(found) or pa.types.is_null(found):
        return pa.string()
    if pa.types.is_date64(found):
        return pa.date32()
    if pa.types.is_float16(found):
        return pa.float32()
    if pa.types.is_decimal(found):
        return pa.decimal128(min(found.precision, 38), found.scale)
    if str(found) in _PLAIN or pa.types.is_timestamp(found):
        return found
    if isinstance(found, pa.FixedShapeTensorType):
        return _nested(plain_type(found.value_type, where), found.shape)
    if is_list(found):
        item = plain_type(found.value_type, where)
        if is_list(item) or pa.types.is_integer(item) or pa.types.is_floating(item):
            return pa.list_(item, found.list_size) if pa.types.is_fixed_size_list(found) else pa.list_(item)
    if pa.types.is_large_binary(found) or pa.types.is_fixed_size_binary(found):
        return pa.binary()
    raise SchemaError(
        f"{where}: values of type {found} are of no known column type: convert the column (to numbers, "
        "texts, or lists of numbers) or drop it"
    )


def is_list(found: pa.DataType) -> bool:
    """Whether a cell of this type is a list, of whatever size."""
    types = pa.types
    return types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)


def _nested(item: pa.DataType, shape: Sequence[int]) -> pa.DataType:
    for size in reversed(shape):
        item = pa.list_(item, size)
    return item
