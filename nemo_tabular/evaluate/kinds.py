"""Enter: one column of the three tables as pandas Series.
Leave: its kind (text, number, date, boolean), the same in all three, and its values read as that kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError

KIND_IN_WORDS = {
    "category": "texts",
    "text": "texts",
    "boolean": "booleans",
    "number": "numbers",
    "date": "dates",
}


def kind_of(series: pd.Series) -> str | None:
    """boolean | number | date | category; None where every value is missing."""
    if series.isna().all():
        return None
    if pd.api.types.is_bool_dtype(series.dtype):
        return "boolean"
    if pd.api.types.is_numeric_dtype(series.dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(series.dtype) or pd.api.types.is_timedelta64_dtype(series.dtype):
        return "date"
    inferred = pd.api.types.infer_dtype(series, skipna=True)
    if inferred in ("integer", "floating", "mixed-integer-float", "decimal", "time"):
        return "number"
    if inferred in ("date", "datetime", "datetime64"):
        return "date"
    if inferred == "boolean":
        return "boolean"
    if _looks_like_numbers(series):
        return "number"
    return "date" if _looks_like_dates(series) else "category"


def _looks_like_numbers(series: pd.Series) -> bool:
    """Whether every text is a number; 00501 is none, but a code whose zeros would be lost."""
    texts = series.dropna()
    if not _is_number(str(texts.iloc[0])):  # rules most columns out at a glance
        return False
    if texts.astype(str).str.match(r"\s*[+-]?0\d").any():
        return False
    return bool(numbers_of(texts).notna().all())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _looks_like_dates(series: pd.Series) -> bool:
    """Whether every text is an ISO date (2013-01-31) or timestamp; a glance at the first rules most out."""
    texts = series.dropna()
    if not str(texts.iloc[0])[:4].isdigit() or not texts.astype(str).str.match(r"\d{4}-\d{2}-\d{2}").all():
        return False
    return bool(pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=True).notna().all())


def agreed_kind(name: str, series: Mapping[str, pd.Series]) -> str:
    """The one kind of a column in all three tables; SchemaError shows the first value out of line."""
    kinds = {role: kind_of(s) for role, s in series.items()}
    known = {role: kind for role, kind in kinds.items() if kind is not None}
    if not known:
        return "category"
    leader = "train" if "train" in known else next(iter(known))
    kind = known[leader]
    for role, other in known.items():
        if other != kind and not _readable_as(kind, series[role]):
            if kind == "category" and _readable_as(other, series[leader]):
                # "1", "2" in train and 1, 2 elsewhere are numbers after all
                return "category" if other == "boolean" else other
            raise _disagreement(name, leader, kind, role, other, series[role])
    if kind == "boolean":
        return "category"
    return kind


def only_two_values(series: Iterable[pd.Series]) -> bool:
    values = pd.concat([s.dropna() for s in series])
    return values.nunique() <= 2


def _readable_as(kind: str, series: pd.Series) -> bool:
    if kind == "number":
        return bool(numbers_of(series)[series.notna()].notna().all())
    if kind == "date":
        return bool(dates_of(series)[series.notna()].notna().all())
    if kind == "boolean":
        return set(texts_of(series).dropna()) <= {"True", "False", "true", "false", "1", "0"}
    return False


def _disagreement(name: str, leader: str, kind: str, role: str, other: str, series: pd.Series) -> SchemaError:
    readable = numbers_of(series) if kind == "number" else dates_of(series) if kind == "date" else None
    wrong = series.notna() if readable is None else series.notna() & readable.isna()
    row = int(np.flatnonzero(wrong)[0])
    return SchemaError(
        f"column {name!r}: {KIND_IN_WORDS[kind]} in {leader}, {KIND_IN_WORDS[other]} in {role} "
        f"(row {row + 1:,}: {shown(series.iloc[row])}); write both tables with the same type"
    )


def shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


# ---------------------------------------------------------------- values


def numbers_of(series: pd.Series) -> pd.Series:
    if pd.api.types.infer_dtype(series, skipna=True) == "time":
        return series.map(lambda t: t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6, "ignore")
    if series.dtype == object:
        try:  # Arrow rounds a decimal text correctly, pandas does not: 2029.1578365483092 must stay itself
            parsed = pc.cast(pa.array(series, type=pa.string(), from_pandas=True), pa.float64())
            return pd.Series(parsed.to_numpy(zero_copy_only=False), index=series.index)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # something else than numbers among them: its row must be found
    return pd.to_numeric(series, errors="coerce").astype("float64")


def dates_of(series: pd.Series) -> pd.Series:
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return series
    if pd.api.types.is_numeric_dtype(series.dtype):
        return pd.Series(pd.NaT, index=series.index)
    return pd.to_datetime(
        series, errors="coerce", format="ISO8601" if series.dtype == object else None, utc=True
    )


def texts_of(series: pd.Series) -> pd.Series:
    """Values as texts; 1.0 and 1 are the same category, whatever pandas made of a column with gaps."""
    if pd.api.types.is_float_dtype(series.dtype):
        return series.map(lambda v: str(int(v)) if v == v and float(v).is_integer() else str(v), "ignore")
    return series.map(str, na_action="ignore").astype(object)
