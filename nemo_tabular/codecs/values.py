"""Numbers, dates or times with few distinct values enter; one code a value leaves.

Codes: missing (if nullable), nan, inf, -inf (if seen), then the values in rising order.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.arrow_arrays import array_of, arrow_type, numbers, python_value, storage_dtype
from nemo_tabular.codecs.base import Codec, Slot, books_of, check_options
from nemo_tabular.codecs.specials import NON_FINITE, all_finite, of_either, rows_of, seen_specials
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

KNOWN_POLICIES = ("error", "nearest", "clip", "missing")

LOOKUP_LIMIT = 1 << 16
"""Whole numbers that span less are found in a table of that size, the others by binary search."""


@dataclass(frozen=True, eq=False, kw_only=True)
class ValuesCodec(Codec):
    """One token a value. Option `unseen` (error | nearest | missing): for values not seen at fit."""

    codec: ClassVar[str] = "values"
    by_value: ClassVar[bool] = True
    sampled: ClassVar[bool] = False

    numbers: tuple[int | float, ...]
    """Storage numbers, rising (see arrow_arrays)."""
    specials: tuple[str, ...] = ()
    unseen: str = "error"

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> ValuesCodec:
        """CodecError if the profile gave up counting the distinct values."""
        unseen = check_options(column, ("unseen",)).get("unseen", "error")
        if unseen not in ("error", "nearest", "missing"):
            raise CodecError(
                f"column {column.name!r}: unseen: {unseen} is not one of error, nearest, missing"
            )
        if profile.distinct is None:
            raise CodecError(
                f"column {column.name!r}: too many distinct values for one token each; set codec: digits"
            )
        values = numbers(pa.array(list(profile.distinct), arrow_type(column.type)).drop_null())
        finite = np.unique(values[np.isfinite(values)] + 0.0 if values.dtype.kind == "f" else values).tolist()
        specials = seen_specials(profile)
        books = books_of(column, nullable=unseen == "missing" or not (finite or specials))
        return cls(**books, numbers=tuple(finite), specials=specials, unseen=unseen)

    def extended(self, column: Column, profile: ColumnProfile) -> Self:
        """With the values that the other table adds."""
        other = self.fit(column, profile)
        return replace(
            super().extended(column, profile),
            numbers=tuple(sorted({*self.numbers, *other.numbers})),
            specials=of_either(self.specials, other.specials),
            nullable=self.nullable or other.nullable,
        )

    def _meanings(self) -> dict[str, list[Hashable]]:
        return {"value": [*self.specials, *self.numbers]}

    @property
    def slots(self) -> tuple[Slot, ...]:
        """One slot."""
        return (Slot(self._first + len(self.numbers)),)

    @property
    def rising(self) -> bool:
        """Where nothing is missing or not finite."""
        return self._first == 0

    @property
    def _first(self) -> int:
        return int(self.nullable) + len(self.specials)

    @cached_property
    def _values(self) -> np.ndarray:
        return np.array(self.numbers, storage_dtype(self.arrow_type))

    @cached_property
    def _lookup(self) -> np.ndarray | None:
        """Index of the nearest value for each whole number of the span; None where binary search does it."""
        if not self.numbers or (
            self._values.dtype.kind == "f" and not np.all(self._values == np.rint(self._values))
        ):
            return None
        span = int(self.numbers[-1]) - int(self.numbers[0])
        if span >= LOOKUP_LIMIT or abs(self.numbers[0]) >= 2**53:
            return None
        whole = np.arange(span + 1) + int(self.numbers[0])
        return self._nearest(whole.astype(self._values.dtype)).astype(np.int32)

    @cached_property
    def _table(self) -> np.ndarray:
        """The storage number of every code, for one gather."""
        before = [np.nan] * int(self.nullable) + [NON_FINITE[s] for s in self.specials]
        filler = np.array(before if self._values.dtype.kind == "f" else [0] * self._first, self._values.dtype)
        return np.concatenate([filler, self._values])

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        values = self._storage(array)
        missing = self._null_rows(array)
        missing = None if missing is None else np.flatnonzero(missing)
        special = self._special_rows(values, missing)
        if self.numbers:
            if missing is not None or special:
                values = values.copy()
                for rows in [*special.values(), *([] if missing is None else [missing])]:
                    values[rows] = self._values[0]
            codes[:, 0] = self._codes_of(array, values, policy)
        for name, rows in special.items():
            codes[rows, 0] = self._special_code(name, rows, array)
        if missing is not None:
            codes[missing, 0] = 0
        if not self.numbers and len(array) and self._first == 0:
            raise CodecError(
                f"column {self.name!r}: no value was seen at fit; refit on a table that has some"
            )

    def _storage(self, array: pa.Array) -> np.ndarray:
        try:
            return numbers(array)
        except OverflowError as error:
            raise CodecError(f"column {self.name!r}: {error}; refit with codec: text") from error

    def _special_rows(self, values: np.ndarray, missing: np.ndarray | None) -> dict[str, np.ndarray]:
        if values.dtype.kind != "f" or all_finite(values):
            return {}
        rows = {name: rows_of(name, values) for name in NON_FINITE}
        if missing is not None:
            for mask in rows.values():
                mask[missing] = False
        return {name: mask for name, mask in rows.items() if mask.any()}

    def _special_code(self, name: str, rows: np.ndarray, array: pa.Array) -> int:
        if name not in self.specials:
            raise CodecError(
                f"column {self.name!r}: {int(rows.sum()):,} of {len(array):,} values are {name}, and none "
                "was at fit; refit on a table that has some, or make them missing"
            )
        return int(self.nullable) + self.specials.index(name)

    def _codes_of(self, array: pa.Array, values: np.ndarray, policy: str | None) -> np.ndarray:
        if self._lookup is not None:
            low, high = self._values[0], self._values[-1]
            whole = (
                np.clip(values, low, high)
                if len(values) and (values.min() < low or values.max() > high)
                else values
            )
            place = (whole - low if whole.dtype.kind == "f" else whole.astype(np.int64) - int(low)).astype(
                np.int32
            )
            index = self._lookup.take(place, mode="clip")
        else:
            index = np.minimum(np.searchsorted(self._values, values), len(self._values) - 1)
        wrong = self._values.take(index, mode="clip") != values
        codes = (index + self._first).astype(np.int32, copy=False)
        if wrong.any():
            codes[wrong] = self._mend_unseen(
                array, values, wrong, self._policy(policy, self.unseen, KNOWN_POLICIES)
            )
        return codes

    def _mend_unseen(
        self, array: pa.Array, values: np.ndarray, wrong: np.ndarray, policy: str
    ) -> np.ndarray | int:
        if policy in ("nearest", "clip"):
            return self._nearest(values[wrong]) + self._first
        if policy == "missing" and self.nullable:
            return 0
        near = self._nearest(values[wrong][:1])[0]
        value = array.filter(pa.array(wrong))[0]
        raise CodecError(
            f"column {self.name!r}: {value} was not seen at fit (nearest: "
            f"{python_value(self._values[near], self.arrow_type)}; {int(wrong.sum()):,} of "
            f"{len(array):,} values); refit, or set unseen: nearest, or codec: digits"
        )

    def _nearest(self, values: np.ndarray) -> np.ndarray:
        """Index of the nearest value; the lower one of two that are equally near."""
        right = np.clip(np.searchsorted(self._values, values), 1, max(1, len(self._values) - 1))
        left = right - 1
        right = np.minimum(right, len(self._values) - 1)
        exact = values.astype(np.float64)  # only compares distances, so rounding beyond 2**53 does no harm
        closer = (
            exact - self._values[left].astype(np.float64) > self._values[right].astype(np.float64) - exact
        )
        # Equality first: two neighbours beyond 2**53 are the same float.
        return np.where(
            (closer | (self._values[right] == values)) & (self._values[left] != values), right, left
        )

    def _decode(self, codes: np.ndarray) -> pa.Array:
        if not len(self._table):
            return pa.nulls(len(codes), self.arrow_type)
        missing = codes[:, 0] == 0 if self.nullable else None
        return array_of(self._table.take(codes[:, 0], mode="clip"), missing, self.arrow_type)

    def _params(self) -> dict[str, Any]:
        return {"numbers": list(self.numbers), "specials": list(self.specials), "unseen": self.unseen}

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> ValuesCodec:
        lists = {"numbers": tuple(params["numbers"]), "specials": tuple(params["specials"])}
        return cls(**books, **(params | lists))
