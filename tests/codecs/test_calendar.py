"""Dates, times and timestamps of every unit, zone and century come in; all must come back exactly."""

import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs.calendar import CalendarCodec
from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
ZONES = [None, "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "+02:00"]


def parts_of(codec: CalendarCodec) -> list[str]:
    return [part.name for part in codec.parts if len(part.values) > 1]


@st.composite
def timestamps(draw: st.DrawFn) -> pa.Array:
    unit, zone = draw(st.sampled_from(list(PER_SECOND))), draw(st.sampled_from(ZONES))
    scale = PER_SECOND[unit]
    years = (1700, 2200) if unit == "ns" else (1850, 2150) if zone else (1, 9998)
    low, high = (int(dt.datetime(y, 6, 1, tzinfo=dt.UTC).timestamp()) for y in years)
    if draw(st.booleans()):
        low, high = 1_700_000_000, 1_740_000_000
    instants = st.integers(low * scale, high * scale)
    values = draw(
        st.lists(st.none() | instants | instants.map(lambda v: v // scale * scale), min_size=1, max_size=30)
    )
    return pa.array(values, pa.timestamp(unit, tz=zone))


@settings(max_examples=60, deadline=None)
@given(timestamps())
def test_timestamps_of_every_unit_and_zone(column: pa.Array) -> None:
    check_codec(fit(column, "calendar"), column, random_rows=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | st.dates(), min_size=1, max_size=40))
def test_dates_from_year_1_to_9999(values: list) -> None:
    column = pa.array(values, pa.date32())
    check_codec(fit(column, "calendar"), column, random_rows=20)


@pytest.mark.parametrize("kind", [pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")])
def test_times_of_every_unit(kind: pa.DataType) -> None:
    scale = PER_SECOND[kind.unit]
    instants = np.random.default_rng(0).integers(0, 86_400 * scale, 500)
    column = pa.array(instants.astype(np.int64 if scale > 1000 else np.int32)).view(kind)
    codec = fit(column, "calendar")
    check_codec(codec, column)
    assert [slot.size for slot in codec.slots][:3] == [24, 60, 60]


def test_the_first_and_last_day_there_is() -> None:
    column = pa.array([dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2024, 2, 29), dt.date(1900, 2, 28)])
    check_codec(fit(column, "calendar"), column)


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York"])
@pytest.mark.parametrize("year", [2023, 1968])
def test_the_hour_that_clocks_show_twice_comes_back_as_itself(zone: str, year: int) -> None:
    start = int(dt.datetime(year, 1, 1, tzinfo=dt.UTC).timestamp())
    column = pa.array(range(start, start + 366 * 86_400, 1_800), pa.timestamp("s", tz=zone))
    codec = fit(column, "calendar")
    check_codec(codec, column)
    if (zone, year) != ("Europe/Paris", 1968):  # France had no summer time then
        assert "offset" in parts_of(codec)


def test_a_zone_without_changes_has_no_part_for_them() -> None:
    column = pa.array([0, 1_700_000_123], pa.timestamp("s", tz="Asia/Tokyo"))
    codec = fit(column, "calendar")
    assert "offset" not in parts_of(codec)
    assert dict((p.name, p.values) for p in codec.parts)["hour"] == (7, 9)  # wall clock, not UTC
    check_codec(codec, column)


def test_parts_that_never_change_are_dropped() -> None:
    midnights = pa.array([dt.datetime(2013, month, 1) for month in range(1, 13)])
    assert parts_of(fit(midnights, "calendar")) == ["month"]
    daily = pa.array([dt.datetime(2013, 1, day) for day in range(1, 32)])
    assert parts_of(fit(daily, "calendar")) == ["day"]
    quarters = pa.array([dt.time(hour, minute) for hour in range(24) for minute in (0, 15, 30, 45)])
    codec = fit(quarters, "calendar")
    assert [slot.size for slot in codec.slots] == [24, 4]
    check_codec(codec, quarters)


def test_a_constant_column_keeps_one_slot() -> None:
    column = pa.array([dt.datetime(2020, 2, 29, 12)] * 3)
    codec = fit(column, "calendar")
    assert [slot.size for slot in codec.slots] == [1]
    check_codec(codec, column)


def test_all_missing() -> None:
    column = pa.nulls(3, pa.date32())
    codec = fit(column, "calendar")
    check_codec(codec, column)
    with pytest.raises(CodecError, match="column 'x': no value was seen at fit"):
        codec.encode(pa.array([dt.date(2000, 1, 1)]))


def test_february_30_is_the_last_of_february() -> None:
    column = pa.array([dt.date(2023, 1, 1) + dt.timedelta(days) for days in range(730)])
    codec = fit(column, "calendar")
    drawn = codec.decode(np.array([[0, 1, 29], [1, 1, 29], [0, 3, 30]]))
    assert drawn.to_pylist() == [dt.date(2023, 2, 28), dt.date(2024, 2, 29), dt.date(2023, 4, 30)]


def test_fine_fractions_are_uniform_within_the_second() -> None:
    instants = np.random.default_rng(0).integers(0, 10**12, 5_000)
    column = pa.array(instants, pa.timestamp("us"))
    codec = fit(column, "calendar")
    assert isinstance(codec, CalendarCodec) and codec.points == 10**6
    codes = codec.encode(column)
    assert (codec.widths(codes) == 10**6).all()
    seconds = codec.decode(codec.fill_residual(codes, np.random.default_rng(1).random(5_000))).cast(
        pa.int64()
    )
    assert np.array_equal(seconds.to_numpy() // 10**6, instants // 10**6)
    some = np.repeat(codes[:1], 10**4, axis=0)
    filled = (
        codec.decode(codec.fill_residual(some, (np.arange(10**4) * 100 + 50.5) / 10**6))
        .cast(pa.int64())
        .to_numpy()
    )
    assert np.array_equal(filled % 10**6, np.arange(10**4) * 100 + 50)


def test_few_fractions_are_a_part_like_the_others() -> None:
    column = pa.array(np.arange(1_000) * 250, pa.timestamp("ms"))
    codec = fit(column, "calendar")
    assert parts_of(codec)[-1] == "subsecond" and codec.slots[-1].size == 4
    assert not any(slot.residual for slot in codec.slots)


def test_what_was_not_seen_at_fit_is_named() -> None:
    column = pa.array([dt.datetime(2013, 1, 1) + dt.timedelta(hours=h) for h in range(5_000)])
    codec = fit(column, "calendar")
    with pytest.raises(
        CodecError, match=r"column 'x': 2014-01-01 .* has year 2014 where only 2013 was seen at fit"
    ):
        codec.encode(pa.array([dt.datetime(2014, 1, 1)]))
    with pytest.raises(CodecError, match="has minute 5 where only 0 was seen at fit"):
        codec.encode(pa.array([dt.datetime(2013, 1, 1, 1, 5)]))
    late = pa.array([dt.datetime(2014, 3, 1, 7)])
    assert codec.decode(codec.encode(late, unseen="clip")).to_pylist() == [dt.datetime(2013, 3, 1, 7)]
    missing = fit(column, "calendar", out_of_range="missing")
    assert missing.decode(missing.encode(late)).to_pylist() == [None]


def test_conditions() -> None:
    days = pa.array([dt.date(2013, 1, 1) + dt.timedelta(days) for days in range(365)])
    assert fit(days, "calendar").codes_for("2013-03-01").tolist() == [2, 0]
    zoned = pa.array(np.arange(365) * 86_400 + 1_356_998_400, pa.timestamp("s", tz="Europe/Paris"))
    codec = fit(zoned, "calendar")
    local = codec.codes_for("2013-07-01 02:00:00")
    assert np.array_equal(local, codec.codes_for("2013-07-01 00:00:00Z"))
    with pytest.raises(CodecError, match="column 'x': 'March' is not a value of type date32"):
        fit(days, "calendar").codes_for("March")


def test_numbers_have_no_calendar() -> None:
    with pytest.raises(CodecError, match="column 'x': int64 has no calendar; set codec: digits"):
        fit(pa.array([1, 2]), "calendar")


def test_a_sample_may_not_have_seen_all() -> None:
    """Beyond the sample's rows, parts take their natural range, and a finer fraction is named."""
    from nemo_tabular.codecs import fit_codec
    from nemo_tabular.schema import Column

    from .conftest import profile_of

    instants = np.arange(1_000) * 3_600 * 10**6
    column = pa.array(instants, pa.timestamp("us"))
    shallow = profile_of(column, sample_rows=20)
    codec = fit_codec(Column("x", "timestamp", "timestamp[us]", "calendar"), shallow)
    assert codec.decode(codec.encode(column)).equals(column)
    with pytest.raises(
        CodecError, match=r"column 'x': .* is finer than every value .*set resolution: ms, us or ns"
    ):
        codec.encode(pa.array([1], pa.timestamp("us")))


def test_codes_that_rise_are_times_that_rise_even_in_february() -> None:
    """A model may draw days that a month has not: they are its last moment."""
    seen = [dt.datetime(2023, 1, 31, 5), dt.datetime(2023, 2, 28, 21), dt.datetime(2024, 2, 29, 5)]
    codec = fit(pa.array(seen, pa.timestamp("us")), "calendar")
    codes = np.array(list(itertools.product(*(range(slot.size) for slot in codec.slots))), np.int32)
    decoded = codec.decode(codes).to_pylist()
    assert decoded == sorted(decoded)
    assert {time.hour for time in decoded} == {5, 21}
