"""Numbers of every type and shape come in and must come back; cells and residual must keep their word."""

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs.digits import DigitsCodec
from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "cells": st.sampled_from([1, 2, 16, 300]),
        "base": st.sampled_from([2, 7, 32]),
        "transform": st.sampled_from(["auto", "identity", "robust", "log1p", "yeo-johnson", "quantile"]),
        "spikes": st.sampled_from(["auto", "none", 1, False]),
    },
)


def normal(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=rows)


@st.composite
def integer_columns(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from(INTEGERS))
    info = np.iinfo(kind.to_pandas_dtype())
    number = st.integers(int(info.min), int(info.max)) | st.sampled_from([int(info.min), int(info.max), 0, 1])
    return pa.array(draw(st.lists(st.none() | number, min_size=1, max_size=60)), kind)


@settings(max_examples=150, deadline=None)
@given(integer_columns(), OPTIONS)
def test_integers_of_every_type_are_exact(column: pa.Array, options: dict) -> None:
    check_codec(fit(column, "digits", **options), column, random_rows=20)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.none() | st.floats(width=64), min_size=1, max_size=60),
    st.sampled_from([pa.float64(), pa.float32()]),
    OPTIONS,
)
@example([0.0, 0.0, 1.0, 2.220446049250313e-16, -1.0], pa.float32(), {"transform": "yeo-johnson"})
def test_floats_keep_their_accuracy_and_specials(values: list, kind: pa.DataType, options: dict) -> None:
    if options.get("transform", "auto") not in ("auto", "log1p"):  # floats have no room for 600 magnitudes
        values = [v if v is None or not np.isfinite(v) else float(np.clip(v, -1e6, 1e6)) for v in values]
    with np.errstate(over="ignore"):
        column = pa.array(
            np.array([np.nan if v is None else v for v in values]).astype(kind.to_pandas_dtype())
        )
    column = pa.array(column.to_numpy(), mask=np.array([v is None for v in values]))
    check_codec(fit(column, "digits", **options), column, random_rows=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.decimals(-(10**9), 10**9, places=3), min_size=1, max_size=40), OPTIONS)
def test_decimals_are_exact(values: list, options: dict) -> None:
    column = pa.array(values, pa.decimal128(20, 3))
    check_codec(fit(column, "digits", **options), column, random_rows=20)


def test_cents_in_floats_are_exact() -> None:
    column = pa.array(np.round(normal(5_000) * 1e6, 2))
    codec = fit(column, "digits")
    check_codec(codec, column)
    assert codec.half_step(column) is None and codec.decode(codec.encode(column)).equals(column)


@pytest.mark.parametrize("value", [2**53 + 1, -(2**63), 2**63 - 1])
def test_integers_beyond_floats_are_exact(value: int) -> None:
    column = pa.array([value, 0, value, 7])
    codec = fit(column, "digits")
    assert codec.decode(codec.encode(column)).to_pylist() == [value, 0, value, 7]


def test_the_whole_range_of_64_bits_has_cells() -> None:
    for kind, low, high in ((pa.int64(), -(2**63), 2**63 - 1), (pa.uint64(), 0, 2**64 - 1)):
        column = pa.array([low, high, 5, 6, 7], kind)
        codec = fit(column, "digits", step=1, spikes="none", cells=4)
        check_codec(codec, column)
        assert (codec.widths(codec.encode(column)) > 0).all()


@pytest.mark.parametrize(
    "values",
    [
        [5],
        [5.5] * 10,
        [1, 2] * 10,
        [0.1, 1 / 3] * 10,
        [5] * 1_000 + [10**15],
        [0.0] * 1_000 + [1e-300],
        [None, None, 3],
        [float("nan")] * 3,
        [float("inf"), float("-inf"), None],
        [1e300, -1e300, 1.5, 2.5],
        [5e-324, 1.7e308],
    ],
)
def test_degenerate_columns(values: list) -> None:
    column = pa.array(values)
    check_codec(fit(column, "digits"), column)


def test_an_all_missing_column_is_missing_whatever_is_drawn() -> None:
    column = pa.nulls(5, pa.float64())
    codec = fit(column, "digits")
    assert [slot.size for slot in codec.slots] == [1]
    assert codec.decode(np.zeros((3, 1), np.int32)).null_count == 3
    with pytest.raises(CodecError, match="column 'x': no number was seen at fit"):
        codec.encode(pa.array([1.0]))


def test_special_values_have_their_own_codes() -> None:
    column = pa.array([None, float("nan"), float("inf"), float("-inf"), *normal(1_000)])
    codec = fit(column, "digits")
    lead = codec.encode(column)[:, 0]
    assert lead[:4].tolist() == [0, 1, 2, 3] and lead[4:].min() == 4


def test_spikes_have_their_own_codes_and_come_back_exactly() -> None:
    values = np.where(np.arange(2_000) % 3 == 0, 1 / 3, np.exp(normal(2_000)))
    column = pa.array(np.where(np.arange(2_000) % 5 == 0, np.pi, values))
    codec = fit(column, "digits")
    assert isinstance(codec, DigitsCodec) and codec.spikes == (1 / 3, np.pi)
    check_codec(codec, column)
    lead = codec.encode(pa.array([1 / 3, np.pi, 1 / 3 + 1e-9]))[:, 0]
    assert lead[0] == 0 and lead[1] == 1 and lead[2] >= 2
    assert codec.decode(codec.encode(pa.array([1 / 3, np.pi]))).to_pylist() == [1 / 3, np.pi]


def test_spikes_are_at_most_32_and_may_be_given() -> None:
    values = np.concatenate([np.repeat(np.arange(100) * 1e6, 50), np.arange(50_000) * 2_000 + 1])
    column = pa.array(values.astype(np.int64))
    assert len(fit(column, "digits", spikes="auto").spikes) <= 32
    assert fit(column, "digits", spikes=[2_000_000, 0]).spikes == (0, 2_000_000)
    assert fit(column, "digits", spikes="none").spikes == ()
    with pytest.raises(CodecError, match="lie outside the range"):
        fit(column, "digits", spikes=[-5])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=1, max_size=80),
    st.sampled_from([1, 2, 3, 5]),
    st.sampled_from(["auto", "quantile", "identity"]),
    st.sampled_from([[], [7], [0, 30, 31]]),
)
def test_every_point_of_a_cell_is_reached_and_equally_likely(
    values: list[int], cells: int, transform: str, spikes: list[int]
) -> None:
    """Enumerates cells: `width` points each, all distinct, that together with the spikes tile the range."""
    column = pa.array([*values, 0, 60])
    codec = fit(column, "digits", cells=cells, transform=transform, spikes=spikes, step=1)
    assert isinstance(codec, DigitsCodec)
    reached: list[int] = list(spikes)
    for cell in range(codec.num_cells):
        code = np.zeros((1, len(codec.slots)), np.int32)
        code[0, : len(codec.bases)] = codec._digit_codes(np.array([cell]))[0]
        width = int(codec.widths(code)[0])
        grid = (np.arange(width * 7) + 0.5) / (width * 7)  # 7 draws for each point, evenly over [0, 1)
        drawn = codec.decode(codec.fill_residual(np.repeat(code, len(grid), axis=0), grid)).to_pylist()
        points, counts = np.unique(drawn, return_counts=True)
        assert len(points) == width and (counts == 7).all()
        reached += points.tolist()
    assert sorted(reached) == list(range(61))


def test_residual_slots_are_uniform_within_wide_cells() -> None:
    column = pa.array((np.exp(normal(20_000)) * 1e6).astype(np.int64))
    codec = fit(column, "digits")
    codes = np.repeat(codec.encode(column)[:1], 100_000, axis=0)
    filled = codec.fill_residual(codes, np.random.default_rng(1).random(len(codes)))
    values = np.sort(codec.decode(filled).to_numpy())
    low, width = values[0], codec.widths(codes)[0]
    ks = np.abs((values - low + 0.5) / width - (np.arange(len(values)) + 0.5) / len(values)).max()
    assert ks < 1.95 / len(values) ** 0.5 + 1 / width  # Kolmogorov's bound at 0.1 %


def test_the_default_number_of_cells_follows_the_rows() -> None:
    column = pa.array((np.exp(normal(32_561) * 0.55 + 12)).astype(np.int64))
    codec = fit(column, "digits")
    assert isinstance(codec, DigitsCodec) and 120 <= codec.num_cells <= 128
    assert [slot.residual for slot in codec.slots] == [False, True, True]
    wide = fit(column, "digits", cells=512)
    assert len(wide.bases) == 2 and max(wide.bases) <= 23 + 1


def test_a_small_lattice_is_coded_exactly_without_residual() -> None:
    column = pa.array(np.random.default_rng(0).integers(0, 100, 40_000))
    codec = fit(column, "digits")
    assert [(slot.size, slot.residual) for slot in codec.slots] == [(100, False)]


def test_hundreds_stay_hundreds() -> None:
    column = pa.array(np.random.default_rng(0).integers(10, 10_000, 5_000) * 100)
    codec = fit(column, "digits")
    sizes = [slot.size for slot in codec.slots]
    drawn = codec.decode(np.random.default_rng(1).integers(0, sizes, (1_000, len(sizes))).astype(np.int32))
    assert (drawn.to_numpy() % 100 == 0).all()
    with pytest.raises(CodecError, match=r"column 'x': 1150 is off the lattice of step 100.*set step: 1"):
        codec.encode(pa.array([1200, 1150]))


def test_values_outside_the_range() -> None:
    column = pa.array(np.arange(9_801), pa.int64())
    late = pa.array([*range(876), *range(10_000, 10_124)])
    with pytest.raises(
        CodecError, match=r"column 'x': 12.4 % of values exceed the fitted range \[0, 9800\].*clip"
    ):
        fit(column, "digits").encode(late)
    assert (
        fit(column, "digits", out_of_range="clip")
        .decode(fit(column, "digits", out_of_range="clip").encode(late))
        .to_pylist()[-1]
        == 9_800
    )
    codec = fit(column, "digits", out_of_range="missing")
    assert codec.decode(codec.encode(late)).null_count == 124
    codec = fit(column, "digits")
    assert codec.decode(codec.encode(late, unseen="nearest")).to_pylist()[-1] == 9_800
    wide = fit(column, "digits", out_of_range="widen", widen=0.05)
    assert wide.decode(wide.encode(pa.array([-490, 10_290]))).to_pylist() == [-490, 10_290]
    with pytest.raises(CodecError, match="exceed the fitted range"):
        wide.encode(pa.array([-491]))


def test_a_range_beyond_the_floats_is_refused_with_the_way_out() -> None:
    column = pa.array([1.7e308, -1.7e308, 1.25])
    with pytest.raises(CodecError, match="too wide for even steps; set transform: log1p"):
        fit(column, "digits", transform="identity")
    check_codec(fit(column, "digits"), column)


@pytest.mark.parametrize("values", [[True, False], ["a", "b"]])
def test_what_is_no_number_is_refused(values: list) -> None:
    with pytest.raises(CodecError, match="is no number; set codec: category"):
        fit(pa.array(values), "digits")


def test_just_outside_the_range_of_floats_is_outside() -> None:
    column = pa.array([0.25, 0.5, 0.75, 1 / 3])
    codec = fit(column, "digits")
    with pytest.raises(CodecError, match="exceed the fitted range"):
        codec.encode(pa.array([np.nextafter(0.75, 1)]))


def test_missing_and_nan_that_were_not_there_at_fit() -> None:
    codec = fit(pa.array(normal(50)), "digits")
    with pytest.raises(CodecError, match="column 'x': 1 of 2 values are missing, and none was at fit"):
        codec.encode(pa.array([None, 0.1]))
    with pytest.raises(CodecError, match="column 'x': 1 of 2 values are nan, and none was at fit"):
        codec.encode(pa.array([float("nan"), 0.1]))


def test_decimals_beyond_63_bits_are_refused_with_the_way_out() -> None:
    with pytest.raises(CodecError, match=r"column 'x': .*set codec: text"):
        fit(pa.array([Decimal(10**30), Decimal(1)], pa.decimal128(38, 0)), "digits")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"celsl": 4}, r"codec 'digits' has no option 'celsl' \(did you mean 'cells'\?\)"),
        ({"cells": 0}, "cells: 0 must be a whole number from 1"),
        ({"base": 2.5}, "base: 2.5 must be a whole number"),
        ({"transform": "log"}, r"unknown transform 'log' \(did you mean 'log1p'\?\)"),
        ({"out_of_range": "ignore"}, "out_of_range: ignore is not one of error, clip, missing, widen"),
        ({"accuracy": 0}, "accuracy: 0 must be a number"),
        ({"code_len": 2}, "code_len needs a base"),
        ({"code_len": 2, "base": 10, "spikes": 3}, "spikes and cells need room of their own"),
    ],
)
def test_impossible_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        fit(pa.array(normal(50)), "digits", **options)


def test_conditions_from_values_and_texts() -> None:
    codec = fit(pa.array([1.5, 2.5, None, 40.0, float("nan")] * 9), "digits")
    for value, text in ((40.0, "40"), (1.5, " 1.5 "), (float("nan"), "nan")):
        assert np.array_equal(codec.codes_for(value), codec.codes_for(text))
    assert codec.codes_for(None)[0] == 0
    with pytest.raises(CodecError, match="column 'x': 'forty' is not a value of type double"):
        codec.codes_for("forty")
    with pytest.raises(CodecError, match="exceed the fitted range"):
        codec.codes_for(41)


def test_codes_of_another_tokenizer_are_refused() -> None:
    codec = fit(pa.array([1, 2, 3]), "digits")
    with pytest.raises(CodecError, match="code 9 at row 1, slot 0 does not belong there"):
        codec.decode(np.array([[0], [9]]))
    with pytest.raises(CodecError, match=r"codes of shape \(1, 2\), expected \(rows, 1\)"):
        codec.decode(np.zeros((1, 2), np.int32))


def test_a_long_column_is_coded_in_chunks_like_a_short_one() -> None:
    column = pa.chunked_array([normal(50_000, 1), normal(30_000, 2)])
    codec = fit(column.combine_chunks(), "digits")
    whole = codec.encode(column)
    assert np.array_equal(whole[50_000:], codec.encode(column.chunk(1)))
    assert codec.decode(whole).equals(
        pa.concat_arrays([codec.decode(whole[:40_000]), codec.decode(whole[40_000:])])
    )


def test_rounding_has_no_bias() -> None:
    column = pa.array(normal(20_000))
    codec = fit(column, "digits", accuracy=0.01, spikes="none")
    error = codec.decode(codec.encode(column)).to_numpy() - column.to_numpy()
    assert np.abs(error).max() <= 0.005 * (1 + 1e-9)
    assert abs(error.mean()) < 4 * error.std() / len(error) ** 0.5


def test_many_magnitudes_get_a_relative_accuracy() -> None:
    column = pa.array(np.exp(normal(5_000) * 12))
    codec = fit(column, "digits")
    check_codec(codec, column)
    back = codec.decode(codec.encode(column)).to_numpy()
    assert np.abs(back / column.to_numpy() - 1).max() < 1e-4
