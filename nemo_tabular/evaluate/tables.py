"""Enter: train, test and synthetic rows as DataFrames or files, and a schema if there is one.
Leave: the same three tables with the same columns in the same order, every column as numbers a score can use.

Shapes: R rows, K columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from nemo_tabular.errors import SchemaError, TabularError, nearest
from nemo_tabular.evaluate.kinds import (
    agreed_kind,
    dates_of,
    kind_of,
    numbers_of,
    only_two_values,
    shown,
    texts_of,
)
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema

ROLES = ("train", "test", "synthetic")

# The kinds of a schema, as the scores see them. Times of day are numbers: seconds after midnight.
KIND_OF_SCHEMA = {
    "category": "category", "boolean": "category", "code": "category", "text": "text",
    "integer": "number", "decimal": "number", "float": "number", "time": "number",
    "date": "date", "timestamp": "date",
}  # fmt: skip

MAX_ROWS = 1_000_000
"""Of a larger file a random sample is read: every figure is settled by then, and memory is not endless."""

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
    kept: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By role, the rows of a large source that were read (int64, rising); nothing for a source read whole."""

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


def read_table(
    source: Any, role: str, schema: Schema | None = None, *, seed: int = 0
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """A pandas DataFrame of a frame in memory (pandas, polars, Arrow) or of files that `open_table` reads.

    With a schema its columns only, typed as it says. Without, the cells of a CSV are texts, of which only the
    empty one is missing: `NA` and `?` are values, as they are for the tokenizer. Of more than MAX_ROWS rows a
    random sample is kept; the second result says which (None: all), but for histories, which stay whole.
    """
    if schema is None and isinstance(source, pd.DataFrame):
        return source, None  # as it is: a name that is no text, an object column, need not fit into Arrow
    limit = None if schema and schema.group_by else MAX_ROWS
    try:
        reader = open_table(source)
        table, kept = _sampled(reader.batches(schema), limit, np.random.default_rng(seed))
    except (TabularError, TypeError, pa.ArrowInvalid) as error:
        raise SchemaError(f"{role}: {error}") from None
    if table is None:
        return pd.DataFrame(columns=reader.column_names), None
    frame = table.to_pandas(date_as_object=False, self_destruct=True)
    untyped_text = schema is None and not hasattr(source, "columns")
    return (frame.replace("", None) if untyped_text else frame), kept


def _sampled(
    batches: Iterable[pa.RecordBatch], limit: int | None, rng: np.random.Generator
) -> tuple[pa.Table | None, np.ndarray | None]:
    """Every row gets a random key, and the `limit` smallest keys stay: at most twice as many are held."""
    pieces: list[pa.Table] = []
    numbers, keys, seen = np.zeros(0, np.int64), np.zeros(0), 0
    for batch in batches:
        pieces.append(pa.Table.from_batches([batch]))
        numbers = np.append(numbers, np.arange(seen, seen + batch.num_rows))
        keys = np.append(keys, rng.random(batch.num_rows))
        seen += batch.num_rows
        if limit is not None and len(keys) > 2 * limit:
            pieces, numbers, keys = _smallest(pieces, numbers, keys, limit)
    if limit is not None and len(keys) > limit:
        pieces, numbers, keys = _smallest(pieces, numbers, keys, limit)
    return (pa.concat_tables(pieces) if pieces else None), (numbers if seen > len(numbers) else None)


def _smallest(
    pieces: list[pa.Table], numbers: np.ndarray, keys: np.ndarray, limit: int
) -> tuple[list[pa.Table], np.ndarray, np.ndarray]:
    stay = np.sort(np.argpartition(keys, limit)[:limit])
    return [pa.concat_tables(pieces).take(pa.array(stay))], numbers[stay], keys[stay]


def rows_of(source: Any, index: np.ndarray, schema: Schema) -> pa.Table:
    """The rows with these numbers, rising, typed by the schema; the source is streamed."""
    found, first = [], 0
    for batch in open_table(source).batches(schema):
        here = index[(index >= first) & (index < first + batch.num_rows)] - first
        found.append(pa.Table.from_batches([batch]).take(pa.array(here)))
        first += batch.num_rows
    return pa.concat_tables(found)


# ---------------------------------------------------------------- bringing together


def align(train: Any, test: Any, synthetic: Any, *, schema: Any = None, target: str | None = None) -> Tables:
    """Read, check and code the three tables; train gives the order of the columns.

    Raises SchemaError for columns that do not match (all are listed), types that disagree, an empty table,
    or a target that one table lacks.
    """
    sources = dict(zip(ROLES, (train, test, synthetic), strict=True))
    names = {role: str(s) if isinstance(s, str | Path) else role for role, s in sources.items()}
    read = {role: read_table(source, role, schema) for role, source in sources.items()}
    frames = {role: frame for role, (frame, _) in read.items()}
    kept = {role: rows for role, (_, rows) in read.items() if rows is not None}
    _check_columns(frames, target)
    notes = [
        f"{role} is large: {len(rows):,} of its rows, drawn at random, stand for all; copies of the others "
        "go unseen"
        for role, rows in kept.items()
    ]
    kinds = _schema_kinds(schema)
    columns: list[ColumnView] = []
    data: dict[str, dict[str, np.ndarray]] = {role: {} for role in ROLES}
    group_by, order_by = (schema.group_by, schema.order_by) if schema else ((), ())
    groups = _groups(frames, group_by, notes)
    for name in frames["train"].columns:
        if name in group_by:
            continue
        if _holds_arrays(frames["train"][name]):
            notes.append(f"{name}: its cells are arrays, which no score here compares; it is left out")
            continue
        column, coded = _code_column(name, {r: f[name] for r, f in frames.items()}, kinds.get(name), notes)
        columns.append(column)
        for role in ROLES:
            data[role][name] = coded[role]
    if not columns:
        raise SchemaError("no column is left that could be compared: their cells are arrays")
    views = tuple(columns)
    whole = {role: CodedTable(views, data[role], len(frames[role])) for role in ROLES}
    return Tables(
        views, whole["train"], whole["test"], whole["synthetic"], tuple(notes), names, groups, order_by, kept
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
    columns = () if schema is None else schema.columns
    return {c.name: KIND_OF_SCHEMA[c.kind] for c in columns if c.kind in KIND_OF_SCHEMA}


def _holds_arrays(values: pd.Series) -> bool:
    """Whether the first cell that is there is a list or an array."""
    first = next((v for v in values if isinstance(v, (list, np.ndarray)) or v is not None), None)
    return values.dtype == object and isinstance(first, (list, np.ndarray))


def _code_column(
    name: str, series: Mapping[str, pd.Series], kind: str | None, notes: list[str]
) -> tuple[ColumnView, dict[str, np.ndarray]]:
    """One column of the three tables as a view and three float arrays."""
    clean = {role: _plain(s) for role, s in series.items()}
    kind = kind or agreed_kind(name, clean)
    if kind == "number" and only_two_values(clean.values()):
        kind = "category"  # 0 and 1, whatever the schema calls them: classes, not amounts
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


# ---------------------------------------------------------------- coding


def _seconds(series: pd.Series) -> pd.Series:
    stamps = dates_of(series)
    zero = pd.Timedelta(0) if pd.api.types.is_timedelta64_dtype(stamps.dtype) else pd.Timestamp(0, tz="UTC")
    return (stamps - zero).dt.total_seconds()


def _code_numbers(
    name: str, kind: str, series: Mapping[str, pd.Series], notes: list[str]
) -> tuple[ColumnView, dict[str, np.ndarray]]:
    read: Callable[[pd.Series], pd.Series] = numbers_of if kind == "number" else _seconds
    coded = {}
    for role, values in series.items():
        numbers = read(values).to_numpy(dtype=np.float64, na_value=np.nan).copy()
        unread = np.isnan(numbers) & values.notna().to_numpy()
        if unread.any():
            row = int(np.flatnonzero(unread)[0])
            raise SchemaError(
                f"column {name!r}: {shown(values.iloc[row])} in row {row + 1:,} of {role} is no {kind}, "
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
    texts = {role: texts_of(s) for role, s in series.items()}
    if any(kind_of(s) == "boolean" for s in series.values()):
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
