"""Backtests: origins, the yardstick's figures on public data, and the guard against seeing the future."""

from collections.abc import Mapping

import numpy as np
import pytest

from nemo_tabular.errors import ConfigError, GenerationError
from nemo_tabular.evaluate.backtest import Plan, backtest, poisoned
from nemo_tabular.evaluate.baselines import GaussianVAR, SeasonalNaive, StatsForecast


def walk(rows: int = 80, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(rows, 2)), 0)


class Peeking:
    """Forecasts what it found in the table when it was made."""

    joint = True

    def __init__(self, whole: np.ndarray) -> None:
        self.whole = whole

    def fit(self, history: np.ndarray) -> None: ...

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        return self.whole[None, len(history) : len(history) + horizon].repeat(5, 0)


class Recording:
    """Remembers what it was shown."""

    joint = True

    def __init__(self) -> None:
        self.shown: list[tuple[str, np.ndarray]] = []

    def fit(self, history: np.ndarray) -> None:
        self.shown.append(("fit", history))

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        self.shown.append(("forecast", history))
        self.given = given
        return np.zeros((3, horizon, history.shape[1]))


def test_origins_roll_and_the_last_forecast_ends_with_the_series():
    assert Plan(horizon=4, origins=3, step=2).rows(100) == [92, 94, 96]
    with pytest.raises(ConfigError, match="take fewer origins"):
        Plan(horizon=4, origins=20).rows(20)


@pytest.mark.parametrize(("refit", "fits"), [(True, 4), (False, 1)])
def test_models_see_the_rows_before_the_origin_only(refit, fits):
    values, model = walk(), Recording()
    backtest([values], ["a", "b"], {"m": lambda: model}, Plan(3, 4, refit=refit), guard=False)
    assert [kind for kind, _ in model.shown].count("fit") == fits
    seen = [rows for kind, rows in model.shown if kind == "forecast"]
    assert [len(rows) for rows in seen] == [74, 75, 76, 77]
    assert all(np.array_equal(rows, values[: len(rows)]) for rows in seen)
    assert all(rows.base is None for rows in seen), "a view would lead to the rows after it"


def test_a_model_that_has_seen_the_future_is_found_out():
    values = walk()
    tables = iter([values, poisoned(values, Plan(3, 4).rows(80)[0])])
    with pytest.raises(GenerationError, match="seen the future"):
        backtest([values], ["a", "b"], {"peeking": lambda: Peeking(next(tables))}, Plan(3, 4))


def test_forecasts_are_the_same_whatever_comes_after_the_origin():
    values, plan = walk(), Plan(3, 1)
    nonsense = poisoned(values, 77)
    assert np.array_equal(nonsense[:77], values[:77])
    assert (np.abs(nonsense[77:]) > 100 * np.abs(values).max()).all()
    one, two = (backtest([t], ["a", "b"], {"var": lambda: GaussianVAR(50)}, plan) for t in (values, nonsense))
    assert np.array_equal(one.samples["var"][0], two.samples["var"][0])


def test_poison_spares_the_path_that_is_given():
    values = walk()
    nonsense = poisoned(values, 70, given=[1], horizon=5)
    assert np.array_equal(nonsense[70:75, 1], values[70:75, 1])
    assert nonsense[75, 1] != values[75, 1] and nonsense[70, 0] != values[70, 0]


def test_given_columns_are_told_and_not_scored():
    values, model = walk(), Recording()
    result = backtest([values], ["a", "b"], {"m": lambda: model}, Plan(3, 1, given=(0,)), guard=False)
    assert np.array_equal(model.given[0], values[-3:, 0])
    assert set(result.scores().column) == {"b"}


def test_several_series_and_missing_values():
    one, two = walk(60), walk(50, 1)
    one[-2, 0] = np.nan
    result = backtest([one, two], ["a", "b"], {"var": lambda: GaussianVAR(50)}, Plan(2, 3))
    scores = result.scores().set_index(["model", "column"])
    assert result.truth.shape == (6, 2, 2)
    assert scores.loc[("var", "a"), "n"] == 10 and scores.loc[("var", "b"), "n"] == 12
    assert np.isfinite(scores[["crps", "wql", "mase", "cov80"]].to_numpy()).all()


def test_the_yardstick_is_one_and_a_random_walk_is_calibrated():
    result = backtest([walk(400)], ["a", "b"], {"var": lambda: GaussianVAR(200)}, Plan(2, 100))
    summary = result.summary()
    assert summary.loc[SeasonalNaive.name, ["rel_crps", "rel_wql", "rel_mase"]].tolist() == [1, 1, 1]
    assert 0.7 < summary.loc["var", "cov80"] < 0.9
    assert np.isnan(summary.loc[SeasonalNaive.name, "variogram"]) and summary.loc["var", "variogram"] > 0
    assert result.pit("var", "a").sum() == pytest.approx(1)


def macro() -> np.ndarray:
    data = pytest.importorskip("statsmodels.api").datasets.macrodata.load_pandas().data
    gdp = 400 * np.log(data.realgdp).diff()
    return np.column_stack([data.infl, gdp, data.unemp, data.tbilrate])[1:]


MACRO = Plan(horizon=4, origins=20, season=4)


def test_seasonal_naive_on_us_macro_as_published():
    """The figures that statsforecast's SeasonalNaive gave under this protocol."""
    scores = backtest([macro()], ["infl", "gdp", "unemp", "tbill"], {}, MACRO).scores()
    assert scores.wql.tolist() == pytest.approx([0.80097, 0.73917, 0.12032, 0.41107], abs=1e-4)
    assert scores.mase.tolist() == pytest.approx([1.90379, 0.67202, 1.08455, 1.24854], abs=1e-4)
    assert scores.cov80.tolist() == pytest.approx([0.6625, 0.9, 0.825, 0.8])


def test_autoets_on_us_macro_as_published():
    pytest.importorskip("statsforecast")
    models = {"AutoETS": lambda: StatsForecast("AutoETS", 4)}
    summary = backtest([macro()], ["infl", "gdp", "unemp", "tbill"], models, MACRO, guard=False).summary()
    assert summary.loc["AutoETS", "rel_wql"] == pytest.approx(0.825, abs=0.001)
    assert summary.loc["AutoETS", "rel_mase"] == pytest.approx(0.778, abs=0.001)


def test_gaussian_var_learns_from_a_given_path():
    columns = ["infl", "gdp", "unemp", "tbill"]
    crps = {}
    for given in ((), (1,)):
        plan = Plan(4, 20, season=4, given=given)
        scores = backtest([macro()], columns, {"VAR": lambda: GaussianVAR(1000)}, plan).scores()
        crps[given] = scores[scores.model == "VAR"].set_index("column").crps
    assert 1 - crps[(1,)]["unemp"] / crps[()]["unemp"] == pytest.approx(0.32, abs=0.03)
