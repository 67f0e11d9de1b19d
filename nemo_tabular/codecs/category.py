"""Strings, booleans or anything with a list of values enter; one code a value leaves.

Codes: missing (if nullable), other (if unseen values go there), then the values in text order.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.codecs.base import Codec, Slot, books_of, check_options
from nemo_tabular.errors import CodecError, nearest

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

POLICIES = ("error", "other", "missing")


@dataclass(frozen=True, eq=False, kw_only=True)
class CategoryCodec(Codec):
    """One token a value. Values are kept as text; columns of another type are read and written through
    Arrow's cast.

    Options: `unseen` (error | other | missing): what a value gets that was not seen at fit. `min_count`:
    values rarer than that become "other" (implies unseen: other). `other_text`: how "other" is
    written (default "other").
    """

    codec: ClassVar[str] = "category"
    by_value: ClassVar[bool] = True
    sampled: ClassVar[bool] = False

    values: tuple[str, ...]
    unseen: str = "error"
    other_text: str = "other"

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> CategoryCodec:
        """CodecError if the profile gave up counting the distinct values."""
        options = check_options(column, ("unseen", "min_count", "other_text"))
        if profile.distinct is None:
            raise CodecError(
                f"column {column.name!r}: too many distinct values for one token each; looks like an id "
                "or a number: drop it, set codec: text or codec: digits, or raise max_categories"
            )
        min_count = int(options.get("min_count", 1))
        unseen = options.get("unseen", "other" if min_count > 1 else "error")
        if unseen not in POLICIES or (min_count > 1 and unseen == "error"):
            raise CodecError(
                f"column {column.name!r}: unseen: {unseen} is not possible here; choose one of "
                f"{', '.join(POLICIES[1:] if min_count > 1 else POLICIES)}"
            )
        empty = cls(**books_of(column), values=())
        kept = [
            value for value, count in profile.distinct.items() if count >= min_count and value is not None
        ]
        texts = empty._texts(pa.array(kept, empty.arrow_type)) if kept else pa.array([], pa.string())
        return cls(
            **books_of(column, nullable=unseen == "missing" or not (kept or unseen == "other")),
            values=tuple(sorted(set(texts.to_pylist()))),
            unseen=unseen,
            other_text=str(options.get("other_text", "other")),
        )

    def extended(self, column: Column, profile: ColumnProfile) -> Self:
        """With the values that the other table adds."""
        other = self.fit(column, profile)
        values = tuple(sorted({*self.values, *other.values}))
        nullable = self.nullable or other.nullable
        return replace(super().extended(column, profile), values=values, nullable=nullable)

    def _meanings(self) -> dict[str, list[Hashable]]:
        other: list[Hashable] = [("other",)] * (self.unseen == "other")
        return {"value": [*other, *self.values]}

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot."""
        return (Slot(self._first + len(self.values)),)

    @property
    def _first(self) -> int:
        return int(self.nullable) + int(self.unseen == "other")

    @cached_property
    def _value_set(self) -> pa.Array:
        return pa.array(self.values, pa.string())

    @cached_property
    def _table(self) -> pa.Array:
        """The value of every code, typed, for one `take`."""
        missing = [None] * int(self.nullable)
        other = [self.other_text] * int(self.unseen == "other")
        texts = pa.array([*missing, *other, *self.values], pa.string())
        try:
            return texts.cast(self.arrow_type)
        except pa.ArrowInvalid:  # "other" is no value of a typed column: it is written as missing
            return pa.array([*missing, *([None] * len(other)), *self.values], pa.string()).cast(
                self.arrow_type
            )

    def _texts(self, array: pa.Array) -> pa.Array:
        return array if pa.types.is_string(array.type) else array.cast(pa.string())

    def _typed(self, values: pa.Array | pa.ChunkedArray) -> pa.Array:
        """Dictionary arrays stay as they are: their indices are remapped, their rows never hashed."""
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if isinstance(values, pa.DictionaryArray) and pa.types.is_string(values.type.value_type):
            return values
        return super()._typed(values)

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        missing = None
        if isinstance(array, pa.DictionaryArray):
            self._refuse_missing(array)
            lookup, indices = self._codes_of(array.dictionary), array.indices
            if array.dictionary.null_count and self.nullable:
                lookup[array.dictionary.is_null().to_numpy(zero_copy_only=False)] = 0
            if array.null_count:  # what is missing looks up one code more than there are words
                indices = indices.fill_null(len(lookup))
                lookup = np.append(lookup, np.int32(0))
            if len(lookup):
                np.take(lookup, indices.to_numpy(), out=codes[:, 0], mode="clip")
        elif pa.types.is_boolean(array.type):
            missing = self._null_rows(array)
            bits = array.cast(pa.uint8()).fill_null(0).to_numpy()
            np.take(self._codes_of(pa.array([False, True])), bits, out=codes[:, 0], mode="clip")
        else:
            missing = self._null_rows(array)
            codes[:, 0] = self._codes_of(array)
        if missing is not None:
            codes[missing, 0] = 0
        self._mend_unseen(array, codes[:, 0], policy)

    def _codes_of(self, array: pa.Array) -> np.ndarray:
        """int32 codes; -1 where the value is not known."""
        found = pc.index_in(self._texts(array), value_set=self._value_set).fill_null(-1 - self._first)
        return found.to_numpy(zero_copy_only=False) + np.int32(self._first)

    def _mend_unseen(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        """Replace -1 by what the policy says."""
        if len(codes) == 0 or codes.min() >= 0:
            return
        policy = self._policy(policy, self.unseen, POLICIES)
        if policy == "other" and self.unseen == "other":
            codes[codes < 0] = self._first - 1
        elif policy in ("missing", "other") and self.nullable:
            codes[codes < 0] = 0
        else:
            rows = np.flatnonzero(codes < 0)
            value = str(array[int(rows[0])].as_py())
            raise CodecError(
                f"column {self.name!r}: {value!r} was not seen at fit{nearest(value, self.values)} "
                f"({len(rows):,} of {len(codes):,} values); refit, or set unseen: other or unseen: missing"
            )

    def _decode(self, codes: np.ndarray) -> pa.Array:
        return self._table.take(pa.array(np.ascontiguousarray(codes[:, 0])))

    def _params(self) -> dict[str, Any]:
        other = {"other_text": self.other_text} if self.unseen == "other" else {}
        return {"values": list(self.values), "unseen": self.unseen} | other

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> CategoryCodec:
        return cls(**books, **(params | {"values": tuple(params["values"])}))
