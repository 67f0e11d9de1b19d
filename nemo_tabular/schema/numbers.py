"""Texts as numbers: integers of any size, floats, and numbers with marks such as $1.234,50.

Enters distinct texts with their counts; leaves range, resolution and leading zeros of those that fit.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile import least_decimals
from nemo_tabular.schema.column import Column
from nemo_tabular.schema.reading import Reading, matches
from nemo_tabular.schema.texts import has_marks, number_pattern

_EXACT_DIGITS = 15  # every decimal of at most 15 digits survives the way into a double and back
_MARKS = "$€£¥%"


class NumberReading(Reading):
    """Numbers. Leading zeros are counted: they make the column a code."""

    def __init__(self, column: Column) -> None:
        super().__init__(column)
        self.leading_zeros = 0

    def inherit(self, plainer: NumberReading) -> None:
        """Take over the figures of a reading whose every text fits this one too."""
        self.alive, self.odd = True, {}
        self.fitting, self.leading_zeros = plainer.fitting, plainer.leading_zeros
        self.low, self.high = plainer.low, plainer.high


class IntegerReading(NumberReading):
    """Integers that fit int64."""

    shape = r"^\s*-?\d+\s*$"

    def __init__(self) -> None:
        super().__init__(Column("", "integer", "int64", "digits"))

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        super().note(words, counts)
        self.leading_zeros += leading_zero_rows(words, counts)


class BigIntegerReading(IntegerReading):
    """Integers of any size; the range is kept as floats."""

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        return np.flatnonzero(~matches(words, self.shape))[:most].tolist()

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        self._widen(pc.cast(pc.utf8_trim_whitespace(words), pa.float64()))
        self.leading_zeros += leading_zero_rows(words, counts)


class FloatReading(NumberReading):
    """Numbers with a point or an exponent. A plus sign before bare digits makes a code (a telephone)."""

    shape = r"^\s*[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|(?i:inf|infinity|nan))\s*$"

    def __init__(self, column: Column | None = None) -> None:
        super().__init__(column or Column("", "float", "double", "digits"))
        self.places = 0
        self.decimals: int | None = 0
        self.exponents = self.special = self.points = False
        self.digits = 0
        self.inexact: str | None = None
        self.overflow: str | None = None

    def parse(self, words: pa.Array) -> pa.Array:
        if (
            pc.any(pc.starts_with(words, "+")).as_py()
            and pc.any(pc.match_substring_regex(words, r"^\+\d+$")).as_py()
        ):
            raise pa.ArrowInvalid("a code with a plus sign")
        if has_marks(self.column):
            return super().parse(words)
        return pc.cast(pc.utf8_trim_whitespace(words), pa.float64())  # 1e309 is inf here: see note

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        values = self.parse(words)
        finite = pc.is_finite(values)
        if not pc.all(finite).as_py():
            too_large = words.filter(pc.and_(pc.is_inf(values), pc.match_substring_regex(words, "[0-9]")))
            self.overflow = too_large[0].as_py() if len(too_large) else self.overflow
            self.special = self.special or len(too_large) < pc.sum(pc.invert(finite)).as_py()
            words, values = words.filter(finite), values.filter(finite)
            counts = counts[np.asarray(finite.to_numpy(zero_copy_only=False))]
        self._widen(values)
        self.decimals = least_decimals(values.to_numpy(), self.decimals)
        self.leading_zeros += leading_zero_rows(words, counts)
        self._note_digits(words)

    def _note_digits(self, words: pa.Array) -> None:
        mark = self.column.decimal
        exponents = pc.match_substring_regex(words, "[eE]")
        if pc.any(exponents).as_py():
            self.exponents = True
            words = words.filter(pc.invert(exponents))
        if not len(words):
            return
        words = pc.utf8_trim_whitespace(words)
        point, length = pc.find_substring(words, mark), pc.utf8_length(words)
        after = pc.if_else(pc.equal(point, -1), 0, pc.subtract(pc.subtract(length, point), 1))
        self.places = max(self.places, pc.max(after).as_py() or 0)
        self.points = self.points or bool(pc.any(pc.not_equal(point, -1)).as_py())
        long = words.filter(pc.greater(length, _EXACT_DIGITS + 1))
        if len(long) and self.inexact is None:
            self._note_inexact(long)

    def _note_inexact(self, words: pa.Array) -> None:
        values = self.parse(words)
        differs = pc.not_equal(pc.cast(values, pa.string()), words)
        if not pc.any(differs).as_py():
            self.digits = max(self.digits, _EXACT_DIGITS + 1)
            return
        for word, value in zip(
            words.filter(differs).to_pylist(), values.filter(differs).to_pylist(), strict=True
        ):
            plain = word.replace(self.column.decimal, ".") if self.column.decimal != "." else word
            try:
                exact = Decimal(plain) == Decimal(repr(value))
            except ArithmeticError:
                continue
            if not exact:
                self.inexact = word
                return


class MarkedReading(FloatReading):
    """Numbers such as 1.234,56 or $1,234.50 or 12 %."""

    def __init__(self, decimal: str, thousands: str, prefix: str, suffix: str) -> None:
        super().__init__(
            Column(
                "", "float", "double", "digits",
                decimal=decimal, thousands=thousands, prefix=prefix, suffix=suffix,
            )
        )  # fmt: skip
        self.decided = False
        """Whether a text was seen that only this reading of `,` and `.` explains."""
        self._rival = number_pattern(thousands or "\x00", decimal, prefix, suffix)
        self.example: str | None = None

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        c = self.column
        pattern = number_pattern(c.decimal, c.thousands, c.prefix, c.suffix)
        return np.flatnonzero(~matches(words, pattern))[:most].tolist()

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        values = self.parse(words)
        self._widen(values)
        self.decimals = least_decimals(values.to_numpy(), self.decimals)
        c = self.column
        marked = pc.match_substring_regex(words, "[.,]" if c.decimal == "," or c.thousands else "[.]")
        self._note_digits(_bare(words, c))
        if not self.decided:
            own = pc.and_(marked, pc.invert(pc.match_substring_regex(words, self._rival)))
            if pc.any(own).as_py():
                self.decided = True
                self.example = words.filter(own)[0].as_py()

    def _note_inexact(self, words: pa.Array) -> None:
        self.digits = max(self.digits, _EXACT_DIGITS + 1)


def marked_readings(words: pa.Array) -> list[Reading]:
    """Readings of numbers with the currency or per-cent signs that the first text has."""
    shape = rf"^\s*-?(?P<prefix>[{_MARKS}]?)\s*-?\d[\d.,]*\s*(?P<suffix>[{_MARKS}]?)\s*$"
    found = [f for f in pc.extract_regex(words, shape).to_pylist() if f is not None]
    if 2 * len(found) < len(words) or not found:
        return []
    prefix, suffix = found[0]["prefix"], found[0]["suffix"]
    marks = [(".", ""), (".", ","), (",", ""), (",", ".")]
    return [
        MarkedReading(d, t, prefix, suffix) for d, t in marks if (d, t, prefix, suffix) != (".", "", "", "")
    ]


def leading_zero_rows(words: pa.Array, counts: np.ndarray) -> int:
    """Rows whose text is digits after a needless zero: 007, -01, 00.5."""
    suspects = pc.or_(
        pc.starts_with(words, "0"), pc.or_(pc.starts_with(words, "-0"), pc.starts_with(words, " "))
    )
    if not pc.any(suspects).as_py():
        return 0
    zeros = pc.match_substring_regex(words, r"^\s*-?0\d")
    return int(counts[np.asarray(zeros.to_numpy(zero_copy_only=False))].sum())


def _bare(words: pa.Array, column: Column) -> pa.Array:
    """Digits and the decimal mark only."""
    for mark in (column.thousands, column.prefix, column.suffix):
        words = pc.replace_substring(words, mark, "") if mark else words
    return pc.utf8_trim_whitespace(words)
