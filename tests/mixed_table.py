"""Seed and number of rows come in; a small table with columns of every kind leaves, and its tokenizer."""

import datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.profile import profile
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.tokenizer import TableTokenizer


def mixed_table(rows: int = 500, seed: int = 0) -> pa.Table:
    """Integers, cents, floats, texts, truth values, dates, some missing; each customer's rows in order."""
    r = np.random.default_rng(seed)
    day = datetime.date(2020, 1, 1)
    color = r.choice(["red", "green", "blue", 'süß, "quoted"'], rows)
    customer = np.sort(r.integers(0, max(1, rows // 8), rows))
    columns = {
        "customer": pa.array(customer),
        "visit": pa.array(np.arange(rows)),
        "age": pa.array(r.integers(17, 91, rows), mask=r.random(rows) < 0.05),
        "amount": pa.array(np.round(r.lognormal(3, 2, rows), 2)),
        "score": pa.array(r.normal(size=rows)),
        "color": pa.array(color.tolist(), mask=r.random(rows) < 0.1),
        "open": pa.array((r.random(rows) < 0.3).tolist()),
        "since": pa.array([day + datetime.timedelta(int(d)) for d in r.integers(0, 2000, rows)]),
    }
    return pa.table(columns)


def schema_of(table: pa.Table, **documents: Any) -> Schema:
    """The inferred schema, with group_by and order_by."""
    return infer_schema(open_table(table), **documents)


def tokenizer_of(table: pa.Table, **documents: Any) -> TableTokenizer:
    """A tokenizer fitted to the table."""
    schema = schema_of(table, **documents)
    return TableTokenizer.fit(schema, profile(open_table(table).batches(schema)))


@cache
def fitted() -> tuple[pa.Table, TableTokenizer]:
    """The default table and its tokenizer; both are never changed."""
    table = mixed_table()
    return table, tokenizer_of(table)
