"""Dates and times in text by a strptime format, vectorised and strict.

Enters an Arrow array of distinct texts and a format such as `%d/%m/%Y %H:%M`; leaves microseconds since 1970
and a mask of the texts that fit. Arrow's own strptime turns 30 February into 1 March and reads the year 05.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError

DAY_US = 86_400_000_000
_DIRECTIVES = {
    "Y": r"\d{4}",
    "y": r"\d{2}",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "b": r"[A-Za-z]{3}",
    "B": r"[A-Za-z]+",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{2}",
    "S": r"\d{2}",
    "f": r"\d{1,6}",
    "p": r"[AaPp][Mm]",
}
_MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
ISO_FORMATS = {"%H:%M": 5, "%Y-%m-%d %H:%M": 16, "%Y-%m-%dT%H:%M": 16, "%Y-%m-%dT%H:%M:%S": 19}
"""Formats that Arrow reads by itself, and writes otherwise, with the length of their texts."""
_CENTURY_TURN = 69  # strptime's rule: 69..99 are 19xx, 00..68 are 20xx


@lru_cache(maxsize=256)
def pattern_of(format: str) -> str:
    """The RE2 pattern of a strptime format, one named group a directive; SchemaError if not supported."""
    out, seen = "^", set()
    for literal, letter in re.findall(r"([^%]+)|%(.?)", format):
        if literal:
            out += re.escape(literal)
        elif letter not in _DIRECTIVES or letter in seen:
            known = ", ".join("%" + k for k in _DIRECTIVES)
            raise SchemaError(f"format {format!r}: %{letter} is unknown or occurs twice; known: {known}")
        else:
            seen.add(letter)
            out += f"(?P<{letter}>{_DIRECTIVES[letter]})"
    return out + "$"


def kind_of(format: str) -> str:
    """date, time or timestamp: what a format expresses. SchemaError without a year and without an hour."""
    has = set(re.findall(r"\(\?P<(.)>", pattern_of(format)))
    day, clock = bool(has & {"Y", "y"}), bool(has & {"H", "I"})
    if not day and not clock:
        raise SchemaError(f"format {format!r} names neither a year (%Y) nor an hour (%H)")
    return "timestamp" if day and clock else "date" if day else "time"


def instants(texts: pa.Array, format: str) -> tuple[np.ndarray, np.ndarray]:
    """(int64 microseconds since 1970, mask of the texts that fit), both of shape (texts,). No nulls in."""
    found = pc.extract_regex(texts, pattern_of(format))
    ok = np.asarray(pc.is_valid(found).to_numpy(zero_copy_only=False))
    part = _numbers(found)
    ones = np.ones(len(texts), np.int64)
    year = _year(part, ones)
    month, day = part.get("m", ones), part.get("d", ones)
    hour = part.get("H", 0 * ones)
    if "I" in part:
        ok = ok & (part["I"] >= 1) & (part["I"] <= 12)
        hour = part["I"] % 12 + 12 * part.get("p", 0 * ones)
    minute, second = part.get("M", 0 * ones), part.get("S", 0 * ones)
    ok = ok & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60)
    months = (year - 1970) * 12 + np.clip(month, 1, 12) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    after = (months + 1).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    ok = ok & (day >= 1) & (day <= after - first)
    clock_us = ((hour * 60 + minute) * 60 + second) * 1_000_000 + part.get("f", 0 * ones)
    return (first + day - 1) * DAY_US + clock_us, ok


def _year(part: dict[str, np.ndarray], ones: np.ndarray) -> np.ndarray:
    if "Y" in part:
        return part["Y"]
    if "y" in part:
        return part["y"] + np.where(part["y"] < _CENTURY_TURN, 2000, 1900)
    return 1970 * ones


def _numbers(found: pa.StructArray) -> dict[str, np.ndarray]:
    """Each directive's value as int64; zero where the text did not fit."""
    out = {}
    for f in found.type:
        texts = pc.fill_null(pc.struct_field(found, f.name), "")
        letter = {"b": "m", "B": "m"}.get(f.name, f.name)
        if f.name in "bB":
            names = [m[:3] for m in _MONTHS] if f.name == "b" else list(_MONTHS)
            numbers = pc.add(pc.fill_null(pc.index_in(pc.utf8_lower(texts), pa.array(names)), -1), 1)
        elif f.name == "p":
            numbers = pc.cast(pc.equal(pc.utf8_lower(texts), "pm"), pa.int64())
        else:
            digits = pc.utf8_rpad(texts, 6, "0") if f.name == "f" else texts
            numbers = pc.cast(pc.if_else(pc.equal(texts, ""), "0", digits), pa.int64())
        out[letter] = np.asarray(numbers.to_numpy(zero_copy_only=False)).astype(np.int64)
    return out
