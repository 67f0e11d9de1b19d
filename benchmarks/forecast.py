"""Forecasts of US macro, daily markets, exchange rates and transformer temperatures, beside the classical
methods.

    python benchmarks/forecast.py --parts FOLDER [--data macro ...] [--models AutoETS ...] [--forecasters ...]

Every model is shown the rows before each origin only, and is refitted there; every forecaster named is the
same recipe pre-trained from another seed (`nemo-tabular pretrain-forecaster --seed N`), so that their spread
tells luck from merit. CRPS is exact for the samples; "9 quantiles" is the mean loss at .1 ... .9, which many
papers call CRPS. Both are geometric means over the columns, relative to the seasonal naive.

What a model scored on a data set is kept as one file of FOLDER and not computed again, so that a run can be
stopped, and done piece by piece. With `--origins development` every table ends where the benchmark's first
origin stands: settings are chosen there, and never on the benchmark's own origins.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from results import write_result

from nemo_tabular.evaluate.backtest import Backtest, ForecastModel, Plan, backtest
from nemo_tabular.evaluate.baselines import GaussianVAR, SeasonalNaive, StatsForecast
from nemo_tabular.generate.forecast import Forecaster, SeriesModel
from nemo_tabular.generate.tune import Tune
from nemo_tabular.models.series import SavedForecaster

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
OURS: dict[str, Tune] = {"nemo-tabular": "never", "nemo-tabular, fine-tuning auto": "auto"}
BASELINES = ("VAR", "AutoETS", "AutoARIMA")
NOTE = """Our seeds are those of the pre-training: the first is the shipped forecaster, the others are of
the same recipe. Fine-tuning auto decides by the history's own last rows, anew at every 10th origin (macro),
every 20th (daily), or each. Settings (the simulated series, what the network is told, how codecs are chosen,
that fine-tuning is not the default) were last chosen on simulated series and on the macro origins before the
benchmark's; the size of the network, its training and the margins of the choice are older, from when the
benchmark's own origins had been looked at.

DeepAR is quoted, not run by this script: GluonTS's with 2 layers of 32, the same origins, relative loss of 9
quantiles and coverage: .707 and .55 on macro, .835 and .57 on daily data."""
NAMES = ("rel_crps", "rel_wql", "rel_mase", "cov80")


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
    tune_every: int = 1
    """Origins from one fine-tuning to the next."""

    @property
    def values(self) -> np.ndarray:
        return self.table.to_numpy(float)


def macro() -> Case:
    import statsmodels.api as sm

    data = sm.datasets.macrodata.load_pandas().data
    gdp = 400 * np.log(data.realgdp).diff()
    table = pd.DataFrame({"infl": data.infl, "gdp": gdp, "unemp": data.unemp, "tbill": data.tbilrate})[1:]
    plan = Plan(horizon=4, origins=20, season=4)
    title = "US macro, quarterly, 20 origins, 4 quarters"
    return Case(title, table, plan, 4, (), "gdp", "unemp", tune_every=10)


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
    return Case(title, table, plan, 1, ("vix", "pk"), "ret", "vix", tune_every=20)


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


def development(case: Case) -> Case:
    """The same number of forecasts, all of which end before the benchmark's first origin."""
    return replace(case, table=case.table[: case.plan.rows(len(case.table))[0]])


def models(case: Case, forecasters: list[Forecaster], samples: int) -> dict[str, Callable[[], ForecastModel]]:
    """All that can be run; ours once a forecaster, numbered from 1."""
    columns = list(case.table.columns)
    out: dict[str, Callable[[], ForecastModel]] = {}
    for name, how in OURS.items():
        for number, forecaster in enumerate(forecasters, 1):
            out[f"{name}, seed {number}"] = partial(
                SeriesModel,
                forecaster,
                season=case.plan.season,
                samples=samples,
                seed=1,
                fine_tune=how,
                tune_every=case.tune_every,
                horizon=case.plan.horizon,
            )
    out["VAR"] = partial(GaussianVAR, 1000, log=tuple(columns.index(name) for name in case.log))
    for name in ("AutoETS", "AutoARIMA"):
        out[name] = partial(StatsForecast, name, case.season)
    return out


def part(case: Case, name: str, make: Callable[[], ForecastModel]) -> dict[str, object]:
    """What one model scores, beside the seasonal naive, and what the scenario gains."""
    columns = list(case.table.columns)
    began = time.process_time()
    free = backtest([case.values], columns, {name: make}, case.plan)
    out: dict[str, object] = {
        "cpu_seconds": round(time.process_time() - began),
        "models": {model: dict(line) for model, line in free.summary().iterrows()},
        "crps": {column: _crps(free, name, column) for column in columns},
    }
    if case.told and case.helped and (name == "VAR" or name.startswith("nemo-tabular, seed")):
        told = replace(case.plan, given=(columns.index(case.told),))
        helped = backtest([case.values], columns, {name: make}, told)
        out["gain"] = 1 - _crps(helped, name, case.helped) / _crps(free, name, case.helped)
    return out


def _crps(result: Backtest, model: str, column: str) -> float:
    scores = result.scores().set_index(["model", "column"])
    return float(scores.loc[(model, column), "crps"])


def section(case: Case, parts: dict[str, dict]) -> list[str]:
    """A line a model; ours as mean and standard deviation over the seeds."""
    lines = ["| model | CRPS | 9 quantiles | MASE | 80 % coverage | CPU s |", "|---|---|---|---|---|---|"]
    groups = {kind: [n for n in parts if n.rsplit(", seed", 1)[0] == kind] for kind in (*OURS, *BASELINES)}
    for kind, members in groups.items():
        if members:
            scores = pd.DataFrame([parts[n]["models"][n] for n in members])
            cells = [_with_spread(scores[name]) for name in NAMES]
            seconds = np.mean([parts[n]["cpu_seconds"] for n in members])
            title = f"**{kind}**, {len(members)} seeds" if kind in OURS else kind
            lines.append(f"| {title} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    naive = next(iter(parts.values()))["models"][SeasonalNaive.name]
    lines.append("| seasonal naive | " + " | ".join(f"{naive[name]:.3f}" for name in NAMES) + " | |")
    gains = [
        f"{kind} {_with_spread(pd.Series([parts[n]['gain'] for n in members]))}"
        for kind, members in groups.items()
        if members and "gain" in parts[members[0]]
    ]
    if gains:
        told = f"{case.helped} given the realised path of {case.told} up to each step: CRPS lower by "
        lines += ["", told + "; ".join(gains) + "."]
    return ["", f"## {case.title}", "", *lines]


def _with_spread(values: pd.Series) -> str:
    spread = f" (sd {values.std():.3f})" if len(values) > 1 else ""
    return f"{values.mean():.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument(
        "--models", nargs="+", default=[*OURS, *BASELINES], help="or one seed: 'VAR' 'X, seed 2'"
    )
    parser.add_argument("--forecasters", nargs="*", type=Path, default=[], help="beside the shipped one")
    parser.add_argument("--origins", choices=["benchmark", "development"], default="benchmark")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--parts", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    saved = [SavedForecaster.shipped(), *(SavedForecaster.load(folder) for folder in arguments.forecasters)]
    forecasters = [Forecaster(model) for model in saved]
    arguments.parts.mkdir(parents=True, exist_ok=True)
    for data in arguments.data:
        case = CASES[data]() if arguments.origins == "benchmark" else development(CASES[data]())
        for name, make in models(case, forecasters, arguments.samples).items():
            file = arguments.parts / f"{arguments.origins} {data} {name}.json"
            if not file.exists() and {name, name.rsplit(", seed", 1)[0]} & set(arguments.models):
                file.write_text(json.dumps(part(case, name, make), indent=1))
                print(file.name, file.read_text(), flush=True)
    _write(arguments.parts, arguments.samples)


def _write(folder: Path, samples: int) -> None:
    """The result file, from all parts there are."""
    body = [f"Relative to the seasonal naive (1.000); {samples} paths. {NOTE}"]
    for data, make in CASES.items():
        for origins in ("benchmark", "development"):
            found = sorted(folder.glob(f"{origins} {data} *.json"))
            parts = {f.stem.split(" ", 2)[2]: json.loads(f.read_text()) for f in found}
            if parts:
                case = make()
                if origins == "development":
                    case = replace(
                        case, title=f"{case.title}: the origins before, on which settings were chosen"
                    )
                body += section(case, parts)
    write_result("forecast", "Forecasts", "\n".join(body))


if __name__ == "__main__":
    main()
