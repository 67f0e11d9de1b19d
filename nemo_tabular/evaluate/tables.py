"""Enter: train, test and synthetic rows as DataFrames or files, and a schema if there is one.
Leave: the same three tables with the same columns in the same order, every column as numbers a score can use.

Shapes: R rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError, TabularError, nearest
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema

ROLES = ("train", "test", "synthetic")

# The kinds of a schema, as the scores see them. Times of day are numbers: seconds after midnight.
KIND_OF_SCHEMA = {
    "category": "category", "boolean": "category", "code": "category", "text": "text",
    "integer": "number", "decimal": "number", "float": "number", "time": "number",
    "date": "date", "timestamp": "date",
}  # fmt: skip
KIND_IN_WORDS = {
    "category": "texts",
    "text": "texts",
    "boolean": "booleans",
    "number": "numbers",
    "date": "dates",
}

# More different texts than this, and more than half of the rows: free text or an id, not a category.
TEXT_LEVELS = 1000


@dataclass(frozen=True)
class ColumnView:
    """One column as the scores see it."""

    name: str
    kind: str
    """category | number | date | text"""
    levels: tuple[str, ...] = ()
    """The values of a category or text, by falling share in train; code i stands for levels[i]."""
    integer: bool = False
    """A number column without fractions."""

    @property
    def discrete(self) -> bool:
        return self.kind == "category"

    def show(self, value: float) -> str:
        """A coded value as a reader knows it."""
        if np.isnan(value):
            return ""
        if self.levels:
            return self.levels[int(value)]
        if self.kind == "date":
            text = str(np.datetime64(round(value * 1000), "ms"))
            return text.removesuffix("T00:00:00.000").removesuffix(".000").replace("T", " ")
        return str(int(value)) if self.integer else f"{value:.6g}"


@dataclass(frozen=True)
class CodedTable:
    """A table as one float64 array a column: codes of a category, the number itself, seconds since 1970.

    NaN is a missing value.
    """

    columns: tuple[ColumnView, ...]
    data: Mapping[str, np.ndarray] = field(repr=False)
    rows: int

    def __getitem__(self, name: str) -> np.ndarray:
        return self.data[name]

    def take(self, index: np.ndarray) -> CodedTable:
        """The rows named by an integer array or a boolean mask."""
        data = {name: values[index] for name, values in self.data.items()}
        return CodedTable(self.columns, data, len(next(iter(data.values()))))

    def sample(self, rows: int, rng: np.random.Generator) -> CodedTable:
        """`rows` rows without replacement, in random order; the whole table if it has no more."""
        return self.take(rng.permutation(self.rows)[:rows])

    def shuffled_columns(self, rng: np.random.Generator, keep: Sequence[str] = ()) -> CodedTable:
        """The same marginals with every dependence between columns destroyed: the floor of most scores."""
        data = {n: v if n in keep else v[rng.permutation(self.rows)] for n, v in self.data.items()}
        return CodedTable(self.columns, data, self.rows)

    def features(self) -> np.ndarray:
        """float64 (R, K); texts as their lengths, for whom the content of a single text means nothing."""
        return np.stack([self._feature(c) for c in self.columns], axis=1)

    def _feature(self, column: ColumnView) -> np.ndarray:
        values = self.data[column.name]
        return values if column.kind != "text" else text_lengths(column, values)

    def row_hashes(self) -> np.ndarray:
        """uint64 (R,): equal for rows that are equal in every column (missing equals missing)."""
        frame = pd.DataFrame({i: self.data[c.name] for i, c in enumerate(self.columns)})
        return pd.util.hash_pandas_object(frame + 0.0, index=False).to_numpy()  # + 0.0: -0.0 equals 0.0


@dataclass(frozen=True)
class Tables:
    """The three tables side by side, and what was noticed while they were brought together."""

    columns: tuple[ColumnView, ...]
    train: CodedTable
    test: CodedTable
    synthetic: CodedTable
    notes: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    """What each table is called in messages: its path, or its role."""
    groups: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By role, which history each row belongs to (int64); empty where the schema has no `group_by`."""
    order_by: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnView:
        for column in self.columns:
            if column.name == name:
                return column
        raise SchemaError(f"{name!r} is not a column{nearest(name, [c.name for c in self.columns])}")


def text_lengths(column: ColumnView, codes: np.ndarray) -> np.ndarray:
    """The lengths in characters of coded texts; NaN where missing."""
    lengths = np.array([len(level) for level in column.levels] + [np.nan])
    return lengths[np.where(np.isnan(codes), len(lengths) - 1, codes).astype(np.int64)]


# ---------------------------------------------------------------- reading


def read_table(source: Any, role: str, schema: Schema | None = None) -> pd.DataFrame:
    """A pandas DataFrame of a frame in memory (pandas, polars, Arrow) or of files that `open_table` reads.

    With a schema its columns only, typed as it says. Without, the cells of a CSV are texts, of which only the
    empty one is missing: `NA` and `?` are values, as they are for the tokenizer.
    """
    if schema is None and isinstance(source, pd.DataFrame):
        return source  # as it is: a name that is no text, an object column, need not fit into Arrow
    try:
        reader = open_table(source)
        batches = list(reader.batches(schema))
    except (TabularError, TypeError, pa.ArrowInvalid) as error:
        raise SchemaError(f"{role}: {error}") from None
    if not batches:
        return pd.DataFrame(columns=reader.column_names)
    frame = pa.Table.from_batches(batches).to_pandas(date_as_object=False, self_destruct=True)
    untyped_text = schema is None and not hasattr(source, "columns")
    return frame.replace("", None) if untyped_text else frame


# ---------------------------------------------------------------- bringing together


def align(train: Any, test: Any, synthetic: Any, *, schema: Any = None, target: str | None = None) -> Tables:
    """Read, check and code the three tables; train gives the order of the columns.

    Raises SchemaError for columns that do not match (all are listed), types that disagree, an empty table,
    or a target that one table lacks.
    """
    sources = dict(zip(ROLES, (train, test, synthetic), strict=True))
    names = {role: str(s) if isinstance(s, str | Path) else role for role, s in sources.items()}
    frames = {role: read_table(source, role, schema) for role, source in sources.items()}
    _check_columns(frames, target)
    notes: list[str] = []
    kinds = _schema_kinds(schema)
    columns: list[ColumnView] = []
    data: dict[str, dict[str, np.ndarray]] = {role: {} for role in ROLES}
    group_by, order_by = (schema.group_by, schema.order_by) if schema else ((), ())
    groups = _groups(frames, group_by, notes)
    for name in frames["train"].columns:
        if name in group_by:
            continue
        column, coded = _code_column(name, {r: f[name] for r, f in frames.items()}, kinds.get(name), notes)
        columns.append(column)
        for role in ROLES:
            data[role][name] = coded[role]
    views = tuple(columns)
    whole = {role: CodedTable(views, data[role], len(frames[role])) for role in ROLES}
    return Tables(
        views, whole["train"], whole["test"], whole["synthetic"], tuple(notes), names, groups, order_by
    )


def _check_columns(frames: Mapping[str, pd.DataFrame], target: str | None) -> None:
    for role, frame in frames.items():
        repeated = [str(n) for n in frame.columns[frame.columns.duplicated()]]
        if repeated:
            raise SchemaError(
                f"{role}: column names occur twice: {', '.join(repeated)}; rename one of each pair"
            )
        if target is not None and target not in frame.columns:
            known = [str(c) for c in frame.columns]
            raise SchemaError(f"target {target!r} is not a column of {role}{nearest(target, known)}")
    wanted = list(frames["train"].columns)
    faults = []
    for role in ("test", "synthetic"):
        missing = [n for n in wanted if n not in frames[role].columns]
        extra = [n for n in frames[role].columns if n not in wanted]
        faults += [f"{role} lacks {', '.join(map(repr, missing))}"] if missing else []
        faults += [f"{role} has {', '.join(map(repr, extra))}, which train lacks"] if extra else []
    if faults:
        raise SchemaError(f"the columns do not match: {'; '.join(faults)}; drop or rename until they do")
    for role, frame in frames.items():
        if not len(frame.columns):
            raise SchemaError(f"{role} has no columns: nothing can be compared")
        if frame.empty:
            raise SchemaError(f"{role} has no rows: nothing can be compared; give at least one row")


def _groups(
    frames: Mapping[str, pd.DataFrame], group_by: Sequence[str], notes: list[str]
) -> dict[str, np.ndarray]:
    """Histories by number. Their names are arbitrary (a synthetic customer 17 is no real one)."""
    if not group_by:
        return {}
    if set(frames["train"].columns) <= set(group_by):
        raise SchemaError("every column is in group_by: there is nothing left to compare")
    notes.append(f"{', '.join(group_by)}: tells histories apart and is itself not compared")
    names = list(group_by)
    grouped = {role: f.groupby(names, dropna=False, sort=False) for role, f in frames.items()}
    return {role: g.ngroup().to_numpy() for role, g in grouped.items()}


def _schema_kinds(schema: Schema | None) -> dict[str, str]:
    return {} if schema is None else {c.name: KIND_OF_SCHEMA[c.kind] for c in schema.columns}


def _code_column(
    name: str, series: Mapping[str, pd.Series], kind: str | None, notes: list[str]
) -> tuple[ColumnView, dict[str, np.ndarray]]:
    """One column of the three tables as a view and three float arrays."""
    clean = {role: _plain(s) for role, s in series.items()}
    kind = kind or _agreed_kind(name, clean)
    if kind in ("number", "date"):
        return _code_numbers(name, kind, clean, notes)
    return _code_levels(name, kind, clean, notes)


def _plain(series: pd.Series) -> pd.Series:
    """The values without their index, categoricals as what they hold."""
    series = series.reset_index(drop=True)
    return (
        series.astype(series.cat.categories.dtype)
        if isinstance(series.dtype, pd.CategoricalDtype)
        else series
    )


def _kind_of(series: pd.Series) -> str | None:
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
    return bool(_numbers(texts).notna().all())


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


def _agreed_kind(name: str, series: Mapping[str, pd.Series]) -> str:
    """The one kind of a column in all three tables; SchemaError shows the first value out of line."""
    kinds = {role: _kind_of(s) for role, s in series.items()}
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
    if kind == "number" and _only_two_values(series.values()):
        return "category"
    return kind


def _only_two_values(series: Any) -> bool:
    values = pd.concat([s.dropna() for s in series])
    return values.nunique() <= 2


def _readable_as(kind: str, series: pd.Series) -> bool:
    if kind == "number":
        return bool(_numbers(series)[series.notna()].notna().all())
    if kind == "date":
        return bool(_dates(series)[series.notna()].notna().all())
    if kind == "boolean":
        return set(_level_texts(series).dropna()) <= {"True", "False", "true", "false", "1", "0"}
    return False


def _disagreement(name: str, leader: str, kind: str, role: str, other: str, series: pd.Series) -> SchemaError:
    readable = _numbers(series) if kind == "number" else _dates(series) if kind == "date" else None
    wrong = series.notna() if readable is None else series.notna() & readable.isna()
    row = int(np.flatnonzero(wrong)[0])
    return SchemaError(
        f"column {name!r}: {KIND_IN_WORDS[kind]} in {leader}, {KIND_IN_WORDS[other]} in {role} "
        f"(row {row + 1:,}: {_shown(series.iloc[row])}); write both tables with the same type"
    )


def _shown(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)


# ---------------------------------------------------------------- coding


def _numbers(series: pd.Series) -> pd.Series:
    if pd.api.types.infer_dtype(series, skipna=True) == "time":
        return series.map(lambda t: t.hour * 3600 + t.minute * 60 + t.second + t.microsecond / 1e6, "ignore")
    if series.dtype == object:
        try:  # Arrow rounds a decimal text correctly, pandas does not: 2029.1578365483092 must stay itself
            parsed = pc.cast(pa.array(series, type=pa.string(), from_pandas=True), pa.float64())
            return pd.Series(parsed.to_numpy(zero_copy_only=False), index=series.index)
        except (pa.ArrowInvalid, pa.ArrowTypeError):
            pass  # something else than numbers among them: its row must be found
    return pd.to_numeric(series, errors="coerce").astype("float64")


def _dates(series: pd.Series) -> pd.Series:
    if pd.api.types.is_timedelta64_dtype(series.dtype):
        return series
    if pd.api.types.is_numeric_dtype(series.dtype):
        return pd.Series(pd.NaT, index=series.index)
    return pd.to_datetime(
        series, errors="coerce", format="ISO8601" if series.dtype == object else None, utc=True
    )


def _seconds(series: pd.Series) -> pd.Series:
    stamps = _dates(series)
    zero = pd.Timedelta(0) if pd.api.types.is_timedelta64_dtype(stamps.dtype) else pd.Timestamp(0, tz="UTC")
    return (stamps - zero).dt.total_seconds()


def _code_numbers(
    name: str, kind: str, series: Mapping[str, pd.Series], notes: list[str]
) -> tuple[ColumnView, dict[str, np.ndarray]]:
    read: Callable[[pd.Series], pd.Series] = _numbers if kind == "number" else _seconds
    coded = {}
    for role, values in series.items():
        numbers = read(values).to_numpy(dtype=np.float64, na_value=np.nan).copy()
        unread = np.isnan(numbers) & values.notna().to_numpy()
        if unread.any():
            row = int(np.flatnonzero(unread)[0])
            raise SchemaError(
                f"column {name!r}: {_shown(values.iloc[row])} in row {row + 1:,} of {role} is no {kind}, "
                "as the schema says it should be; mend the table or the schema"
            )
        infinite = np.isinf(numbers)
        if infinite.any():
            notes.append(
                f"column {name!r}: {int(infinite.sum()):,} infinite values in {role} count as missing"
            )
            numbers[infinite] = np.nan
        coded[role] = numbers
    _note_emptiness(name, coded, notes)
    finite = [c[~np.isnan(c)] for c in coded.values()]
    whole = kind == "number" and all(bool((c == np.floor(c)).all()) for c in finite)
    return ColumnView(name, kind, integer=whole), coded


def _code_levels(
    name: str, kind: str, series: Mapping[str, pd.Series], notes: list[str]
) -> tuple[ColumnView, dict[str, np.ndarray]]:
    texts = {role: _level_texts(s) for role, s in series.items()}
    if any(_kind_of(s) == "boolean" for s in series.values()):
        names = {"1": "True", "0": "False", "true": "True", "false": "False"}
        texts = {role: t.replace(names) for role, t in texts.items()}
    ranked = list(
        texts["train"].value_counts().sort_index().sort_values(ascending=False, kind="stable").index
    )
    seen = set(ranked)
    rest = sorted(set(texts["test"].dropna()) | set(texts["synthetic"].dropna()))
    levels = pd.Index(ranked + [level for level in rest if level not in seen], dtype=object)
    if kind != "text" and len(ranked) > max(TEXT_LEVELS, len(texts["train"]) / 2):
        kind = "text"
    if kind == "text":
        notes.append(
            f"column {name!r}: {len(ranked):,} different texts in train; compared by their length only"
        )
    coded = {}
    for role, values in texts.items():
        codes = levels.get_indexer(pd.Index(values, dtype=object)).astype(np.float64)
        codes[values.isna().to_numpy()] = np.nan
        coded[role] = codes
    _note_emptiness(name, coded, notes)
    return ColumnView(name, kind, tuple(map(str, levels))), coded


def _level_texts(series: pd.Series) -> pd.Series:
    """Values as texts; 1.0 and 1 are the same category, whatever pandas made of a column with gaps."""
    if pd.api.types.is_float_dtype(series.dtype):
        return series.map(lambda v: str(int(v)) if v == v and float(v).is_integer() else str(v), "ignore")
    return series.map(str, na_action="ignore").astype(object)


def _note_emptiness(name: str, coded: Mapping[str, np.ndarray], notes: list[str]) -> None:
    for role, values in coded.items():
        present = values[~np.isnan(values)]
        if not len(present):
            notes.append(f"column {name!r}: all missing in {role}")
        elif (
            len(values) > 1
            and role != "test"
            and len(present) == len(values)
            and (present == present[0]).all()
        ):
            notes.append(f"column {name!r}: constant in {role}")
