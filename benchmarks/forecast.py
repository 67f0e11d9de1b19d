"""Forecasts of US macro, daily markets, exchange rates and transformer temperatures, beside the classical
methods.

    python benchmarks/forecast.py [--data macro daily ...] [--forecasters FOLDER ...] [--no-baselines]

Every model is shown the rows before each origin only, and is refitted there; every forecaster named is the
same recipe pre-trained from another seed (`nemo-tabular pretrain-forecaster --seed N`), so that their spread
tells luck from merit. CRPS is exact for the samples; "9 quantiles" is the mean loss at .1 ... .9, which many
papers call CRPS. Both are geometric means over the columns, relative to the seasonal naive.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from results import write_result

from nemo_tabular.evaluate.backtest import Backtest, ForecastModel, Plan, backtest
from nemo_tabular.evaluate.baselines import GaussianVAR, StatsForecast
from nemo_tabular.generate.forecast import Forecaster, SeriesModel
from nemo_tabular.models.series import SavedForecaster

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
OURS = "nemo-tabular"


@dataclass(frozen=True)
class Case:
    """One data set and how it is forecast."""

    title: str
    table: pd.DataFrame
    plan: Plan
    season: int
    """Of AutoARIMA and AutoETS."""
    log: tuple[str, ...] = ()
    """Positive columns, which the VAR reads as logarithms."""
    told: str | None = None
    """The column whose path is given in the scenario, and the one it is to help."""
    helped: str | None = None

    @property
    def values(self) -> np.ndarray:
        return self.table.to_numpy(float)


def macro() -> Case:
    import statsmodels.api as sm

    data = sm.datasets.macrodata.load_pandas().data
    gdp = 400 * np.log(data.realgdp).diff()
    table = pd.DataFrame({"infl": data.infl, "gdp": gdp, "unemp": data.unemp, "tbill": data.tbilrate})[1:]
    plan = Plan(horizon=4, origins=20, season=4)
    return Case("US macro, quarterly, 20 origins, 4 quarters", table, plan, 4, (), "gdp", "unemp")


def daily() -> Case:
    import arch.data.sp500
    import arch.data.vix

    stock = arch.data.sp500.load()
    table = pd.DataFrame(
        {
            "ret": 100 * np.log(stock["Adj Close"]).diff(),
            "pk": 100 * np.sqrt(252 * np.log(stock.High / stock.Low) ** 2 / (4 * np.log(2))),
        }
    )
    table = table.join(arch.data.vix.load()["vix"], how="inner").dropna()[["ret", "vix", "pk"]]
    plan = Plan(horizon=5, origins=60, season=5)
    title = "S&P 500 return, VIX, Parkinson volatility, daily, 60 origins, 5 days"
    return Case(title, table, plan, 1, ("vix", "pk"), "ret", "vix")


def exchange() -> Case:
    table = pd.read_csv(SHARED / "exchange_rate" / "exchange_rate.csv.gz")
    numbers = table.select_dtypes("number")[-1500:]
    plan = Plan(horizon=30, origins=5, step=30, season=5)
    title = "exchange_rate, daily, 5 origins, 30 days; the last 1,500 rows"
    return Case(title, numbers, plan, 1, tuple(numbers.columns))


def etth1() -> Case:
    table = pd.read_csv(SHARED / "etth1" / "ETTh1.csv.gz").select_dtypes("number")[-1500:]
    plan = Plan(horizon=24, origins=7, step=24, season=24)
    return Case("ETTh1, hourly, 7 origins, 24 hours; the last 1,500 rows", table, plan, 24)


CASES: dict[str, Callable[[], Case]] = {
    "macro": macro, "daily": daily, "exchange": exchange, "etth1": etth1,
}  # fmt: skip


def run(case: Case, models: dict[str, Callable[[], ForecastModel]], given: str | None = None) -> Backtest:
    columns = list(case.table.columns)
    plan = case.plan if given is None else replace(case.plan, given=(columns.index(given),))
    return backtest([case.values], columns, models, plan)


def our_models(
    case: Case, forecasters: list[Forecaster], samples: int
) -> dict[str, Callable[[], ForecastModel]]:
    """One a forecaster, numbered from 1."""
    return {
        f"{OURS}, seed {number}": lambda forecaster=forecaster: SeriesModel(
            forecaster, season=case.plan.season, samples=samples, seed=1
        )
        for number, forecaster in enumerate(forecasters, 1)
    }


def table_of(result: Backtest) -> list[str]:
    """A line a model; ours as mean and standard deviation over the seeds."""
    summary = result.summary()
    ours = summary[summary.index.str.startswith(OURS)]
    lines = ["| model | CRPS | 9 quantiles | MASE | 80 % coverage |", "|---|---|---|---|---|"]
    names = ["rel_crps", "rel_wql", "rel_mase", "cov80"]
    cells = [_with_spread(ours[name]) for name in names]
    lines.append(f"| **{OURS}**, {len(ours)} seeds | " + " | ".join(cells) + " |")
    for model, line in summary.drop(ours.index).iterrows():
        lines.append(f"| {model} | " + " | ".join(f"{line[name]:.3f}" for name in names) + " |")
    return lines


def _with_spread(values: pd.Series) -> str:
    spread = f" (sd {values.std():.3f})" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def scenario(case: Case, forecasters: list[Forecaster], samples: int, free: Backtest) -> list[str]:
    """By how much a given path lowers the CRPS of another column."""
    assert case.told is not None and case.helped is not None
    models = our_models(case, forecasters, samples) | {"VAR": _var(case)}
    told = run(case, models, case.told)
    gains = {}
    for model in models:
        before, after = (_crps(result, model, case.helped) for result in (free, told))
        gains[model] = 1 - after / before
    ours = pd.Series([gain for model, gain in gains.items() if model.startswith(OURS)])
    return [
        "",
        f"{case.helped} given the realised path of {case.told} up to each step: CRPS lower by "
        f"**{_with_spread(ours)}**; Gaussian VAR {gains['VAR']:.3f}.",
    ]


def _crps(result: Backtest, model: str, column: str) -> float:
    scores = result.scores().set_index(["model", "column"])
    return float(scores.loc[(model, column), "crps"])


def _var(case: Case) -> Callable[[], ForecastModel]:
    columns = list(case.table.columns)
    return lambda: GaussianVAR(1000, log=tuple(columns.index(name) for name in case.log))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--forecasters", nargs="*", type=Path, default=[], help="beside the shipped one")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--no-baselines", action="store_true", help="leave AutoARIMA and AutoETS out")
    arguments = parser.parse_args()
    saved = [SavedForecaster.shipped(), *(SavedForecaster.load(folder) for folder in arguments.forecasters)]
    forecasters = [Forecaster(model) for model in saved]
    seeds = ", ".join(str(model.info["recipe"]["seed"]) for model in saved)
    body = [f"Relative to the seasonal naive (1.000). Pre-training seeds {seeds}; {arguments.samples} paths."]
    for name in arguments.data:
        began, case = time.process_time(), CASES[name]()
        models = our_models(case, forecasters, arguments.samples) | {"VAR": _var(case)}
        if not arguments.no_baselines:
            for kind in ("AutoETS", "AutoARIMA") if case.season < 24 else ("AutoETS",):
                models[kind] = lambda kind=kind, season=case.season: StatsForecast(kind, season)
        result = run(case, models)
        body += ["", f"## {case.title}", "", *table_of(result)]
        if case.told:
            body += scenario(case, forecasters, arguments.samples, result)
        print("\n".join(body[-12:]), f"\n{time.process_time() - began:.0f} CPU seconds", flush=True)
        whole = set(arguments.data) == set(CASES) and not arguments.no_baselines
        write_result("forecast" if whole else "forecast_part", "Forecasts", "\n".join(body))


if __name__ == "__main__":
    main()
