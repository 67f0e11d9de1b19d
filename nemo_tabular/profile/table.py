"""The profile of a whole table in one pass over its typed batches.

Enters record batches; leaves a TableProfile: per column what its values are, and a uniform sample of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from nemo_tabular.profile.nested import is_array
from nemo_tabular.profile.sample import RowSample
from nemo_tabular.profile.stats import NUMBER_CAP, TEXT_CAP, CellStats, ColumnStats, stats_of

SAMPLE_ROWS = 262_144


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a TableProfile."""

    name: str
    type: str
    """Arrow type as text; of a dictionary, that of its values."""
    rows: int
    missing: int
    nan: int
    posinf: int
    neginf: int
    minimum: Any
    """Least finite value as a Python number, date, time or datetime; None for text or if there is none."""
    maximum: Any
    decimals: int | None
    """Least d <= 12 with every finite x == round(x * 10**d) / 10**d, below 2**53 steps; 0 for integers."""
    distinct: Mapping[Any, int] | None
    """Exact count of each finite value, or None when there are more than the cap."""
    sample: pa.Array
    """This column of the row sample, in row order; text is plain string. All null if not asked for."""
    max_bytes: int | None
    """Bytes of the longest text in UTF-8; None for columns that are not text."""
    cells: CellStats | None = None
    """Of columns whose cells are arrays of numbers; their `sample` is all null, whatever they hold."""


@dataclass(frozen=True)
class TableProfile:
    """A whole table's profile; `sample` holds all rows, in order, when there are at most `sample_rows`."""

    rows: int
    columns: dict[str, ColumnProfile]
    sample: pa.Table


def profile(
    batches: Iterable[pa.RecordBatch],
    *,
    seed: int = 0,
    sample_rows: int = SAMPLE_ROWS,
    text_cap: int = TEXT_CAP,
    number_cap: int = NUMBER_CAP,
    unsampled: Collection[str] = (),
) -> TableProfile:
    """Profile a table in one pass.

    The sample is uniform without replacement: the `sample_rows` rows of lowest splitmix64(seed, row number).
    Distinct values are counted exactly up to `text_cap` for text (and 64 MB of it) and `number_cap` for the
    rest. Cells that are arrays, and the columns of `unsampled`, are not kept in the sample. Memory: the
    sample (twice) and the counters. Raises ValueError when there is no batch at all."""
    columns: list[ColumnStats] | None = None
    sample = RowSample(sample_rows, seed)
    names: list[str] = []
    for batch in batches:
        if columns is None:
            names = batch.schema.names
            columns = [stats_of(f.type, text_cap, number_cap) for f in batch.schema]
        for stats, values in zip(columns, batch.columns, strict=True):
            stats.update(values)
        sample.update(_light(batch, unsampled))
    if columns is None:
        raise ValueError("no batches to profile: a table needs at least one row")
    rows = sample.table()
    parts = [_one_array(c) for c in rows.columns]
    found = {n: _column(n, s, sample.seen, part) for n, s, part in zip(names, columns, parts, strict=True)}
    return TableProfile(sample.seen, found, rows)


def _column(name: str, s: ColumnStats, rows: int, sample: pa.Array) -> ColumnProfile:
    low, high = s.range()
    return ColumnProfile(
        name=name,
        type=str(s.kind),
        rows=rows,
        missing=s.missing,
        nan=s.nan,
        posinf=s.posinf,
        neginf=s.neginf,
        minimum=low,
        maximum=high,
        decimals=s.decimals(),
        distinct=s.distinct(),
        sample=sample,
        max_bytes=s.max_bytes(),
        cells=s.cells(),
    )


def _light(batch: pa.RecordBatch, unsampled: Collection[str]) -> pa.RecordBatch:
    """The batch without its large cells: no sample of them fits memory."""
    heavy = [is_array(f.type) or f.name in unsampled for f in batch.schema]
    if not any(heavy):
        return batch
    columns = [pa.nulls(batch.num_rows) if h else c for h, c in zip(heavy, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    """One contiguous array."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
