"""Windows of series: which rows make statistics, are read, and are scored; and none beyond the end."""

import numpy as np

from nemo_tabular.codecs.residual import FEATURES, Bins, ResidualCodec, residuals
from nemo_tabular.train.windows import history_windows, joined, windows

BINS = Bins()


def walks(columns: int = 2, rows: int = 260, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(columns, rows)), 1)


def test_a_window_scores_the_rows_after_those_that_made_its_statistics():
    values, codecs = walks(rows=70), [ResidualCodec()] * 2
    values[1, 65] = np.nan
    found = windows(values, codecs, 60, 20, BINS)
    assert found.before.shape == (2, 30) and found.features.shape == (2, 30, FEATURES)
    assert not found.scored[:, :20].any() and found.scored[0, 20:].all()
    assert found.scored[1, 20:].sum() == 9
    residual, _features, _cursor = residuals(codecs, values[:, :60], values)
    assert np.array_equal(found.target[0], BINS.encode(residual[0, 40:])[0])
    assert np.array_equal(found.before[0, 1:], found.target[0, :-1])


def test_windows_of_a_history_begin_at_their_origins_and_know_nothing_beyond_the_end():
    values, codecs = walks(), [ResidualCodec("ar"), ResidualCodec(season=4)]
    origins = np.arange(50, 200, 7)
    found = joined(history_windows(values, codecs, origins, 200, 64, 12, BINS))
    inside = [r for r in origins if r >= 64]
    assert found.before.shape == (2 * len(inside), 64)
    assert sorted(set(found.scored.sum(1))) == sorted({min(12, 200 - r) for r in inside}), (
        "none from the end on"
    )
    changed = values.copy()
    changed[:, 200:] = 1e6
    again = joined(history_windows(changed, codecs, origins, 200, 64, 12, BINS))
    for name, x in vars(found).items():
        assert np.array_equal(x, getattr(again, name)), name


def test_columns_that_are_hardly_known_make_no_windows():
    values = walks()
    values[1, :150] = np.nan
    parts = history_windows(values, [ResidualCodec()] * 2, np.array([100, 220]), 260, 64, 12, BINS)
    assert len(joined(parts).before) == 3
    assert history_windows(values[1:], [ResidualCodec()], np.array([100]), 260, 64, 12, BINS) == []
