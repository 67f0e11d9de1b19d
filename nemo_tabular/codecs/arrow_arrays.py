"""Arrow arrays enter; the numpy arrays of numbers that they store leave, and the other way round.

Dates, times and timestamps are the integers that Arrow stores; decimals are unscaled int64.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.schema import types as schema_types

_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=(.+))?\]")
_DECIMAL = re.compile(r"(decimal(?:32|64|128|256))\((\d+), (-?\d+)\)")
_DICTIONARY = re.compile(r"dictionary<values=([^,]+), .*>")


def arrow_type(text: str) -> pa.DataType:
    """The Arrow type that `str(type)` wrote; a dictionary type gives the type of its values."""
    if match := _DICTIONARY.fullmatch(text):
        return arrow_type(match[1])
    if match := _TIMESTAMP.fullmatch(text):
        return pa.timestamp(match[1], tz=match[2])
    if match := _DECIMAL.fullmatch(text):
        return getattr(pa, match[1])(int(match[2]), int(match[3]))
    if "list<" in text:
        return schema_types.arrow_type(text, "type")
    return pa.type_for_alias(text)


def storage_dtype(kind: pa.DataType) -> np.dtype:
    """The numpy type of the values that Arrow stores for `kind`."""
    if pa.types.is_boolean(kind):
        return np.dtype(np.uint8)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return np.dtype(kind.to_pandas_dtype())
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        return np.dtype(np.int32)
    return np.dtype(np.int64)


def is_exact(kind: pa.DataType) -> bool:
    """True for types whose values are integers at heart."""
    return not pa.types.is_floating(kind)


def numbers(array: pa.Array) -> np.ndarray:
    """The storage numbers of an array, zero-copy where Arrow allows; undefined under a null."""
    kind = array.type
    if pa.types.is_decimal(kind):
        return _decimal_numbers(array)
    if pa.types.is_boolean(kind):
        return array.cast(pa.uint8()).fill_null(0).to_numpy(zero_copy_only=False)
    dtype = storage_dtype(kind)
    data = array.buffers()[1]
    if data is None or len(array) == 0:
        return np.zeros(len(array), dtype)
    return np.frombuffer(data, dtype, count=array.offset + len(array))[array.offset :]


def _decimal_numbers(array: pa.Array) -> np.ndarray:
    """Unscaled values; OverflowError where one does not fit int64."""
    if not pa.types.is_decimal128(array.type):
        try:
            array = array.cast(pa.decimal128(38, array.type.scale))
        except pa.ArrowInvalid as error:
            raise OverflowError(str(error)) from error
    if len(array) == 0:
        return np.zeros(0, np.int64)
    words = np.frombuffer(array.buffers()[1], np.int64, count=2 * (array.offset + len(array)))
    low, high = words.reshape(-1, 2)[array.offset :].T
    wide = high != low >> 63
    if array.null_count:
        wide &= array.is_valid().to_numpy(zero_copy_only=False)
    if wide.any():
        raise OverflowError(
            f"{array[int(np.flatnonzero(wide)[0])]} does not fit 63 bits at scale {array.type.scale}"
        )
    return low


def array_of(values: np.ndarray, missing: np.ndarray | None, kind: pa.DataType) -> pa.Array:
    """The Arrow array of type `kind` with these storage numbers, null where `missing`."""
    if missing is not None and not missing.any():
        missing = None
    valid = None if missing is None else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    if pa.types.is_boolean(kind):
        data = np.packbits(values.astype(bool), bitorder="little")
    elif pa.types.is_decimal(kind):
        words = np.stack([values, values >> 63], axis=1)
        plain = pa.decimal128(38, kind.scale)
        array = pa.Array.from_buffers(plain, len(values), [valid, pa.py_buffer(words)])
        return array.cast(kind, safe=False)
    else:
        data = np.ascontiguousarray(values, dtype=storage_dtype(kind))
    return pa.Array.from_buffers(kind, len(values), [valid, pa.py_buffer(data)])


def storage_number(value: Any, kind: pa.DataType) -> int | float:
    """The storage number of one Python value (an int for everything but floats)."""
    if pa.types.is_integer(kind):
        return int(value)
    if pa.types.is_floating(kind):
        return float(value)
    if pa.types.is_decimal(kind):
        return int(Decimal(value).scaleb(kind.scale).to_integral_value())
    return int(numbers(pa.array([value], kind))[0])


def python_value(number: int | float, kind: pa.DataType) -> str:
    """A storage number as a person writes it, for messages."""
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        return str(number)
    return str(array_of(np.array([number]), None, kind)[0])
