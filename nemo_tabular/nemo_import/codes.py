"""The state of one of NeMo's column coders comes in; texts to ids and ids to texts leave, as NeMo does it.
That includes what we would not do: numbers are cut, not rounded, and texts go through a float on their way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nemo_tabular.errors import CodecError
from nemo_tabular.nemo_import.scalers import Scaler, scaler_from_json, scaler_from_record, scaler_to_json
from nemo_tabular.nemo_import.unpickle import Record

MISSING = "nan"


@dataclass(frozen=True)
class CategoryCode:
    """One id a category."""

    name: str
    ids: Mapping[str, int]
    end_id: int

    @property
    def code_len(self) -> int:
        """Ids of a cell."""
        return 1

    def encode(self, texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """The ids of each text. Raises CodecError for a text that was not there when NeMo fitted."""
        out: dict[str, tuple[int, ...]] = {}
        for text in texts:
            if text not in self.ids:
                raise CodecError(
                    f"column {self.name!r}: category {text!r} was not seen when NeMo's coder was fitted"
                )
            out[text] = (self.ids[text],)
        return out

    def decode(self, cells: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
        """The text of each tuple of ids. Raises CodecError for an id of another column."""
        texts = {i: text for text, i in self.ids.items()}
        return {cell: _known(texts, cell[0], self.name, 0) for cell in cells}

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"code_type": "category", "name": self.name, "ids": dict(self.ids), "end_id": self.end_id}


@dataclass(frozen=True)
class NumberCode:
    """Base-B digits, most significant first, of an int (minus the least) or of a scaled float."""

    name: str
    base: int
    digits: tuple[Mapping[int, int], ...]
    """Of each position, most significant first: id -> digit."""
    missing_id: int | None
    end_id: int
    least: float | int
    """What is subtracted before the digits are taken: the smallest int, or the smallest scaled float."""
    scaler: Scaler | None = None
    extra_digits: int = 0
    """Digits behind the point of a scaled float."""

    @property
    def code_len(self) -> int:
        """Ids of a cell."""
        return len(self.digits)

    def encode(self, texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """The ids of each text. Raises CodecError for what is no number or beyond the code's range."""
        texts = list(texts)
        out: dict[str, tuple[int, ...]] = {}
        if MISSING in texts:
            out[MISSING] = self._missing()
        numbers = [text for text in texts if text != MISSING]
        for text, value in zip(numbers, self._integers(numbers), strict=True):
            if not 0 <= value < self.base**self.code_len:
                raise CodecError(
                    f"column {self.name!r}: {text!r} is outside of what NeMo's coder was fitted to"
                )
            out[text] = self._ids(value)
        return out

    def _missing(self) -> tuple[int, ...]:
        if self.missing_id is None:
            raise CodecError(
                f"column {self.name!r} has no code for missing values (fitted with hasnan=False)"
            )
        # As NeMo: the first id says it all, and the others are the largest of their digit.
        return (self.missing_id, *(max(position) for position in self.digits[1:]))

    def _integers(self, texts: list[str]) -> list[int]:
        try:
            values = [float(text) for text in texts]
        except ValueError as error:
            raise CodecError(f"column {self.name!r}: {error}") from error
        for text, value in zip(texts, values, strict=True):
            if not math.isfinite(value):
                raise CodecError(
                    f"column {self.name!r}: {text!r} is not a finite number, and NeMo has no id for it"
                )
        if self.scaler is None:
            return [int(value) - int(self.least) for value in values]
        scaled = self.scaler.transform(np.array(values, np.float64)) - self.least
        # Cut towards zero, as astype(int) does, but without its overflow.
        return [int(value) for value in (scaled * self.base**self.extra_digits).tolist()]

    def _ids(self, value: int) -> tuple[int, ...]:
        out = []
        for position in reversed(self.digits):
            value, digit = divmod(value, self.base)
            # With fillall=False only the digits seen have an id; the nearest stands in, the lower of two.
            out.append(min(position, key=lambda i: (abs(position[i] - digit), i)))
        return tuple(reversed(out))

    def decode(self, cells: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], str]:
        """The text of each tuple of ids. Raises CodecError for an id of another column or position."""
        cells = list(cells)
        numbers = [cell for cell in cells if cell[0] != self.missing_id]
        out = dict.fromkeys((cell for cell in cells if cell[0] == self.missing_id), MISSING)
        values = [self._value(cell) for cell in numbers]
        out.update(zip(numbers, self._texts(values), strict=True))
        return out

    def _value(self, cell: tuple[int, ...]) -> int:
        value = 0
        for k, (token, position) in enumerate(zip(cell, self.digits, strict=True)):
            value = value * self.base + _known(position, token, self.name, k)
        return value

    def _texts(self, values: list[int]) -> list[str]:
        if self.scaler is None:
            return [str(value + int(self.least)) for value in values]
        unit = self.base**self.extra_digits
        scaled = np.array([value / unit for value in values], np.float64) + self.least
        places = max(int(abs(np.log10(0.1 / unit))), 1)
        return [f"{x:.{places}f}" for x in self.scaler.inverse(scaled).tolist()]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {
            "code_type": "float" if self.scaler else "int",
            "name": self.name,
            "base": self.base,
            "digits": [[list(position), list(position.values())] for position in self.digits],
            "missing_id": self.missing_id,
            "end_id": self.end_id,
            "least": self.least,
            "extra_digits": self.extra_digits,
            "scaler": scaler_to_json(self.scaler) if self.scaler else None,
        }


Code = CategoryCode | NumberCode


def _known(texts: Mapping[int, Any], token: int, name: str, place: int) -> Any:
    if token not in texts:
        raise CodecError(f"column {name!r}: id {token} is none of those allowed at its token {place}")
    return texts[token]


def code_from_record(name: str, state: Record) -> Code:
    """The coder of one column from its pickled state."""
    if state.kind == "CategoryCode":
        return CategoryCode(name, dict(state.get("item_to_id")), int(state.get("end_id")))
    floats = state.kind == "FloatCode"
    return NumberCode(
        name=name,
        base=int(state.get("base")),
        digits=tuple(
            {int(token): int(digit) for token, digit in position.items()}
            for position in reversed(state.get("digits_id_to_item"))
        ),
        missing_id=int(state.get("NA_token_id")[0]) if state.get("hasnan") else None,
        end_id=int(state.get("end_id")),
        least=float(state.get("mval")) if floats else int(state.get("int_min")),
        scaler=scaler_from_record(state.get("scaler")) if floats else None,
        extra_digits=int(state.get("extra_digits")) if floats else 0,
    )


def code_from_json(content: Mapping[str, Any]) -> Code:
    """The inverse of `to_json`."""
    values = {key: value for key, value in content.items() if key != "code_type"}
    if content["code_type"] == "category":
        return CategoryCode(**values)
    values["digits"] = tuple(dict(zip(*position, strict=True)) for position in values["digits"])
    values["scaler"] = scaler_from_json(values["scaler"]) if values["scaler"] else None
    return NumberCode(**values)
