"""The schema of a table, inferred from every one of its rows in one streaming pass.

Enters a table and what the user already knows; leaves a Schema whose every column says why it is what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.errors import SchemaError, nearest
from nemo_tabular.profile import ColumnStats, stats_of
from nemo_tabular.schema.column import Column, Schema
from nemo_tabular.schema.decide import decide_key, decide_text, decide_typed
from nemo_tabular.schema.evidence import MISSING_WORDS, TextEvidence

if TYPE_CHECKING:
    from nemo_tabular.readers import TableReader

MAX_CATEGORIES = 65_535
_LEAST_CAP = 4_096  # distinct texts are followed at least so far, however few may be categories


def infer_schema(
    table: TableReader,
    *,
    group_by: Sequence[str] = (),
    order_by: Sequence[str] = (),
    drop: Sequence[str] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    max_categories: int = MAX_CATEGORIES,
) -> Schema:
    """The schema of a whole table, in one pass with memory that does not grow with its rows.

    `drop`: columns to leave out. `overrides`: keys of Column per column name, taken as given and used as
    hints for the rest (`{"day": {"format": "%d/%m/%Y"}}`, `{"name": {"codec": "text"}}`). A text column with
    more than `max_categories` distinct values is not a category; the keys of `group_by` may have any number.
    SchemaError where no sensible reading exists, saying which column, what was seen and what to set.
    """
    hints = {name: dict(given) for name, given in (overrides or {}).items()}
    _check_names(table, drop=drop, overrides=list(hints), group_by=group_by, order_by=order_by)
    _check_hints(hints)
    names = [n for n in table.column_names if n not in drop]
    if not names:
        raise SchemaError(f"{table.source}: every column is dropped; keep at least one")
    evidence, rows = _gather(table, names, hints, max_categories)
    guess = getattr(table, "untyped", False)
    columns = []
    for name in names:
        found, hint = evidence[name], hints.get(name, {})
        if isinstance(found, TextEvidence) and name in group_by:
            column = decide_key(found, hint, guess=guess)
        elif isinstance(found, TextEvidence):
            column = decide_text(found, hint, max_categories, guess=guess)
        else:
            column = decide_typed(name, found, rows)
        if name in getattr(table, "partial", ()):
            column = replace(column, nullable=True, missing="absent")
        columns.append(Column.from_dict({**column.to_dict(), **hint}) if hint else column)
    return Schema(tuple(columns), tuple(group_by), tuple(order_by), rows)


def _gather(
    table: TableReader, names: list[str], hints: Mapping[str, Mapping[str, Any]], max_categories: int
) -> tuple[dict[str, TextEvidence | ColumnStats], int]:
    """The evidence on each column, and the number of rows."""
    evidence: dict[str, TextEvidence | ColumnStats] = {}
    cap, rows = max(max_categories, _LEAST_CAP), 0
    for batch in table.batches():
        rows += batch.num_rows
        for name in names:
            values = batch.column(name)
            if name not in evidence:
                words = tuple(hints.get(name, {}).get("missing_values", MISSING_WORDS))
                if pa.types.is_string(values.type) or pa.types.is_dictionary(values.type):
                    evidence[name] = TextEvidence(name, cap, partial(_row_of, table, name), words)
                else:
                    evidence[name] = stats_of(values.type)
            evidence[name].update(values)
    if not rows:
        raise SchemaError(f"{table.source} has a header but no rows; add rows")
    return evidence, rows


def _row_of(table: TableReader, name: str, word: str) -> int:
    """The row (from 1) in which a text first occurs, by another pass that ends there."""
    before = 0
    for batch in table.batches():
        found = pc.index(batch.column(name), word).as_py()
        if found >= 0:
            return before + found + 1
        before += batch.num_rows
    return 0


def _check_names(table: TableReader, **lists: Sequence[str]) -> None:
    for where, names in lists.items():
        if isinstance(names, str):
            raise SchemaError(f"{where}: expected a list of columns, got the text {names!r}")
        for name in names:
            if name not in table.column_names:
                raise SchemaError(
                    f"{where}: {table.source} has no column {name!r}{nearest(name, table.column_names)}"
                )


def _check_hints(hints: Mapping[str, Mapping[str, Any]]) -> None:
    known = [f.name for f in fields(Column) if f.name != "name"]
    for name, hint in hints.items():
        for key in hint:
            if key not in known:
                raise SchemaError(f"overrides of column {name!r}: unknown key {key!r}{nearest(key, known)}")
