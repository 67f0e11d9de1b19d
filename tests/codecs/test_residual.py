"""Values become residuals and come back: exactly, from the past alone, whatever the unit."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs.residual import (
    ANCHORS,
    Bins,
    Cursor,
    ResidualCodec,
    context_of,
    decimals_of,
    decode,
    encode,
    residuals,
)
from nemo_tabular.errors import CodecError

CODECS = st.builds(
    ResidualCodec,
    anchor=st.sampled_from(ANCHORS),
    season=st.sampled_from([0, 1, 3, 7]),
    volatility=st.sampled_from([0.0, 0.5, 1.0]),
    decay=st.sampled_from([0.0, 0.9]),
    decimals=st.just(2),
)
CENTS = st.integers(-(10**7), 10**7).map(lambda cents: cents / 100)


def walks(series: int = 3, rows: int = 60, seed: int = 0) -> np.ndarray:
    return 50 + np.cumsum(np.random.default_rng(seed).normal(size=(series, rows)), 1)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_values_of_a_resolution_come_back_bit_for_bit(data):
    rows = data.draw(st.integers(16, 40))
    codecs = data.draw(st.lists(CODECS, min_size=1, max_size=3))
    log = data.draw(st.booleans())
    values = np.array([data.draw(st.lists(CENTS, min_size=rows, max_size=rows)) for _ in codecs])
    if log:
        codecs = [ResidualCodec(**{**codec.to_json(), "log": True}) for codec in codecs]
        values = np.abs(values) + 0.01
        values = np.round(values, 2)
    shown = data.draw(st.integers(15, rows))
    context = context_of(codecs, values[:, :shown])
    residual, _features, _cursor = encode(context, values)
    code, inside = Bins().encode(residual)
    assert np.array_equal(decode(context, Bins().decode(code, inside)), values)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_bins_and_the_place_inside_give_the_residual_back(residuals):
    values, bins = np.array(residuals), Bins()
    code, inside = bins.encode(values)
    assert ((code >= 0) & (code < bins.count)).all()
    within = np.abs(values) < bins.largest
    assert ((inside[within] >= -1e-9) & (inside[within] <= 1 + 1e-9)).all()
    assert bins.decode(code, inside) == pytest.approx(values, rel=1e-9, abs=1e-12)


def test_bins_hold_a_density():
    bins = Bins(64)
    fine = np.linspace(-bins.largest, bins.largest, 400_001)[1:-1]
    code, _inside = bins.encode(fine)
    share = np.full(bins.count, 1 / bins.count)
    assert (share[code] * bins.density(fine)).sum() * (fine[1] - fine[0]) == pytest.approx(1, abs=1e-3)
    assert np.array_equal(bins.encode(bins.middles)[0], np.arange(64))


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("season", [0, 4])
def test_residuals_and_features_come_from_the_past_alone(anchor, season):
    values, later = walks(), walks(seed=9)
    changed = np.concatenate([values[:, :40], later[:, 40:]], 1)
    context = context_of([ResidualCodec(anchor, season=season)] * 3, values[:, :30])
    one, two = encode(context, values), encode(context, changed)
    assert np.array_equal(one[0][:, :40], two[0][:, :40])
    assert np.array_equal(one[1][:, :41], two[1][:, :41]), "features of a row do not know its value"
    assert not np.array_equal(one[0][:, 40:], two[0][:, 40:])


@pytest.mark.parametrize("anchor", ANCHORS)
def test_units_do_not_matter(anchor):
    values = walks()
    one, two = (encode(context_of([ResidualCodec(anchor)] * 3, v), v) for v in (values, 1000 * values - 7))
    assert one[0] == pytest.approx(two[0], rel=1e-6, abs=1e-6)
    assert one[1] == pytest.approx(two[1], rel=1e-6, abs=1e-6)


def test_anchors_are_what_they_are_called():
    rng = np.random.default_rng(3)
    noise, walk = rng.normal(size=400), np.cumsum(rng.normal(size=400))
    values = np.stack([noise, walk])

    def pull(anchor):
        return context_of([ResidualCodec(anchor)] * 2, values).weights[:, 0]

    assert pull("level").tolist() == [0, 0] and pull("previous").tolist() == [1, 1]
    assert pull("nearest").tolist() == [0, 1]
    assert pull("ar1")[0] < 0.2 and 0.9 < pull("ar1")[1] <= 1
    cursor = Cursor(context_of([ResidualCodec("previous")] * 2, values))
    cursor.advance(np.array([3.0, 4.0]))
    assert cursor.anchor.tolist() == [3.0, 4.0]


def test_the_last_feature_tells_what_an_autoregression_expects():
    rng, y = np.random.default_rng(5), np.zeros((1, 400))
    for t in range(2, 400):
        y[:, t] = 1.2 * y[:, t - 1] - 0.5 * y[:, t - 2] + rng.normal(size=1)
    both = np.repeat(y, 2, 0)
    context = context_of([ResidualCodec("previous", volatility=0), ResidualCodec("ar")], both)
    residual, features, _cursor = encode(context, both)
    assert not features[1, :, 5].any(), "the anchor is the autoregression itself"
    left = residual[0] - np.sinh(features[0, :, 5])
    assert (left * context.scale[0]).std() == pytest.approx(1, abs=3 / np.sqrt(2 * 400))
    assert (residual[0] * context.scale[0]).std() > 1.15


def test_the_scale_follows_volatility_where_it_may():
    calm, wild = np.random.default_rng(4).normal(size=(2, 1, 200))
    values = np.concatenate([calm, 10 * wild], 1)
    fixed, running = (ResidualCodec("level", volatility=share) for share in (0.0, 1.0))
    context = context_of([fixed, running], np.repeat(values, 2, 0))
    cursor = encode(context, np.repeat(values, 2, 0))[2]
    assert cursor.scale[0] == pytest.approx(context.scale[0])
    spread = encode(context, np.repeat(values, 2, 0))[0][:, [100, 300]]
    assert 5 < cursor.scale[1] < 20 and np.isfinite(spread).all()


def test_a_seasonal_series_is_read_as_its_change_from_season_to_season():
    season = np.tile([0.0, 50.0, 100.0, 20.0], 30)
    values = (season + np.random.default_rng(5).normal(size=120))[None]
    with_season, without = (context_of([ResidualCodec("level", season=s)], values) for s in (4, 0))
    assert with_season.scale[0] < 2 and without.scale[0] > 20
    residual, _features, cursor = encode(with_season, values)
    assert np.abs(residual[0, 4:]).max() < 5
    assert cursor.read(np.zeros(1)) == pytest.approx(values[:, -4] + with_season.mean, abs=1e-9)


def test_missing_values_count_as_the_anchor_and_leave_the_volatility_alone():
    values = walks(1)
    values[0, 20:23] = np.nan
    context = context_of([ResidualCodec("previous")], values)
    residual, features, _cursor = encode(context, values)
    assert np.isnan(residual[0, 20:23]).all() and np.isfinite(features).all()
    cursor = Cursor(context)
    for value in values[0, :23]:
        cursor.advance(np.array([value]))
    assert cursor.levels[0, 0] == pytest.approx(values[0, 19])
    assert residual[0, 23] == pytest.approx((values[0, 23] - values[0, 19]) / cursor.scale[0])


def test_older_values_without_a_logarithm_count_as_missing():
    values = walks(1)
    values[0, 5:7] = 0, -1
    codecs = [ResidualCodec(log=True)]
    residual, features, _cursor = residuals(codecs, values[:, 10:], values)
    gaps = np.where(values > 0, values, np.nan)
    np.testing.assert_array_equal(residual, residuals(codecs, values[:, 10:], gaps)[0])
    assert np.isnan(residual[0, 5:7]).all() and np.isfinite(features).all()


def test_a_constant_series_stays_one():
    values = np.full((1, 30), 12.5)
    context = context_of([ResidualCodec(decimals=1)], values)
    residual, _features, cursor = encode(context, values)
    assert np.abs(residual).max() < 1e-6
    assert decode(context, np.random.default_rng(0).normal(size=(1, 5)), cursor).tolist() == [[12.5] * 5]


def test_paths_of_one_series_go_their_own_ways():
    values = walks(2)
    context = context_of([ResidualCodec(season=s) for s in (0, 4)], values)
    cursor = encode(context, values)[2]
    paths = cursor.take(np.array([0, 0, 1]))
    paths.advance(np.array([60.0, 40.0, 50.0]))
    assert paths.levels[0, 0] != paths.levels[1, 0]
    assert cursor.levels[0, 0] == pytest.approx(values[0, -1]), "the cursor they came from stays where it is"


def test_codec_through_json_and_what_is_none():
    codec = ResidualCodec("ar1", log=True, season=12, volatility=0.2, decimals=3)
    assert ResidualCodec.from_json(json.loads(json.dumps(codec.to_json()))) == codec
    with pytest.raises(CodecError, match="unexpected"):
        ResidualCodec.from_json({"anchors": "level"})
    with pytest.raises(CodecError, match="expected one of level, previous"):
        ResidualCodec("last")  # type: ignore[arg-type]
    with pytest.raises(CodecError, match="expected a season"):
        ResidualCodec(volatility=2.0)


def test_series_that_have_no_residuals_are_errors():
    with pytest.raises(CodecError, match="0 or below"):
        context_of([ResidualCodec(log=True)], np.array([[1.0, 0.0, 2.0]]))
    with pytest.raises(CodecError, match="infinite"):
        context_of([ResidualCodec()], np.array([[1.0, np.inf, 2.0]]))
    with pytest.raises(CodecError, match="at least two"):
        context_of([ResidualCodec()], np.array([[1.0, np.nan, np.nan]]))


def test_decimals_are_those_that_write_every_value():
    assert decimals_of(np.array([1.25, np.nan, 3.0])) == 2
    assert decimals_of(np.array([1.0, 2.0])) == 0
    assert decimals_of(np.array([1 / 3])) is None
