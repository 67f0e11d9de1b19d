"""Times of rows: the step between them, those that come next, and gaps that are named."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import GenerationError
from nemo_tabular.generate.clock import clock_of, on_grid


def times(freq: str, periods: int = 30, start: str = "2020-01-31") -> pd.Series:
    return pd.Series(pd.date_range(start, periods=periods, freq=freq))


@pytest.mark.parametrize("freq", ["D", "B", "h", "15min", "W", "MS", "ME", "QS", "QE", "YS", "2D"])
def test_the_next_times_are_those_of_the_calendar(freq):
    whole = times(freq, 40)
    past = whole[:30]
    clock = clock_of(past, "the history")
    assert list(clock.after(past.iloc[-1], 10)) == list(whole[30:])
    assert list(clock.before(past.iloc[-1], 30)) == list(past)
    assert np.array_equal(on_grid(past, clock, "error", "the history"), np.arange(30))


def test_running_numbers_have_a_step_too():
    years = pd.Series(np.arange(1990.0, 2010.0))
    clock = clock_of(years, "the history")
    assert clock.after(2009.0, 2).tolist() == [2010, 2011] and clock.before(2009.0, 2).tolist() == [
        2008,
        2009,
    ]


@pytest.mark.parametrize("freq", ["D", "MS", "B"])
def test_a_gap_is_an_error_that_names_it_or_missing_rows_or_nothing(freq):
    whole = times(freq)
    gappy = whole.drop([14, 15])
    clock = clock_of(gappy, "series 7")
    before, after = (str(whole[i])[:10] for i in (13, 16))
    with pytest.raises(GenerationError, match=f"series 7: 2 rows are missing between {before} and {after}"):
        on_grid(gappy, clock, "error", "series 7")
    assert on_grid(gappy, clock, "missing", "series 7").tolist() == [*range(14), *range(16, 30)]
    assert on_grid(gappy, clock, "ignore", "series 7").tolist() == list(range(28))


def test_times_that_do_not_rise_or_are_not_there_or_off_the_grid():
    twice = pd.concat([times("D", 5), times("D", 5).iloc[-1:]])
    with pytest.raises(GenerationError, match="two rows of one time"):
        clock_of(twice, "the history")
    with pytest.raises(GenerationError, match="row 2 has no time"):
        clock_of(pd.Series([pd.Timestamp("2020-01-01"), pd.NaT]), "the history")
    with pytest.raises(GenerationError, match="say nothing of the step"):
        clock_of(times("D", 1), "the history")
    odd = times("D", 20)
    odd[10] += pd.Timedelta("5h")
    with pytest.raises(GenerationError, match="does not stand one D after"):
        on_grid(odd, clock_of(odd, "the history"), "missing", "the history")
