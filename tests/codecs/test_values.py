"""Columns with few distinct numbers, dates or times come in; one token each, exactly, goes out."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

COLUMNS = st.one_of(
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.int64())
    ),
    st.lists(st.none() | st.integers(0, 2**64 - 1), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.uint64())
    ),
    st.lists(st.none() | st.integers(-128, 127), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.int8())
    ),
    st.lists(st.none() | st.floats(), min_size=1, max_size=30).map(lambda v: pa.array(v, pa.float64())),
    st.lists(st.none() | st.floats(width=32), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.float32())
    ),
    st.lists(st.none() | st.booleans(), min_size=1, max_size=30).map(lambda v: pa.array(v, pa.bool_())),
    st.lists(st.none() | st.dates(), min_size=1, max_size=30).map(lambda v: pa.array(v, pa.date32())),
    st.lists(st.none() | st.times(), min_size=1, max_size=30).map(lambda v: pa.array(v, pa.time64("us"))),
    st.lists(st.none() | st.datetimes(), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.timestamp("us"))
    ),
    st.lists(st.none() | st.decimals(-999, 999, places=2), min_size=1, max_size=30).map(
        lambda v: pa.array(v, pa.decimal128(7, 2))
    ),
)


@settings(max_examples=300, deadline=None)
@given(COLUMNS)
def test_every_type_is_exact(column: pa.Array) -> None:
    codec = fit(column, "values")
    check_codec(codec, column, random_rows=20)
    assert len(codec.slots) == 1


def test_codes_rise_with_the_values() -> None:
    codec = fit(pa.array([3.5, None, float("nan"), -1.0, float("inf")]), "values")
    assert codec.encode(pa.array([None, float("nan"), float("inf"), -1.0, 3.5]))[:, 0].tolist() == [
        0,
        1,
        2,
        3,
        4,
    ]


def test_unseen_numbers() -> None:
    column = pa.array([10, 20, 40])
    with pytest.raises(
        CodecError, match=r"column 'x': 29 was not seen at fit \(nearest: 20; 1 of 2 values\)"
    ):
        fit(column, "values").encode(pa.array([10, 29]))
    for codec in (
        fit(column, "values", unseen="nearest"),
        fit(pa.array([10.5, 20, 40]), "values", unseen="nearest"),
    ):
        back = codec.decode(codec.encode(pa.array([-5, 29, 31, 99]).cast(codec.arrow_type))).to_pylist()
        assert back[1:] == [20, 40, 40]
    assert fit(column, "values").encode(pa.array([29]), unseen="nearest").tolist() == [[1]]
    assert fit(column, "values").encode(pa.array([99]), unseen="clip").tolist() == [[2]]
    codec = fit(column, "values", unseen="missing")
    assert codec.decode(codec.encode(pa.array([29]))).null_count == 1


def test_neighbours_beyond_2_to_the_53_are_told_apart() -> None:
    column = pa.array([2**53, 2**53 + 1, 2**62])
    codec = fit(column, "values")
    assert codec.encode(column)[:, 0].tolist() == [0, 1, 2]
    with pytest.raises(CodecError, match=f"{2**53 + 2} was not seen"):
        codec.encode(pa.array([2**53 + 2]))


def test_fractions_are_not_taken_for_whole_numbers() -> None:
    codec = fit(pa.array([1.0, 2.0, 3.0]), "values")
    with pytest.raises(CodecError, match=r"2.5 was not seen"):
        codec.encode(pa.array([2.5]))


def test_too_many_values_say_what_to_do() -> None:
    with pytest.raises(CodecError, match=r"column 'x': too many distinct values.*codec: digits"):
        fit(pa.array(np.arange(10_000)), "values")


def test_conditions() -> None:
    codec = fit(pa.array([dt.date(2013, 1, 1), dt.date(1969, 2, 28)]), "values")
    assert codec.codes_for("2013-01-01").tolist() == codec.codes_for(dt.date(2013, 1, 1)).tolist() == [1]
    assert fit(pa.array([Decimal("1.50")]), "values").codes_for("1.50").tolist() == [0]
    assert fit(pa.array([39, 40]), "values").codes_for("40.0").tolist() == [1]
    with pytest.raises(CodecError, match=r"'40.5' is not a value of type int64"):
        fit(pa.array([39, 40]), "values").codes_for("40.5")
