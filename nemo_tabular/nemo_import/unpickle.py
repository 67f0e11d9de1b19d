"""The bytes of a pickle that NeMo wrote come in; plain records of its state leave.
Every name in it is looked up in the list below and nowhere else, and stands for a class or function of this
file: no code of the pickle's choice runs, not even numpy's or scikit-learn's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nemo_tabular.errors import StoreError
from nemo_tabular.unpickling import Unadmitted, unpickled

NUMBER_KINDS = "biufU"  # kinds of numpy values a tokenizer's state consists of; never objects


class Record:
    """An instance of one of NeMo's or scikit-learn's classes: its class's name and its attributes."""

    kind = ""

    def __setstate__(self, state: dict[str, Any]) -> None:
        if not isinstance(state, dict):
            raise StoreError(f"the pickle gives {self.kind} a state of type {type(state).__name__}")
        self.__dict__.update(state)

    def get(self, name: str) -> Any:
        """An attribute as a plain value or numpy array. Raises StoreError where the pickle has none."""
        if name not in self.__dict__:
            raise StoreError(
                f"the pickle's {self.kind} has no {name!r}: not written by nemo_toolkit up to 2.7.3?"
            )
        return plain(self.__dict__[name])


def record(name: str) -> type[Record]:
    """A class that stands for NeMo's class of that name."""
    return type(name, (Record,), {"kind": name})


class DType:
    """Stands for numpy.dtype, for numbers and texts only."""

    def __init__(self, text: str, *_: Any) -> None:
        self.dtype = np.dtype(str(text))
        if self.dtype.kind not in NUMBER_KINDS:
            raise StoreError(
                f"the pickle holds numpy values of type {text!r}; numbers and texts are admitted"
            )

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class Array:
    """Stands for a numpy array that is filled after it is made."""

    values: np.ndarray

    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, data = state
        self.values = _array(data, dtype, shape, "F" if fortran else "C")


def _array(data: Any, dtype: Any, shape: tuple, order: str) -> np.ndarray:
    if not isinstance(dtype, DType) or not isinstance(data, bytes | bytearray):
        raise StoreError("the pickle holds a numpy array of objects; numbers and texts are admitted")
    return np.frombuffer(bytes(data), dtype.dtype).reshape(shape, order="F" if order == "F" else "C")


def _from_buffer(data: Any, dtype: Any, shape: tuple, order: str) -> Array:
    array = Array()
    array.values = _array(data, dtype, shape, order)
    return array


def _reconstruct(*_: Any) -> Array:
    return Array()


def _scalar(dtype: Any, data: Any) -> Any:
    return _array(data, dtype, (), "C").item()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise StoreError(f"the pickle encodes a text as {encoding!r}")
    return text.encode("latin1")


def _new(kind: Any, base: Any, _: Any) -> Record:
    if not (isinstance(kind, type) and issubclass(kind, Record) and base is object):
        raise StoreError(f"the pickle makes an object of {kind!r}")
    return kind()


CODER = "nemo.collections.common.tokenizers.column_coder"
SKLEARN = "sklearn.preprocessing._data"
ADMITTED: dict[str, Any] = {
    **{f"{CODER}.{name}": record(name) for name in ("ColumnCodes", "IntCode", "FloatCode", "CategoryCode")},
    "nemo.collections.common.tokenizers.tabular_tokenizer.TabularTokenizer": record("TabularTokenizer"),
    **{
        f"{SKLEARN}.{name}": record(name)
        for name in ("QuantileTransformer", "PowerTransformer", "RobustScaler", "StandardScaler")
    },
    # The three spellings of numpy's own pickles (numpy 1, numpy 2, protocol 5) and those of protocols 0 to 2.
    "numpy.dtype": DType,
    "numpy.ndarray": Array,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    **{f"{module}._reconstructor": _new for module in ("copy_reg", "copyreg")},
    **{f"{module}.object": object for module in ("__builtin__", "builtins")},
    "_codecs.encode": _encode,
}
"""Every name that a pickle may contain, and what it becomes here."""


def unpickle(path: str | Path) -> Record:
    """The ColumnCodes or TabularTokenizer of a file. Raises StoreError naming the file and what is wrong."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        result = unpickled(data, ADMITTED)
    except Unadmitted as error:
        raise StoreError(
            f"{path}: {error}; admitted are the classes of NeMo's column coder and tabular tokenizer, "
            "scikit-learn's scalers, and numpy's numbers"
        ) from None
    except StoreError as error:
        raise StoreError(f"{path}: {error}") from None
    except Exception as error:  # a broken pickle can fail in any way at all
        raise StoreError(f"{path} is no pickle of a NeMo tokenizer, or is cut off ({error})") from error
    if getattr(result, "kind", "") not in ("ColumnCodes", "TabularTokenizer"):
        what = getattr(result, "kind", "") or type(result).__name__
        raise StoreError(f"{path} holds a {what}; expected NeMo's ColumnCodes or TabularTokenizer")
    return result


def plain(value: Any) -> Any:
    """Arrays for their stand-ins; all else as it is."""
    return value.values if isinstance(value, Array) else value
