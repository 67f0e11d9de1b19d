"""Texts as dates, times and timestamps: ISO 8601 with its offsets, and the common other formats.

Enters distinct texts with their counts; leaves the range, the time zones and the format of those that fit.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.schema.column import Column
from nemo_tabular.schema.dateformats import ISO_FORMATS, instants, kind_of, pattern_of
from nemo_tabular.schema.reading import Reading, matches

_FEW = 64  # texts that a format is tried on


class IsoReading(Reading):
    """ISO 8601 dates, times or timestamps; `offsets` are the time zones met, `formats` those of `ISO_FORMATS`
    that every text has: at most one, once texts were seen.
    """

    def __init__(self, kind: str, type: str) -> None:
        super().__init__(Column("", kind, type, "calendar"))
        self.shape = _ISO_SHAPES[kind]
        self.offsets: set[str] = set()
        self.formats = [format for format in ISO_FORMATS if kind_of(format) == kind]
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
        self.formats = [f for f in self.formats if matches(words, pattern_of(f)).all()]
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


def likely_formats(words: pa.Array) -> list[str]:
    """The formats that more than half of the texts fit, by a look at few texts and formats of their shape."""
    few = pc.utf8_trim_whitespace(words.slice(0, _FEW))
    shapes = dict.fromkeys(_shape(w) for w in few.to_pylist() if any(c.isdigit() for c in w))
    candidates = [f for shape in shapes for f in _BY_SHAPE.get(shape, [])]
    return [f for f in candidates if 2 * int(instants(few, f)[1].sum()) > len(few)]


def first_day_first(format: str) -> bool:
    """Whether a numeric format writes the day before the month."""
    return -1 < format.find("%d") < format.find("%m")


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
