"""The schema that a model was trained with and another table enter; the schema leaves with which that table
goes on from the model: what both know is what it was, what only the table has is inferred or given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from nemo_tabular.errors import SchemaError, TabularError
from nemo_tabular.schema.column import Column, Schema
from nemo_tabular.schema.infer import infer_schema

if TYPE_CHECKING:
    from nemo_tabular.readers import TableReader

READING = ("format", "decimal", "thousands", "prefix", "suffix", "missing_values")
"""How a table's text shows its values, which another table may do otherwise."""
FIXED = ("kind", "type", "codec", "feature", "shape")
REMEDY = (
    "rename such a column, which begins it afresh, or leave it out; where no schema is given, columns are "
    "read as the model's"
)


def following(table: TableReader, known: Schema, given: Schema | None = None) -> Schema:
    """The schema of `table` in which every column that `known` has is what it is there.

    A schema that is given says how the text is to be read, which columns are missing or absent, and what the
    new columns are. Raises SchemaError that lists every column which contradicts the model's.
    """
    found = given or infer_schema(table, group_by=known.group_by, order_by=known.order_by)
    wrong = list(contradictions(known, found)) if given is not None else []
    columns = [
        _as_known(known.column(c.name), c, given is not None) if c.name in known.names else c
        for c in found.columns
    ]
    if given is None:
        other = [c for c, f in zip(columns, found.columns, strict=True) if c.kind != f.kind]
        wrong += _unreadable(table, other)
    if wrong:
        raise SchemaError(
            f"{table.source} contradicts the model's schema:\n  " + "\n  ".join(wrong) + f"\n{REMEDY}"
        )
    return replace(found, columns=tuple(columns))


def contradictions(known: Schema, given: Schema) -> Iterator[str]:
    """What two schemas say differently of the columns that both have, a line each."""
    for column in given.columns:
        if column.name not in known.names:
            continue
        ours = known.column(column.name)
        told = [
            f"{key} {getattr(column, key)} (the model's: {getattr(ours, key)})"
            for key in FIXED
            if getattr(column, key) != getattr(ours, key)
        ]
        if told:
            yield f"column {column.name!r}: {', '.join(told)}"
    for key in ("group_by", "order_by"):
        if getattr(given, key) != getattr(known, key):
            yield f"{key} {list(getattr(given, key))} (the model's: {list(getattr(known, key))})"


def _as_known(ours: Column, found: Column, given: bool) -> Column:
    reading = {key: getattr(found, key) for key in READING} if found.kind == ours.kind else {}
    missing = found.missing if given or found.missing == "absent" else ours.missing
    nullable = ours.nullable or found.nullable
    return replace(ours, nullable=nullable, missing=missing, why=found.why, **reading)


def _unreadable(table: TableReader, columns: list[Column]) -> Iterator[str]:
    """For each column that looks like another kind: why it cannot be read as the model's all the same."""
    for column in columns:
        try:
            for _ in table.batches(Schema((column,))):
                pass
        except TabularError as error:
            yield f"{error} (the model's is {column.kind}, {column.type})"
