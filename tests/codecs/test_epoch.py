"""Timestamps as plain digits: exact in every unit, on the lattice of their own resolution."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from nemo_tabular.codecs import EpochCodec
from nemo_tabular.testing import check_codec

from .conftest import fit

INSTANTS = np.random.default_rng(0).integers(-(10**9), 2 * 10**9, 2_000)


@pytest.mark.parametrize("zone", [None, "Europe/Paris"])
@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_every_unit_is_exact(unit: str, scale: int, zone: str | None) -> None:
    for fraction in (0, np.random.default_rng(1).integers(0, scale, len(INSTANTS))):
        column = pa.array([None, *(INSTANTS * scale + fraction).tolist()], pa.timestamp(unit, tz=zone))
        check_codec(fit(column, "epoch"), column)


def test_whole_seconds_stay_whole_seconds() -> None:
    column = pa.array(INSTANTS * 10**6, pa.timestamp("us"))
    codec = fit(column, "epoch")
    assert isinstance(codec, EpochCodec) and codec.grid.step % 10**6 == 0
    sizes = [slot.size for slot in codec.slots]
    drawn = codec.decode(np.random.default_rng(0).integers(0, sizes, (500, len(sizes))).astype(np.int32))
    assert (drawn.cast(pa.int64()).to_numpy() % 10**6 == 0).all()


def test_dates_and_times() -> None:
    for values in (
        [dt.date(1, 1, 1), dt.date(9999, 12, 31), None],
        [dt.time(0), dt.time(23, 59, 59, 999_999)],
    ):
        column = pa.array(values)
        check_codec(fit(column, "epoch"), column)


def test_conditions_and_range() -> None:
    column = pa.array([dt.date(2013, 1, 1) + dt.timedelta(days) for days in range(365)])
    codec = fit(column, "epoch")
    assert codec.decode(codec.codes_for("2013-12-31")[None]).to_pylist() == [dt.date(2013, 12, 31)]
    with pytest.raises(
        ValueError, match=r"exceed the fitted range \[2013-01-01, 2013-12-31\] \(first: 2014-01-01\)"
    ):
        codec.codes_for("2014-01-01")
