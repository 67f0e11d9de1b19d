"""A table and its schema enter; its series leave, each an array of its numeric columns in order of time.

The keys of `group_by` tell series apart, the column of `order_by` says when a row is. Numbers are forecast;
categories, texts and other dates are not, and are left out.

Shapes: T rows, C columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from ..errors import GenerationError
from ..readers import open_table
from ..schema import Schema, infer_schema
from .clock import GAPS, Clock, Gaps, clock_of, on_grid

NUMBERS = ("integer", "decimal", "float")


@dataclass(frozen=True)
class Series:
    """One history."""

    key: tuple[Any, ...]
    """Values of the `group_by` columns."""
    values_TC: np.ndarray
    """float64, NaN where missing."""
    clock: Clock | None
    """None where nothing orders the rows but their place in the table."""
    last: Any
    """Time of the last row."""
    times: Any
    """Of the rows; None where there are none."""


@dataclass(frozen=True)
class History:
    """The series of one table."""

    schema: Schema
    columns: tuple[str, ...]
    """Those that are forecast, in the table's order."""
    series: tuple[Series, ...]

    @property
    def time(self) -> str | None:
        """Name of the column of times."""
        return self.schema.order_by[0] if self.schema.order_by else None


def read_history(
    table: Any,
    *,
    schema: Schema | None = None,
    group_by: tuple[str, ...] = (),
    order_by: tuple[str, ...] = (),
    columns: tuple[str, ...] = (),
    gaps: Gaps = "error",
    **reading: Any,
) -> History:
    """`table`: a data frame, an Arrow table, or a path; `columns`: those to forecast (default: all numbers).

    Raises SchemaError for columns that are not there, GenerationError for gaps, and where there is nothing
    to forecast.
    """
    if gaps not in GAPS:
        raise GenerationError(f"gaps is {gaps!r}, expected one of {', '.join(GAPS)}")
    reader = open_table(table, **reading)
    if schema is None:
        schema = infer_schema(reader, group_by=group_by, order_by=order_by)
    if len(schema.order_by) > 1:
        raise GenerationError(
            f"order_by {list(schema.order_by)}: a forecast needs the times in one column, to know the next "
            "ones; make one date or one running number of them"
        )
    chosen = _columns(schema, columns)
    frame = pa.Table.from_batches(list(reader.batches(schema))).to_pandas()
    return History(schema, chosen, tuple(_series(frame, schema, chosen, gaps)))


def _columns(schema: Schema, wanted: tuple[str, ...]) -> tuple[str, ...]:
    numbers = [c.name for c in schema.coded if c.kind in NUMBERS and c.name not in schema.order_by]
    for name in wanted:
        if schema.column(name).name not in numbers:
            raise GenerationError(
                f"column {name!r} is not forecast: it is no number, or orders the rows; numbers are "
                f"{', '.join(numbers) or 'none'}"
            )
    if not numbers:
        raise GenerationError("no numeric column is left to forecast")
    return tuple(n for n in numbers if not wanted or n in wanted)


def _series(frame: pd.DataFrame, schema: Schema, columns: tuple[str, ...], gaps: Gaps) -> Iterator[Series]:
    keys, time = list(schema.group_by), schema.order_by[0] if schema.order_by else None
    pieces = frame.groupby(keys, sort=False, dropna=False) if keys else [((), frame)]
    for key, piece in pieces:
        where = "the history" if not keys else f"series {', '.join(map(str, key))}"
        clock, last, times, rows = None, None, None, np.arange(len(piece))
        if time is not None:
            moments = pd.to_datetime(piece[time]) if _dates(schema, time) else piece[time].astype(float)
            order = np.argsort(moments.to_numpy(), kind="stable")
            piece, moments = piece.iloc[order], moments.iloc[order]
            clock = clock_of(moments, where)
            rows = on_grid(moments, clock, gaps, where)
            last = moments.iloc[-1]
            times = moments.to_numpy() if gaps == "ignore" else clock.before(last, int(rows[-1]) + 1)
        values = np.full((int(rows[-1]) + 1, len(columns)), np.nan)
        values[rows] = piece[list(columns)].astype(float).to_numpy()
        yield Series(tuple(key), values, clock, last, times)


def _dates(schema: Schema, name: str) -> bool:
    return schema.column(name).kind in ("date", "timestamp")
