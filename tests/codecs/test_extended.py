"""Codecs made to hold another table's values: what they knew means the same, and both tables come back."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from nemo_tabular.codecs import Codec, codec_from_json, fit_codec
from nemo_tabular.errors import CodecError
from nemo_tabular.profile import profile
from nemo_tabular.schema import Column

RANDOM = np.random.default_rng(0)
KINDS = {
    "int64": "integer",
    "double": "float",
    "string": "category",
    "date32[day]": "date",
    "timestamp[us]": "timestamp",
}


def made(codec, values, type, options=None) -> tuple[Column, Codec]:
    kind = KINDS.get(str(type), "timestamp")
    column = Column("x", kind, str(type), codec, options=options or {}, nullable=None in values)
    return column, fit_codec(column, profile_of(values, type))


def profile_of(values, type):
    return profile([pa.record_batch([pa.array(values, type)], names=["x"])]).columns["x"]


def days(year):
    return [dt.date(year, 1, 1) + dt.timedelta(days=int(d)) for d in RANDOM.integers(0, 365, 100)]


def instants(year, step):
    many = RANDOM.integers(0, 365 * 86_400 // step, 1000)
    return [dt.datetime(year, 1, 1) + dt.timedelta(seconds=int(n) * step) for n in many]


WHOLE = RANDOM.integers(100, 5000, 3000).tolist()
WIDER = RANDOM.integers(-50, 9000, 500).tolist()
PRICES = np.round(RANDOM.lognormal(3, 1, 3000), 2).tolist()
FLOATS = RANDOM.normal(size=1000)
PARIS = pa.timestamp("us", tz="Europe/Paris")
CASES = {
    "one slot": ("digits", WHOLE, WIDER, pa.int64(), {}),
    "two slots": ("digits", WHOLE, WIDER, pa.int64(), {"cells": 1000}),
    "far above": ("digits", WHOLE, [x + 20_000 for x in WIDER], pa.int64(), {"cells": 1000}),
    "steps of ten": ("digits", [x * 10 for x in WHOLE], [x * 10 for x in WIDER], pa.int64(), {}),
    "with a spike": ("digits", [0] * 500 + WHOLE, WIDER, pa.int64(), {}),
    "within the range": ("digits", WHOLE, WHOLE[:50], pa.int64(), {}),
    "specials": ("digits", [1.5, 2.5] * 9, [np.inf, 1.5, None, np.nan], pa.float64(), {}),
    "prices": ("digits", PRICES, [x - 3 for x in range(9)] + [99_999.25], pa.float64(), {}),
    "floats": ("digits", FLOATS[:900].tolist(), (FLOATS[900:] * 5).tolist(), pa.float64(), {}),
    "no numbers": ("digits", [None, None], [1, 2, 3], pa.int64(), {}),
    "values": ("values", [1, 2, 5], [1, 3, None], pa.int64(), {}),
    "categories": ("category", ["a", "c"], ["b", None], pa.string(), {}),
    "rare is other": ("category", ["a", "a", "c"], ["b", "b", "d"], pa.string(), {"min_count": 2}),
    "text": ("text", ["a", "cd"], ["bdef", None], pa.string(), {}),
    "codes": ("text", ["01", "12"], ["012", "99"], pa.string(), {"form": "code"}),
    "dates": ("calendar", days(2019), days(2021), pa.date32(), {}),
    "coarser times": ("calendar", instants(2019, 1), instants(2021, 60), pa.timestamp("us"), {}),
    "zones": ("calendar", instants(2019, 1), instants(2023, 60), PARIS, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_a_codec_knew_means_the_same_when_it_is_extended(case):
    codec, ours, theirs, type, options = CASES[case]
    _, old = made(codec, ours, type, options)
    column, _ = made(codec, theirs, type, options)
    new = old.extended(column, profile_of(theirs, type))
    before, after = old.meanings(), new.meanings()
    for one, named in ((old, before), (new, after)):
        assert [len(m) for m in named.values()] == [s.size for s in one.slots if not s.residual]
    codes, again = old.encode(pa.array(ours, type)), new.encode(pa.array(ours, type))
    for k, name in enumerate(before):
        place = list(after).index(name)
        meant = [before[name][code] for code in codes[:, k]]
        assert [after[name][code] for code in again[:, place]] == meant
        assert set(before[name]) - {"missing"} <= set(after[name])
    for values in () if "rare" in case else (ours, theirs):
        array = pa.array(values, type)
        back = new.decode(new.encode(array))
        if not np.isfinite(np.array([v or 0 for v in values if isinstance(v, float)])).all():
            assert str(back) == str(array)
        elif (limit := new.half_step(array)) is None:
            assert back.equals(array)
        else:
            assert (np.abs(back.to_numpy() - array.to_numpy()) <= limit * (1 + 1e-6)).all()
    assert codec_from_json(new.to_json()) == new
    new.decode(np.stack([RANDOM.integers(0, slot.size, 200) for slot in new.slots], axis=1))


def test_new_values_get_codes_of_their_own():
    _, old = made("digits", WHOLE, pa.int64())
    new = old.extended(*_other("digits", [9000] * 40 + [8000] * 40, pa.int64()))
    cells = new.encode(pa.array([8000, 9000, 4999], pa.int64()))[:, 0]
    assert len(set(cells)) == 3
    assert new.meanings()["lead"][cells[0]] not in old.meanings()["lead"]


def test_a_scale_that_was_cut_elsewhere_has_no_meaning_in_common():
    _, old = made("digits", WHOLE, pa.int64(), {"cells": 1000})
    _, other = made("digits", [x + 1 for x in WHOLE], pa.int64(), {"cells": 1000})
    leading = set(old.meanings()["lead"]) & set(other.meanings()["lead"])
    assert len(leading) < len(old.meanings()["lead"]) / 2


def _other(codec, values, type, options=None):
    return made(codec, values, type, options)[0], profile_of(values, type)


@pytest.mark.parametrize(
    ("ours", "theirs", "type", "codec", "options", "message"),
    [
        ([10, 30, 50] * 9, [25], pa.int64(), "digits", {}, "25 is off the lattice of step 20"),
        (PRICES, [1.125], pa.float64(), "digits", {}, r"'x': 3 decimals, where the model's table has 2"),
        (WHOLE, [10**6], pa.int64(), "digits", {"base": 10, "code_len": 4}, r"\[1000000, 1000000\] exceeds"),
        (
            instants(2019, 60),
            [dt.datetime(2019, 1, 1, 0, 0, 0, 5)],
            pa.timestamp("us"),
            "calendar",
            {},
            "finer",
        ),
    ],
)
def test_what_cannot_be_extended_says_why(ours, theirs, type, codec, options, message):
    _, old = made(codec, ours, type, options)
    with pytest.raises(CodecError, match=message):
        old.extended(*_other(codec, theirs, type))
