"""From a table to a long table of futures: several series, times, given futures, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular import Synthesizer
from nemo_tabular.errors import GenerationError, SchemaError


def table(rows: int = 60, keys=("x", "y"), seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    pieces = []
    for key in keys:
        level = np.cumsum(rng.normal(size=rows))
        pieces.append(
            pd.DataFrame(
                {
                    "shop": key,
                    "month": pd.date_range("2015-01-01", periods=rows, freq="MS"),
                    "sales": np.round(100 + 3 * level, 1),
                    "price": np.round(5 + 0.1 * level + 0.05 * rng.normal(size=rows), 2),
                    "mood": rng.choice(["good", "bad"], rows),
                }
            )
        )
    return pd.concat(pieces, ignore_index=True)


KEYS = {"group_by": ["shop"], "order_by": ["month"]}
S = Synthesizer()


def test_paths_of_several_series_in_a_long_table_with_their_times():
    shuffled = table().sample(frac=1, random_state=1)
    out = S.forecast(shuffled, 3, samples=5, seed=1, **KEYS)
    assert list(out.columns) == ["shop", "path", "step", "month", "sales", "price"]
    assert len(out) == 2 * 5 * 3
    one = out[(out["shop"] == "x") & (out["path"] == 2)]
    assert one["step"].tolist() == [1, 2, 3]
    assert one["month"].tolist() == list(pd.date_range("2020-01-01", periods=3, freq="MS"))
    assert np.array_equal(out["sales"].round(1), out["sales"]), "the decimals of the history"
    first = S.forecast(table(), 3, samples=5, seed=1, **KEYS).set_index(["shop", "path", "step"])
    assert first["sales"].equals(out.set_index(["shop", "path", "step"])["sales"].reindex(first.index))


def test_without_keys_and_times_the_rows_are_one_series_in_their_order():
    out = S.forecast(table(keys=["x"])[["sales"]], 2, samples=3)
    assert list(out.columns) == ["series", "path", "step", "sales"] and set(out["series"]) == {1}


def test_a_column_can_be_chosen_and_text_cannot_be_forecast():
    assert list(S.forecast(table(), 1, samples=1, columns=["price"], **KEYS).columns)[-1] == "price"
    with pytest.raises(GenerationError, match="'mood' is not forecast"):
        S.forecast(table(), 1, columns=["mood"], **KEYS)
    with pytest.raises(SchemaError, match="did you mean 'price'"):
        S.forecast(table(), 1, columns=["prize"], **KEYS)
    with pytest.raises(GenerationError, match="no numeric column"):
        S.forecast(table()[["shop", "month", "mood"]], 1, **KEYS)


def test_given_futures_by_time_and_key():
    given = pd.DataFrame(
        {"shop": ["y", "y"], "month": pd.to_datetime(["2020-02-01", "2020-01-01"]), "price": [7.5, 7]}
    )
    out = S.forecast(table(), 3, samples=40, given=given, **KEYS)
    told = out[out["shop"] == "y"].pivot(index="path", columns="step", values="price")
    assert (told[1] == 7).all() and (told[2] == 7.5).all() and told[3].std() > 0
    free = S.forecast(table(), 3, samples=40, **KEYS)
    other = [frame[frame["shop"] == "x"].reset_index(drop=True) for frame in (out, free)]
    assert other[0].equals(other[1]), "the other series has nothing given"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"month": ["2020-01-01"], "price": [1.0]}, "no column 'shop'"),
        ({"shop": ["x"], "month": ["2031-01-01"], "price": [1.0]}, "none of the next"),
        ({"shop": ["x"], "prise": [1.0]}, "did you mean 'price'"),
        ({"shop": ["x"]}, "name no column that is forecast"),
        ({"shop": ["x"], "price": [-1.0]}, "0 or below|^$"),
    ],
)
def test_given_futures_that_make_no_sense(given, message):
    if message.startswith("0 or below"):
        growing = table()
        growing["price"] = np.exp(np.arange(120) % 60 / 3 + np.random.default_rng(0).normal(size=120) / 9)
        with pytest.raises(GenerationError, match="0 or below"):
            S.forecast(growing, 2, samples=2, given=pd.DataFrame(given), **KEYS)
        return
    with pytest.raises(GenerationError, match=message):
        S.forecast(table(), 2, samples=2, given=pd.DataFrame(given), **KEYS)


def test_gaps_too_few_rows_and_senseless_requests():
    gappy = table().drop(index=[20])
    with pytest.raises(
        GenerationError, match="series x: 1 rows are missing between 2016-08-01 and 2016-10-01"
    ):
        S.forecast(gappy, 1, **KEYS)
    for gaps in ("missing", "ignore"):
        assert len(S.forecast(gappy, 1, samples=2, gaps=gaps, **KEYS)) == 4
    with pytest.raises(GenerationError, match="3 rows are too few"):
        S.forecast(table(3), 1, **KEYS)
    with pytest.raises(GenerationError, match="at least 1"):
        S.forecast(table(), 0, **KEYS)
    with pytest.raises(GenerationError, match="in one column"):
        S.forecast(table(), 1, order_by=["month", "sales"])
