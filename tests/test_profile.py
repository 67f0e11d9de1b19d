"""Typed batches come in; the profile's counts, ranges and sample are judged against the whole column."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.profile import least_decimals, profile, splitmix64


def mixed(rows: int, seed: int = 0) -> pa.Table:
    """A table of every kind of column, with missing values."""
    rng = np.random.default_rng(seed)
    gap = rng.random(rows) < 0.1
    day = rng.integers(0, 20_000, rows).astype("int32")
    return pa.table(
        {
            "n": pa.array(rng.integers(-5, 5, rows), mask=gap),
            "cents": pa.array(np.round(rng.normal(0, 100, rows), 2)),
            "x": pa.array(rng.normal(size=rows), mask=gap),
            "word": pa.array(rng.choice(["a", "bb", "ccc"], rows), mask=gap),
            "as_dictionary": pa.array(rng.choice(["a", "bb", "ccc"], rows)).dictionary_encode(),
            "flag": pa.array(rng.random(rows) < 0.5),
            "day": pa.array(day).cast(pa.date32()),
            "when": pa.array(day.astype("int64") * 1_000_000).cast(pa.timestamp("us", "UTC")),
            "dec": pa.array([Decimal(int(i)) / 8 for i in day], pa.decimal128(20, 3)),
        }
    )


def fields_of(p):
    """Everything in a profile that can be compared with ==."""
    names = [f for f in p.columns["n"].__dataclass_fields__]
    return {c: {f: getattr(v, f) for f in names} for c, v in p.columns.items()}


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 4999), max_size=12), seed=st.integers(0, 3))
def test_the_split_into_batches_does_not_matter(cuts, seed):
    table = mixed(5000)
    ends = [0, *sorted(set(cuts)), 5000]
    batches = [b for a, z in pairwise(ends) for b in table.slice(a, z - a).to_batches()]
    limits = {"sample_rows": 700, "text_cap": 2, "number_cap": 300, "seed": seed}
    assert fields_of(profile(batches, **limits)) == fields_of(profile(table.to_batches(), **limits))
    assert profile(batches, **limits).sample.equals(profile(table.to_batches(), **limits).sample)


def test_figures_equal_those_of_the_whole_column():
    table = mixed(3000)
    p = profile(table.to_batches(max_chunksize=257))
    assert p.rows == 3000
    for name, column in p.columns.items():
        values = [v for v in table[name].to_pylist() if v is not None]
        assert column.missing == 3000 - len(values)
        assert column.distinct == Counter(values)
        assert column.sample.to_pylist() == table[name].to_pylist()
        if name not in ("word", "as_dictionary", "flag"):
            assert (column.minimum, column.maximum) == (min(values), max(values))
    assert (p.columns["n"].decimals, p.columns["cents"].decimals, p.columns["x"].decimals) == (0, 2, None)
    assert p.columns["word"].max_bytes == 3
    assert p.columns["as_dictionary"].type == "string"
    assert isinstance(p.columns["day"].minimum, dt.date)


def test_values_that_are_not_finite_are_counted_apart():
    x = pa.array([1.5, float("nan"), float("inf"), float("-inf"), float("-inf"), None, -2.0])
    c = profile([pa.record_batch({"x": x})]).columns["x"]
    assert (c.nan, c.posinf, c.neginf, c.missing) == (1, 1, 2, 1)
    assert (c.minimum, c.maximum, c.decimals) == (-2.0, 1.5, 1)
    assert c.distinct == {-2.0: 1, 1.5: 1}


def test_a_column_of_nothing_but_missing_values_has_no_range():
    c = profile([pa.record_batch({"x": pa.array([None, None], pa.float64())})]).columns["x"]
    assert (c.missing, c.minimum, c.maximum, c.decimals, c.distinct) == (2, None, None, None, {})


@pytest.mark.parametrize("cap", [3, 4])
def test_distinct_values_are_given_up_beyond_the_cap(cap):
    batch = pa.record_batch({"s": ["a", "b", "c", "d"], "n": [1, 2, 3, 4]})
    p = profile([batch] * 3, text_cap=cap, number_cap=cap)
    expected = {"s": dict.fromkeys("abcd", 3), "n": dict.fromkeys((1, 2, 3, 4), 3)}
    for name, column in p.columns.items():
        assert column.distinct == (expected[name] if cap == 4 else None)


def test_the_sample_is_the_rows_of_the_lowest_hashes_in_row_order():
    table = pa.table({"row": range(10_000)})
    rows = profile(table.to_batches(max_chunksize=600), sample_rows=1000, seed=7).sample["row"].to_pylist()
    hashes = splitmix64(7, np.arange(10_000))
    assert rows == sorted(np.argsort(hashes)[:1000].tolist())
    other = profile(table.to_batches(), sample_rows=1000, seed=8).sample["row"].to_pylist()
    assert rows != other


def test_the_sample_is_uniform():
    rows = (
        profile(pa.table({"row": range(100_000)}).to_batches(), sample_rows=10_000).sample["row"].to_numpy()
    )
    tenths = np.bincount(rows // 10_000, minlength=10)
    assert abs(tenths - 1000).max() < 5 * np.sqrt(1000 * 0.9)  # five standard deviations


@given(st.integers(0, 9), st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=50))
def test_decimals_are_exact_and_least(d, integers):
    x = np.array(integers) / 10.0**d
    found = least_decimals(x, 0)
    assert found is not None and found <= d
    assert (np.round(x * 10.0**found) / 10.0**found == x).all()
    assert found == 0 or not (np.round(x * 10.0 ** (found - 1)) / 10.0 ** (found - 1) == x).all()


def test_single_precision_has_its_own_decimals():
    c = profile([pa.record_batch({"x": pa.array([0.1, 2.25, 1234.56], pa.float32())})]).columns["x"]
    assert c.decimals == 2


def test_whole_numbers_beyond_double_precision_are_no_grid():
    assert profile([pa.record_batch({"x": [1e300, 2.0]})]).columns["x"].decimals is None


def test_int64_ends_are_exact():
    ends = [-(2**63), 2**63 - 1]
    c = profile([pa.record_batch({"x": pa.array(ends)})]).columns["x"]
    assert [c.minimum, c.maximum] == ends and set(c.distinct) == set(ends)


def test_no_batches_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        profile([])
