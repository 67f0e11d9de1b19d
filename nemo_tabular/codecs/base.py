"""An Arrow column and its fitted codec enter; column-local integer codes leave, and the other way round.

Every codec is a frozen object with a JSON form. Authors of a codec write `fit`, `slots`, `_encode`,
`_decode`, `_params` and `_restore`, and for fine-tuning `extended` and `_meanings`; this file keeps the
books: types, chunks, policies, conditions, registry.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.codecs.arrow_arrays import arrow_type
from nemo_tabular.errors import CodecError, nearest

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

CHUNK_ROWS = 32_768
"""Rows coded in one go: the temporaries of a column then stay in the second-level cache."""

CODECS: dict[str, type[Codec]] = {}
"""Registry: every subclass that names its `codec` enters itself."""


@dataclass(frozen=True)
class Slot:
    """One token position of a column."""

    size: int
    """Codes 0 .. size-1."""
    residual: bool = False
    """True: the fine remainder of a number, uniform within the cell that the earlier slots name."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Codec(ABC):
    """Values of one column <-> int32 codes of shape (rows, slots). Frozen; equal if its JSON is."""

    codec: ClassVar[str]
    by_value: ClassVar[bool] = False
    """Whether each code stands for a value (a category, a byte), and not for a piece of a scale that another
    table would have cut elsewhere."""
    sampled: ClassVar[bool] = True
    """Whether `fit` looks at the profile's sample of rows."""

    name: str
    type: str
    """Arrow type of the decoded column, as text."""
    nullable: bool
    format: str | None = None
    """strptime format for texts given as conditions."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "codec" in cls.__dict__:
            CODECS[cls.codec] = cls

    # ------------------------------------------------------------------ what an author writes

    @classmethod
    @abstractmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> Codec:
        """The codec of this column; CodecError if an option is unknown or the values cannot be held."""

    @property
    @abstractmethod
    def slots(self) -> tuple[Slot, ...]:
        """At least one; residual slots come last."""

    @abstractmethod
    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        """Write the codes of an array of this codec's type into `codes` (rows, slots)."""

    @abstractmethod
    def _decode(self, codes: np.ndarray) -> pa.Array:
        """The values of in-range codes; never an error."""

    @abstractmethod
    def _params(self) -> dict[str, Any]:
        """Everything the codec knows beyond the books, as JSON values."""

    @classmethod
    @abstractmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> Codec:
        """Inverse of `_params`."""

    def widths(self, codes: np.ndarray) -> np.ndarray:
        """Grid points in the cell that the modelled slots name, int64 (rows,); log p(residual | cell) =
        -log(width).
        """
        return np.ones(len(codes), np.int64)

    def fill_residual(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """A copy of `codes` whose residual slots are drawn uniformly within the cell; `uniforms` in [0, 1),
        (rows,).
        """
        return codes.astype(np.int32)

    def places(self, slot: int) -> np.ndarray | None:
        """Of a slot whose codes are ranges of numbers, which nothing but their place tells apart: where each
        stands, float64 (size,), from 0 to 1, NaN for codes that stand nowhere (missing, spikes). Else None.
        """
        return None

    @property
    def rising(self) -> bool:
        """Whether the modelled codes, read from left to right, rise with the values: all values have an
        order, and none has a code of its own beside it."""
        return False

    def half_step(self, values: pa.Array) -> np.ndarray | None:
        """The largest round-trip error allowed at each value; None where values come back exactly."""
        return None

    def extended(self, column: Column, profile: ColumnProfile) -> Self:
        """This codec, made to hold the values of another table too: what it knew keeps its meaning, if not
        its code (see `meanings`). CodecError where it cannot.
        """
        return replace(self, nullable=self.nullable or column.nullable, format=column.format)

    def _meanings(self) -> dict[str, list[Hashable]]:
        """As `meanings`, without missing. By default only the very same codec means the same."""
        own = json.dumps(self._params(), sort_keys=True)
        sizes = [slot.size for slot in self.slots if not slot.residual]
        sizes[0] -= self.nullable
        return {f"slot {k}": [(own, code) for code in range(size)] for k, size in enumerate(sizes)}

    # ------------------------------------------------------------------ what everyone calls

    def meanings(self) -> dict[str, list[Hashable]]:
        """What each code of each modelled slot means, the slots under names of their own: what two codecs of
        a column call by the same names is the same.
        """
        named = self._meanings()
        first = next(iter(named))
        return named | {first: ["missing"] * self.nullable + named[first]}

    def encode(self, values: pa.Array | pa.ChunkedArray, *, unseen: str | None = None) -> np.ndarray:
        """int32 codes of shape (rows, slots).

        `unseen` (error, nearest, clip, other, missing, truncate) overrides the declared policy for values
        that the codec cannot hold; one that has no meaning for this codec leaves the declared one in force.
        """
        array = self._typed(values)
        codes = np.empty((len(array), len(self.slots)), np.int32, order="F")
        try:
            for start in range(0, len(array), CHUNK_ROWS):
                self._encode(array.slice(start, CHUNK_ROWS), codes[start : start + CHUNK_ROWS], unseen)
            return codes
        except CodecError as error:
            refused = error
        # Once more in one piece, so that the shares in the message are those of the whole column.
        self._encode(array, codes, unseen)
        raise refused

    def decode(self, codes: np.ndarray) -> pa.Array:
        """The Arrow array, of type `self.type` exactly, that codes of shape (rows, slots) stand for."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.slots):
            raise CodecError(
                f"column {self.name!r}: codes of shape {codes.shape}, expected (rows, {len(self.slots)})"
            )
        for k, slot in enumerate(self.slots):
            if len(codes) and not (codes[:, k].min() >= 0 and codes[:, k].max() < slot.size):
                row = int(np.flatnonzero((codes[:, k] < 0) | (codes[:, k] >= slot.size))[0])
                raise CodecError(
                    f"column {self.name!r}: code {codes[row, k]} at row {row:,}, slot {k} does not belong "
                    f"there (0 to {slot.size - 1}); were these codes made by another tokenizer?"
                )
        pieces = [self._decode(codes[s : s + CHUNK_ROWS]) for s in range(0, len(codes), CHUNK_ROWS)]
        if len(pieces) == 1:
            return pieces[0]
        return pa.concat_arrays(pieces) if pieces else pa.array([], self.arrow_type)

    def codes_for(self, value: Any, unseen: str | None = None) -> np.ndarray:
        """The code row of one Python value or text, for conditions; CodecError if it cannot be held, unless
        `unseen` says what it is then read as.
        """
        return self.encode(self._one(value), unseen=unseen or "error")[0]

    def to_json(self) -> dict[str, Any]:
        """JSON values only: floats that repr exactly, ints of any size, no NaN."""
        books = {"codec": self.codec, "name": self.name, "type": self.type, "nullable": self.nullable}
        return books | ({"format": self.format} if self.format else {}) | self._params()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Codec:
        """Inverse of `to_json`."""
        params = dict(document)
        params.pop("codec", None)
        try:
            books = {key: params.pop(key) for key in ("name", "type", "nullable")}
            return cls._restore(books | {"format": params.pop("format", None)}, params)
        except (KeyError, TypeError) as error:
            raise CodecError(
                f"column {document.get('name')!r}: not a {cls.codec} codec ({error!r}); was the file edited?"
            ) from error

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((self.codec, self.name, self.type))

    @cached_property
    def arrow_type(self) -> pa.DataType:
        """Type of the decoded array."""
        return arrow_type(self.type)

    # ------------------------------------------------------------------ books

    def _typed(self, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """One plain array of this codec's type; other types are cast if that loses nothing."""
        array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        if isinstance(array, pa.DictionaryArray):
            array = array.dictionary_decode()
        if array.type == self.arrow_type:
            return array
        try:
            return array.cast(self.arrow_type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise CodecError(
                f"column {self.name!r}: values of type {array.type} where the codec was fitted on "
                f"{self.type} ({error}); give the type it was fitted on, or fit again"
            ) from error

    def _one(self, value: Any) -> pa.Array:
        """An array of one value, from a Python value or from text as it stands in a CSV."""
        kind = self.arrow_type
        text_column = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        try:
            if value is None:
                return pa.nulls(1, kind)
            if text_column:
                return pa.array([value if isinstance(value, str) else str(value)], kind)
            if not isinstance(value, str):
                return pa.array([value], kind)
            return self._parse(value.strip(), kind)
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            OverflowError,
            ValueError,
        ) as error:
            raise CodecError(
                f"column {self.name!r}: {value!r} is not a value of type {self.type} ({error})"
            ) from error

    def _parse(self, text: str, kind: pa.DataType) -> pa.Array:
        array = pa.array([text])
        if pa.types.is_temporal(kind) and self.format:
            array = pc.strptime(array, format=self.format, unit="us")
        elif pa.types.is_integer(kind) and not text.lstrip("+-").isdigit():
            array = array.cast(pa.float64())  # "40.0" is the integer 40; "40.5" fails in the safe cast below
        elif pa.types.is_timestamp(kind) and kind.tz:
            try:
                return array.cast(kind)
            except pa.ArrowInvalid:  # no zone in the text: wall clock of the column's zone
                return pc.assume_timezone(array.cast(pa.timestamp(kind.unit)), kind.tz, ambiguous="earliest")
        return array.cast(kind)

    def _policy(self, unseen: str | None, declared: str, known: tuple[str, ...]) -> str:
        return unseen if unseen in known else declared

    def _null_rows(self, array: pa.Array) -> np.ndarray | None:
        """Mask of the missing rows, None if there are none; CodecError if the column may not have any."""
        self._refuse_missing(array)
        return array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None

    def _refuse_missing(self, array: pa.Array) -> None:
        if array.null_count and not self.nullable:
            raise CodecError(
                f"column {self.name!r}: {array.null_count:,} of {len(array):,} values are missing, and none "
                "was at fit; fill them, or set nullable: true in the schema and prepare again"
            )


def fit_codec(column: Column, profile: ColumnProfile) -> Codec:
    """Fit the codec that `column.codec` names to the column's profile."""
    if column.codec not in CODECS:
        raise CodecError(
            f"column {column.name!r}: unknown codec {column.codec!r}{nearest(column.codec, list(CODECS))}; "
            f"there are {', '.join(sorted(CODECS))}"
        )
    return CODECS[column.codec].fit(column, profile)


def codec_from_json(document: Mapping[str, Any]) -> Codec:
    """The codec that `to_json` wrote."""
    kind = document.get("codec")
    if kind not in CODECS:
        raise CodecError(f"column {document.get('name')!r}: unknown codec {kind!r}; made by a newer version?")
    return CODECS[kind].from_json(document)


def books_of(column: Column, *, nullable: bool = False) -> dict[str, Any]:
    """The fields that every codec has; `nullable` also where the schema does not say so."""
    return {
        "name": column.name,
        "type": column.type,
        "nullable": column.nullable or nullable,
        "format": column.format,
    }


def check_options(column: Column, known: tuple[str, ...]) -> dict[str, Any]:
    """The column's options as a plain dict; CodecError names an option that the codec does not have."""
    for key in column.options:
        if key not in known:
            raise CodecError(
                f"column {column.name!r}: codec {column.codec!r} has no option {key!r}{nearest(key, known)}; "
                f"it has {', '.join(known) or 'none'}"
            )
    return dict(column.options)
