"""The ways a column of text can be read: as integers, floats, marked numbers, booleans, dates, times.

Enters distinct texts with their counts; leaves, for each reading, what fits, what does not, and the range.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile import least_decimals, word_counts
from nemo_tabular.schema.column import Column
from nemo_tabular.schema.dateformats import DAY_US, instants, kind_of
from nemo_tabular.schema.texts import bad_positions, has_marks, number_pattern, parse_texts

MOST_ODD_WORDS = 64  # a reading that more texts than this do not fit is wrong
MOST_ODD_SHARE = 0.05
_PROBE = 4  # a reading that fits none of a few texts is not worth the search for those it does not fit
_FEW = 64
_SOME = 1_000
_EXACT_DIGITS = 15  # every decimal of at most 15 digits survives the way into a double and back
_MARKS = "$€£¥%"


class Reading:
    """One way to read a column's texts. `odd` holds the texts that do not fit it, while they are few."""

    shape = ""
    """RE2 pattern that every text that fits matches."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.alive = True
        self.fitting = 0
        self.odd: dict[str, int] = {}
        self.low: Any = None
        self.high: Any = None

    @property
    def odd_rows(self) -> int:
        return sum(self.odd.values())

    def look(self, words: pa.Array, counts: np.ndarray) -> None:
        """Take in texts (no nulls) with their counts; dies when too many do not fit."""
        if not self.alive or not len(words):
            return
        probe = words.take(pa.array(np.linspace(0, len(words) - 1, min(_PROBE, len(words))).astype(np.int64)))
        if len(self.misfits(probe, _PROBE)) == len(probe):
            self.alive = False
            return
        bad = self.misfits(words, MOST_ODD_WORDS + 1 - len(self.odd))
        if bad and len(words) > MOST_ODD_WORDS and counts.max() == 1:
            words, counts = word_counts(words)  # one odd text may fill a batch
            bad = self.misfits(words, MOST_ODD_WORDS + 1 - len(self.odd))
        if bad:
            for word, n in zip(words.take(pa.array(bad)).to_pylist(), counts[bad].tolist(), strict=True):
                self.odd[word] = self.odd.get(word, 0) + n
            keep = np.ones(len(words), bool)
            keep[bad] = False
            words, counts = words.filter(pa.array(keep)), counts[keep]
        self.fitting += int(counts.sum())
        few = self.odd_rows <= max(10, MOST_ODD_SHARE * (self.fitting + self.odd_rows))
        self.alive = few and len(self.odd) <= MOST_ODD_WORDS
        if self.alive and len(words):
            self.note(words, counts)

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        """Positions of the words that do not fit, at most `most` of them."""
        try:
            self.parse(words)
            return []
        except pa.ArrowInvalid:
            # what does not even look right is found at once; only the rest is worth a search
            matched = _matches(words, self.shape)
            unlike = np.flatnonzero(~matched)[:most].tolist()
            if len(unlike) == most:
                return unlike
            alike = np.flatnonzero(matched)
            bad = bad_positions(words.take(pa.array(alike)), self.parse, most - len(unlike))
            return sorted([*unlike, *alike[bad].tolist()])

    def parse(self, words: pa.Array) -> pa.Array:
        """The words as typed values; pa.ArrowInvalid if any does not fit. Blanks around them do not count."""
        return parse_texts(words, self.column)

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        """Keep figures of the words, all of which fit."""
        self._widen(self.parse(words))

    def _widen(self, values: pa.Array) -> None:
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None and ends["min"] == ends["min"]:
            self.low = ends["min"] if self.low is None else min(self.low, ends["min"])
            self.high = ends["max"] if self.high is None else max(self.high, ends["max"])


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


class BooleanReading(Reading):
    """true/false in one of the usual cases; `style` is how the first one is written."""

    def __init__(self) -> None:
        super().__init__(Column("", "boolean", "bool", "category"))
        self.styles: set[str] = set()

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        fits = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(words)), pa.array(["false", "true"]))
        return np.flatnonzero(~np.asarray(fits.to_numpy(zero_copy_only=False)))[:most].tolist()

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        for word in words.to_pylist():
            style = next((s for s in (str.lower, str.title, str.upper) if s(word) == word), str.lower)
            self.styles.add("/".join(style(t) for t in ("false", "true")))


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
        return np.flatnonzero(~_matches(words, self.shape))[:most].tolist()

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
        return np.flatnonzero(~_matches(words, pattern))[:most].tolist()

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


class IsoReading(Reading):
    """ISO 8601 dates, times or timestamps; `offsets` are the time zones met."""

    def __init__(self, kind: str, type: str) -> None:
        super().__init__(Column("", kind, type, "calendar"))
        self.shape = _ISO_SHAPES[kind]
        self.offsets: set[str] = set()
        self.fine = False

    def parse(self, words: pa.Array) -> pa.Array:
        words = pc.utf8_trim_whitespace(words)
        if self.column.kind != "timestamp":
            return super().parse(words)
        return _instants(words, pa.timestamp("ns" if self.fine else "us"))

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        bad = super().misfits(words, most)
        if bad and self.column.kind == "timestamp" and not self.fine:
            self.fine = True  # nine digits after the second
            finer = super().misfits(words, most)
            self.fine = len(finer) < len(bad)
            return min(finer, bad, key=len)
        return bad

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        super().note(words, counts)
        if self.column.kind == "timestamp":
            zones = pc.extract_regex(pc.utf8_trim_whitespace(words), _OFFSET)
            found = pc.unique(pc.fill_null(pc.struct_field(zones, "zone"), "")).to_pylist()
            self.offsets |= {_normal(zone) for zone in found}


class FormatReading(Reading):
    """Dates, times or timestamps of one strptime format."""

    def __init__(self, format: str) -> None:
        kind = kind_of(format)
        types = {"date": "date32[day]", "time": "time64[us]", "timestamp": "timestamp[us]"}
        super().__init__(Column("", kind, types[kind], "calendar", format=format))

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        _, ok = instants(pc.utf8_trim_whitespace(words), self.column.format or "")
        return np.flatnonzero(~ok)[:most].tolist()


def readings_of(words: pa.Array) -> list[Reading]:
    """The readings worth trying for a column that holds these distinct texts, the plainest first."""
    some = words.slice(0, _SOME)
    for family in (_plain, _iso):
        if any(_fits(r, some) for r in family()):
            return family()
    return [*_plain(), *_iso(), *_marked(some), *(FormatReading(f) for f in _formats(some))]


def _plain() -> list[Reading]:
    return [BooleanReading(), IntegerReading(), BigIntegerReading(), FloatReading()]


def _iso() -> list[Reading]:
    kinds = {"date": "date32[day]", "timestamp": "timestamp[us]", "time": "time64[us]"}
    return [IsoReading(kind, type) for kind, type in kinds.items()]


def _fits(reading: Reading, words: pa.Array) -> bool:
    """Whether every one of the words fits; the reading is used up by the trial."""
    reading.look(words, np.ones(len(words), np.int64))
    return reading.alive and not reading.odd


def leading_zero_rows(words: pa.Array, counts: np.ndarray) -> int:
    """Rows whose text is digits after a needless zero: 007, -01, 00.5."""
    suspects = pc.or_(
        pc.starts_with(words, "0"), pc.or_(pc.starts_with(words, "-0"), pc.starts_with(words, " "))
    )
    if not pc.any(suspects).as_py():
        return 0
    zeros = pc.match_substring_regex(words, r"^\s*-?0\d")
    return int(counts[np.asarray(zeros.to_numpy(zero_copy_only=False))].sum())


_ISO_SHAPES = {
    "date": r"^\s*\d{4}-\d\d-\d\d\s*$",
    "timestamp": r"^\s*\d{4}-\d\d-\d\d(?:[T ].*)?$",
    "time": r"^\s*\d\d:\d\d",
}
_OFFSET = r"[T ]\d{2}:?\d{2}.*?(?P<zone>Z|[+-]\d{2}(?::?\d{2})?)$"


def _normal(zone: str) -> str:
    """One spelling of an offset: +02:00; UTC for zero; empty for none."""
    if not zone:
        return ""
    digits = zone[1:].replace(":", "").ljust(4, "0")
    return "UTC" if zone == "Z" or not digits.strip("0") else f"{zone[0]}{digits[:2]}:{digits[2:]}"


def _instants(words: pa.Array, kind: pa.DataType) -> pa.Array:
    """Timestamps with or without an offset; those with one as UTC, so that ranges can be compared."""
    try:
        return pc.cast(words, kind)
    except pa.ArrowInvalid:
        zoned = pc.match_substring_regex(words, _OFFSET)
        nothing = pa.scalar(None, pa.string())
        instants = pc.cast(pc.if_else(zoned, words, nothing), pa.timestamp(kind.unit, "UTC"))
        return pc.coalesce(pc.cast(instants, kind), pc.cast(pc.if_else(zoned, nothing, words), kind))


def _matches(words: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(words, pattern).to_numpy(zero_copy_only=False)


def _bare(words: pa.Array, column: Column) -> pa.Array:
    """Digits and the decimal mark only."""
    for mark in (column.thousands, column.prefix, column.suffix):
        words = pc.replace_substring(words, mark, "") if mark else words
    return pc.utf8_trim_whitespace(words)


def _marked(words: pa.Array) -> list[Reading]:
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


_DATES = (
    *(
        "%Y/%m/%d",
        "%Y.%m.%d",
        "%Y-%m",
        "%Y/%m",
        "%m/%Y",
        "%m-%Y",
        "%d %b %Y",
        "%d-%b-%Y",
        "%b %d, %Y",
        "%b %d %Y",
    ),
    *("%d %B %Y", "%B %d, %Y", "%b-%Y", "%b %Y", "%B %Y", "%d-%b-%y", "%b-%y"),
    *(m + s + d + s + y for s, y, (m, d) in product("/-.", ("%Y", "%y"), (("%d", "%m"), ("%m", "%d")))),
)
_TIMES = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%H:%M:%S.%f")
_FORMATS = (
    *_DATES,
    "%Y%m%dT%H%M%S",
    *(f"{d} {t}" for d, t in product((*_DATES, "%Y-%m-%d"), _TIMES)),
    *(f"{d}, {t}" for d, t in product(_DATES, _TIMES)),
    *("%I:%M %p", "%I:%M:%S %p"),
)


def _shape(text: str) -> str:
    """What is neither letter nor digit, in order: `03/04/2020 10:11` -> `// :`."""
    return "".join(c for c in text if not c.isalnum())


_BY_SHAPE: dict[str, list[str]] = {}
for _format in _FORMATS:
    _BY_SHAPE.setdefault(_shape(_format.replace("%", "")), []).append(_format)


def _formats(words: pa.Array) -> list[str]:
    """The formats that more than half of the texts fit, by a look at few texts and formats of their shape."""
    few = pc.utf8_trim_whitespace(words.slice(0, _FEW))
    shapes = dict.fromkeys(_shape(w) for w in few.to_pylist() if any(c.isdigit() for c in w))
    candidates = [f for shape in shapes for f in _BY_SHAPE.get(shape, [])]
    return [f for f in candidates if 2 * int(instants(few, f)[1].sum()) > len(few)]


def first_day_first(format: str) -> bool:
    """Whether a numeric format writes the day before the month."""
    return -1 < format.find("%d") < format.find("%m")


__all__ = [
    "DAY_US", "BigIntegerReading", "BooleanReading", "FloatReading", "FormatReading", "IntegerReading",
    "IsoReading", "MarkedReading", "Reading", "first_day_first", "readings_of",
]  # fmt: skip
