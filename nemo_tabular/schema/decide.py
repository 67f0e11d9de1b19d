"""From the evidence on one column to its Column: which reading wins, which codec, and why.

Enters the evidence on texts or the figures of a typed column; leaves a Column, or a SchemaError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from nemo_tabular.errors import SchemaError
from nemo_tabular.profile import ColumnStats, is_array
from nemo_tabular.schema.column import DEFAULT_TYPES, Column
from nemo_tabular.schema.dateformats import kind_of
from nemo_tabular.schema.dates import FormatReading, IsoReading, first_day_first
from nemo_tabular.schema.evidence import TextEvidence
from nemo_tabular.schema.numbers import BigIntegerReading, FloatReading, IntegerReading, MarkedReading
from nemo_tabular.schema.reading import BooleanReading, Reading
from nemo_tabular.schema.types import plain_type

FEW_VALUES = 256  # numbers with no more distinct values than this get one token each
SMALL_TABLE = 50  # below it, "half of the rows" says nothing
ID_ROWS = 1_000
ID_SHARE = 0.5
SURELY_ID_SHARE = 0.9
SHORT_TEXT_BYTES = 32
MOST_LEVELS = 256  # of an image's pixels: as many as fit a byte
FEW_CODES = 1_024
LATE_SHARE = 0.01  # a column of numbers in which at most this share is not a number is a broken column
WIDE = 2**62  # the digits codec counts grid points in an int64
CODEC_OF = {
    **dict.fromkeys(("category", "boolean"), "category"),
    **dict.fromkeys(("integer", "decimal", "float"), "digits"),
    **dict.fromkeys(("date", "time", "timestamp"), "calendar"),
    **dict.fromkeys(("code", "text"), "text"),
}
_TEXT_HINTS = ("kind", "type", "format", "decimal", "thousands", "prefix", "suffix")
_NOUN = {k: k + "s" for k in ("integer", "decimal", "float", "boolean", "date", "time", "timestamp")}


def decide_text(e: TextEvidence, hint: Mapping[str, Any], max_categories: int, *, guess: bool) -> Column:
    """The Column for texts.

    Without `guess` (strings of a typed source) only dates and times are read out of them: a frame that came
    from a CSV has its dates as strings, but whoever kept 00501 as a string meant it.
    """
    readings = e.readings()
    if e.rows == e.empty:
        why = f"all {e.rows:,} values are missing: a category with no value but missing"
        return Column(e.name, "category", "string", "category", why=why)
    if hint.get("codec") == "text" or any(k in hint for k in _TEXT_HINTS):
        return _declared(e, hint)
    if not guess:
        readings = [r for r in readings if isinstance(r, IsoReading | FormatReading) and not r.odd]
    reading = _winner(e, readings) if "codec" not in hint else None
    if reading is None:
        return _string(e, hint, max_categories, readings)
    if getattr(reading, "leading_zeros", 0) or isinstance(reading, BigIntegerReading):
        return _code(e, reading)
    return _boolean(e, reading) if isinstance(reading, BooleanReading) else _read(e, reading)


def decide_key(e: TextEvidence, hint: Mapping[str, Any], *, guess: bool) -> Column:
    """The Column for texts of `group_by`, which no model learns: whole numbers, or texts as they stand."""
    if any(k in hint for k in _TEXT_HINTS):
        return _declared(e, hint)
    whole = [r for r in e.readings() if isinstance(r, IntegerReading) and not r.odd_rows] if guess else []
    if whole and not whole[0].leading_zeros and not isinstance(whole[0], BigIntegerReading):
        return replace(_read(e, whole[0]), why="whole numbers that say which document a row belongs to")
    why = "texts that say which document a row belongs to"
    return Column(e.name, "text", "string", "text", e.empty > 0, why=why)


def decide_typed(name: str, stats: ColumnStats, rows: int) -> Column:
    """The Column for a column that brings its own Arrow type."""
    kind, nullable = stats.kind, stats.missing > 0
    if stats.missing == rows:
        why = f"all {rows:,} values are missing: a category with no value but missing"
        return Column(name, "category", "string", "category", why=why)
    if is_array(kind):
        return _array(name, stats, nullable)
    if pa.types.is_boolean(kind):
        return Column(name, "boolean", "bool", "category", nullable, why="booleans in the source")
    low, high = stats.range()
    if pa.types.is_temporal(kind):
        word = "date" if pa.types.is_date(kind) else "time" if pa.types.is_time(kind) else "timestamp"
        why = f"{word}s between {low} and {high}, so typed in the source"
        return Column(name, word, str(kind), "calendar", nullable, why=why)
    distinct = stats.distinct()
    k = len(distinct) if distinct is not None else None
    places = stats.decimals()
    word = "integer" if pa.types.is_integer(kind) else "float" if places is None else "decimal"
    if pa.types.is_decimal(kind):
        word = "decimal"
    codec, say = _number_codec(k, rows, (low, high) if word == "integer" else None)
    digits = f"; {_places(places)}" if word == "decimal" else ""
    count = "many" if k is None else f"{k:,}"
    why = f"{count} distinct {kind} values between {low} and {high}: {say}{digits}"
    if k in (0, 1):
        why = f"one value only, {low}: {say}" if k else f"no finite value: {say}"
    return Column(name, word, str(kind), codec, nullable, why=why)


def _array(name: str, stats: ColumnStats, nullable: bool) -> Column:
    """Lists of numbers and bytes: an image, a vector, or a series where cells differ in length."""
    cells, (low, high) = stats.cells(), stats.range()
    assert cells is not None
    if cells.holes:
        raise SchemaError(
            f"column {name!r}: {cells.holes:,} numbers within its lists are missing or not finite; fill "
            f"them, or leave the column out (command line: --drop {name})"
        )
    where, kind = f"between {low} and {high}", str(plain_type(stats.kind, f"column {name!r}"))
    if cells.shape is None:
        if pa.types.is_nested(stats.kind) and pa.types.is_nested(stats.kind.value_type):
            raise SchemaError(
                f"column {name!r}: its nested lists differ in shape; make them one shape, or leave the "
                f"column out (command line: --drop {name})"
            )
        why = f"lists of {cells.shortest:,} to {cells.longest:,} numbers {where}: a series"
        return Column(name, "series", kind, "array", nullable, why=why)
    shape = "x".join(map(str, cells.shape))
    whole = stats.decimals() == 0 and low is not None and low >= 0 and high <= MOST_LEVELS - 1
    if whole and len(cells.shape) > 1:
        why = f"arrays of shape {shape}, whole numbers {where}: an image of {high + 1} levels"
        options = {"levels": int(high) + 1}
        return Column(name, "image", kind, "array", nullable, options, why=why, shape=cells.shape)
    why = f"arrays of shape {shape}, numbers {where}: a vector (kind: image or series if it is one)"
    return Column(name, "vector", kind, "array", nullable, why=why, shape=cells.shape)


def _winner(e: TextEvidence, readings: Sequence[Reading]) -> Reading | None:
    """The plainest reading that every text fits; None for text; SchemaError if two fit or one nearly."""
    whole = [r for r in readings if not r.odd_rows]
    plain = [r for r in whole if not isinstance(r, MarkedReading | FormatReading)]
    if plain:
        return plain[0]
    marked = [r for r in whole if isinstance(r, MarkedReading)]
    if marked:
        return _number_marks(e, marked)
    formats = [r for r in whole if isinstance(r, FormatReading)]
    if formats:
        return _date_format(e, formats)
    nearly = [r for r in readings if r.odd_rows and not isinstance(r, BooleanReading)]
    nearly = [r for r in nearly if r.odd_rows <= LATE_SHARE * (r.odd_rows + r.fitting)]
    if nearly and e.distinct > FEW_VALUES:
        _refuse_late_change(e, min(nearly, key=lambda r: r.odd_rows))
    return None


def _number_marks(e: TextEvidence, fitting: list[MarkedReading]) -> Reading:
    decided = [r for r in fitting if r.decided or (r.column.decimal, r.column.thousands) == (".", "")]
    if decided:
        return decided[0]
    if any(r.column.prefix.strip("%") or r.column.suffix.strip("%") for r in fitting):
        return fitting[0]  # nobody writes money with three decimals: these are thousands
    if len(fitting) > 1 and (fitting[0].low, fitting[0].high) != (fitting[-1].low, fitting[-1].high):
        example = next((w for w in e.examples(1000) if "," in w or "." in w), "1,234")
        raise SchemaError(
            f"column {e.name!r}: {example!r} may be a decimal comma or a mark of thousands, and no value "
            "decides; "
            f'set decimal: "," or thousands: "," for this column (command line: --set {e.name}.decimal=,)'
        )
    return fitting[0]


def _date_format(e: TextEvidence, fitting: list[FormatReading]) -> Reading:
    numeric = [r for r in fitting if "%d" in (r.column.format or "") and "%m" in (r.column.format or "")]
    if len(numeric) < 2:
        return fitting[0]
    day_first = [r for r in numeric if first_day_first(r.column.format or "")]
    if day_first and "." in (day_first[0].column.format or ""):
        return day_first[0]  # dots are written day first wherever they are written
    if day_first and len(day_first) < len(numeric):
        month_first = next(r for r in numeric if r not in day_first)
        raise SchemaError(
            f"column {e.name!r}: dates such as {e.examples(1)[0]!r} may be day/month or month/day, and no "
            f"value in {e.rows:,} rows decides; "
            f'set format: "{day_first[0].column.format}" or '
            f'format: "{month_first.column.format}" for this column (command line: --set {e.name}.format=...)'
        )
    return numeric[0]


def _refuse_late_change(e: TextEvidence, r: Reading) -> None:
    word = next(iter(r.odd))
    row = e.row_of(word)
    more = f" (and {r.odd_rows - 1:,} more)" if r.odd_rows > 1 else ""
    raise SchemaError(
        f"column {e.name!r}: {r.fitting:,} of {r.fitting + r.odd_rows:,} values are {_NOUN[r.column.kind]}, "
        f"but row {row:,} holds {_cut(word)!r}{more}; mend it, or set missing_values: ['', {_cut(word)!r}] "
        f"if it means missing, kind: {r.column.kind} to treat such rows as bad, or kind: category to keep "
        "the texts"
    )


def _read(e: TextEvidence, r: Reading) -> Column:
    """Numbers, dates and times."""
    c = r.column
    special = isinstance(r, FloatReading)
    format = r.formats[0] if isinstance(r, IsoReading) and r.formats else c.format
    marks, said = _missing(e, keeps_nan=special)
    kind, type_, k = c.kind, c.type, _distinct_numbers(e)
    notes = [said] if said else []
    if isinstance(r, FloatReading):
        kind, type_, note = _float_kind(r)
        notes += [note] if note else []
        notes += [f"{r.overflow!r} is too large for a float, so a bad row"] if r.overflow else []
        codec, say = _number_codec(k, e.rows, None)
    elif isinstance(r, IntegerReading):
        codec, say = _number_codec(k, e.rows, (r.low, r.high))
    else:
        codec, say = "calendar", "calendar parts"
        type_, note = _timestamp_type(e, r)
        notes += [note] if note else []
    count = f"{k:,}" if k is not None else f"at least {e.distinct:,}"
    why = f"{count} distinct {_NOUN[kind]} between {r.low} and {r.high}: {say}"
    if k == 1:
        why = f"one value only, {r.low}: {say}"
    return Column(
        e.name, kind, type_, codec, _has_missing(e, marks), why="; ".join([why, *notes]),
        missing_values=marks, format=format, decimal=c.decimal, thousands=c.thousands,
        prefix=c.prefix, suffix=c.suffix,
    )  # fmt: skip


def _float_kind(r: FloatReading) -> tuple[str, str, str]:
    """(kind, type, note): decimals that a double holds exactly, decimals that it does not, or floats."""
    c = r.column
    note = ""
    if isinstance(r, MarkedReading):
        marks = {"decimal": c.decimal, "thousands": c.thousands, "prefix": c.prefix, "suffix": c.suffix}
        used = [f"{k}: {v!r}" for k, v in marks.items() if v and (k, v) != ("decimal", ".")]
        note = f"written with {', '.join(used)}" + (f" (see {r.example!r})" if r.example else "")
    if isinstance(r, MarkedReading) and not r.places:
        return "integer", "int64", note
    if r.exponents or (r.special and not r.points):
        return "float", "double", note
    if r.inexact is not None and r.places <= 6:
        extra = f"{r.inexact!r} has more digits than a double holds"
        return "decimal", f"decimal128(38, {r.places})", "; ".join(filter(None, [note, extra]))
    if r.inexact is None and r.digits <= 15 and r.places <= 12:
        return "decimal", "double", "; ".join(filter(None, [note, _places(r.decimals)]))
    return "float", "double", note


def _timestamp_type(e: TextEvidence, r: Reading) -> tuple[str, str]:
    """(type, note): the time zone of ISO timestamps, and what decided the order of day and month."""
    if isinstance(r, FormatReading):
        return r.column.type, f"format {r.column.format}" + _deciding(e, r)
    if not isinstance(r, IsoReading) or r.column.kind != "timestamp":
        return r.column.type, ""
    if len(r.offsets) > 1:
        one, two = sorted(r.offsets)[:2]
        raise SchemaError(
            f"column {e.name!r}: timestamps of several time zones, {one or 'none'} and {two}; convert them "
            "to one, or set type: timestamp[us, tz=UTC] (or a zone such as tz=Europe/Paris) to read each as "
            "the instant it names"
        )
    unit, zone = "ns" if r.fine else "us", next(iter(r.offsets), "")
    return (f"timestamp[{unit}, tz={zone}]", f"time zone {zone}") if zone else (f"timestamp[{unit}]", "")


def _deciding(e: TextEvidence, r: FormatReading) -> str:
    """The value that only this order of day and month can explain."""
    format = r.column.format or ""
    if not ("%d" in format and "%m" in format):
        return ""
    rival = format.replace("%d", "%\0").replace("%m", "%d").replace("%\0", "%m")
    other = e.first_misfit(rival)
    return f", decided by {other!r} in row {e.row_of(other):,}" if other else ""


def _boolean(e: TextEvidence, r: BooleanReading) -> Column:
    marks, said = _missing(e, keeps_nan=False)
    style = next(iter(r.styles)) if len(r.styles) == 1 else "false/true"
    why = f"only {' and '.join(style.split('/'))}" + (f"; {said}" if said else "")
    return Column(
        e.name, "boolean", "bool", "category", _has_missing(e, marks), why=why, missing_values=marks,
        format=None if style == "false/true" else style,
    )  # fmt: skip


def _code(e: TextEvidence, r: Reading) -> Column:
    """Digits that are not numbers: leading zeros, or more digits than an int64 holds."""
    marks, said = _missing(e, keeps_nan=False)
    zeros = getattr(r, "leading_zeros", 0)
    n = e.rows - e.empty
    why = (
        f"leading zeros in {zeros:,} of {n:,} values"
        if zeros
        else "integers beyond 64 bits, which a number would round"
    )
    few = not e.overflown and e.distinct <= FEW_CODES and (e.rows <= SMALL_TABLE or 2 * e.distinct <= n)
    why += f": kept as text code, {'one token each' if few else 'a token a character'}" + (
        f"; {said}" if said else ""
    )
    return Column(
        e.name,
        "code",
        "string",
        "category" if few else "text",
        _has_missing(e, marks),
        why=why,
        missing_values=marks,
    )


def _string(
    e: TextEvidence, hint: Mapping[str, Any], max_categories: int, readings: Sequence[Reading]
) -> Column:
    """Text: a category while it repeats, short text by bytes, or the id error."""
    codec, marks = hint.get("codec"), hint.get("missing_values", ("",))
    if hint.get("feature"):
        why = f"texts of up to {e.max_bytes:,} bytes"
        return Column(e.name, "text", "string", "text", e.empty > 0, why=why)
    absent = [w for w in marks if e.missing_words.get(w)]
    k, nullable = e.distinct - len(absent), e.empty > 0 or bool(absent)
    count = f"at least {k:,}" if e.overflown else f"{k:,}"
    many = e.overflown or k > max_categories
    short = e.max_bytes <= SHORT_TEXT_BYTES
    # names of towns may be distinct in most rows; only what is new in nearly every row is an id for sure
    is_id = e.share_distinct > (SURELY_ID_SHARE if short else ID_SHARE)
    if codec != "category" and is_id and e.rows > ID_ROWS:
        raise SchemaError(
            f"column {e.name!r} looks like an id: {count} distinct texts in {e.rows:,} rows; leave it out "
            f"with drop: [{e.name}] (command line: --drop {e.name}), or keep it with codec: text, or raise "
            "max_categories and set codec: category"
        )
    if not many and (codec == "category" or e.share_distinct <= ID_SHARE or k <= SMALL_TABLE or not short):
        examples = ", ".join(repr(_cut(w, 20)) for w in e.examples(3))
        say = (
            f"one text only, {examples}"
            if k == 1
            else f"{count} distinct texts such as {examples}: one token each"
        )
        why = say + _odd_note(e, readings)
        return Column(e.name, "category", "string", "category", nullable, why=why)
    if codec != "category" and short:
        why = f"{count} distinct texts of at most {e.max_bytes} bytes in {e.rows:,} rows: a token a byte"
        return Column(e.name, "text", "string", "text", nullable, why=why)
    raise SchemaError(
        f"column {e.name!r} has {count} distinct texts of up to {e.max_bytes:,} bytes in {e.rows:,} rows, "
        f"more than max_categories ({max_categories:,}); leave it out with drop: [{e.name}], set codec: "
        f"text, set feature: text for a model.kind cgm (command line: --set {e.name}.feature=text), or "
        "raise max_categories"
    )


def _odd_note(e: TextEvidence, readings: Sequence[Reading]) -> str:
    """Says so when all but a few texts are numbers or dates."""
    for r in readings:
        if r.odd and 2 * len(r.odd) < e.distinct:
            word = next(iter(r.odd))
            return f"; most are {_NOUN[r.column.kind]}, but {_cut(word)!r} (row {e.row_of(word):,}) is not"
    return ""


def _declared(e: TextEvidence, hint: Mapping[str, Any]) -> Column:
    """A column whose kind the user set: nothing is guessed but the codec."""
    kind = hint.get("kind") or _kind_from(e.name, hint)
    type_ = hint.get("type", DEFAULT_TYPES.get(kind, "string"))
    is_text = type_ == "string"
    marks, _ = ((), "") if is_text else _missing(e, keeps_nan=kind == "float")
    marks = tuple(hint.get("missing_values", marks or ("",)))
    codec = CODEC_OF.get(kind, "category")
    if codec == "digits":
        codec, _ = _number_codec(_distinct_numbers(e), e.rows, None)
    return Column(
        e.name, kind, type_, codec, _has_missing(e, marks), why="kind set by hand", missing_values=marks
    )


def _kind_from(name: str, hint: Mapping[str, Any]) -> str:
    if hint.get("format"):
        return kind_of(hint["format"]) if "%" in hint["format"] else "boolean"
    if "type" in hint:
        plain = str(hint["type"])
        known = {t: k for k, t in reversed(DEFAULT_TYPES.items())} | {"string": "text", "float": "float"}
        stems = {"uint": "integer", "int": "integer", "decimal": "decimal"}
        stems |= {"timestamp": "timestamp", "date": "date", "time": "time"}
        return known.get(plain) or next((k for s, k in stems.items() if plain.startswith(s)), "text")
    return "text" if hint.get("codec") == "text" else "float"


def _number_codec(k: int | None, rows: int, ends: tuple[int, int] | None) -> tuple[str, str]:
    """values for few distinct numbers (k; None: unknown, many), else digits."""
    if k is not None and k <= FEW_VALUES and (rows <= SMALL_TABLE or 2 * k < rows):
        return "values", "one token each"
    if (
        ends is not None
        and ends[0] is not None
        and ends[1] - ends[0] >= WIDE
        and k is not None
        and 2 * k < rows
    ):
        return "values", "too far apart for digits, one token each"
    return "digits", "digits"


def _distinct_numbers(e: TextEvidence) -> int | None:
    return None if e.overflown else e.distinct - len(e.missing_words)


def _missing(e: TextEvidence, *, keeps_nan: bool) -> tuple[tuple[str, ...], str]:
    """(texts that mean missing, the first being the one to write back; a note about them).

    NaN written out is a number only where empty fields also occur, and so say missing in their own way.
    """
    words = {w: n for w, n in e.missing_words.items() if w}
    empties = e.empty + e.missing_words.get("", 0)
    if keeps_nan and empties:
        words = {w: n for w, n in words.items() if w.lower() != "nan"}
    if not words:
        return ("",), ""
    by_count = sorted(words, key=lambda w: (-words[w], w))
    said = ", ".join(f"{w!r} ({words[w]:,})" for w in by_count)
    marks = ("", *by_count) if empties else (*by_count, "")
    return marks, f"{said} taken as missing"


def _has_missing(e: TextEvidence, marks: Sequence[str]) -> bool:
    return e.empty > 0 or any(e.missing_words.get(m, 0) for m in marks)


def _places(n: int | None) -> str:
    if n is None:
        return ""
    return "whole numbers" if n == 0 else "at most 1 decimal" if n == 1 else f"at most {n} decimals"


def _cut(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
