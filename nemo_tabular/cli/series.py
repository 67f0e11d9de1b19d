"""The command line's verbs for series in time: `forecast`, `backtest`, `pretrain-forecaster`. Each parses,
calls the package, and prints.
"""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import ConfigError, GenerationError
from .common import Verbs, add_table_options, add_verb, show_progress

PLOTTED = 1  # fans of so many series are drawn: the first


def _add_history_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--order-by", action="append", default=[], metavar="COLUMN", help="the rows' times")
    verb.add_argument("--group-by", action="append", default=[], metavar="COLUMN", help="a series a value")
    verb.add_argument(
        "--column", action="append", default=[], help="forecast this column; repeat it (default: all numbers)"
    )
    verb.add_argument(
        "--gaps",
        default="error",
        choices=["error", "missing", "ignore"],
        help="rows that are not there: an error (default), missing rows, or none: rows are consecutive",
    )
    verb.add_argument("--samples", type=int, default=500, metavar="N", help="paths of each series (500)")
    verb.add_argument(
        "--fine-tune",
        default="never",
        choices=["auto", "never", "always"],
        help="fit the shipped network further to the history; auto: if forecasts of its own last rows get "
        "better beyond chance (default: never)",
    )
    verb.add_argument("--seed", type=int, default=0, help="the same seed gives the same paths (default: 0)")


def _read_history(arguments: argparse.Namespace, table: str) -> Any:
    from ..generate.history import read_history
    from ..synthesizer import Synthesizer

    schema = Synthesizer.load(arguments.run).schema if getattr(arguments, "run", None) else None
    if schema is not None and (arguments.order_by or arguments.group_by):
        raise ConfigError("--order-by and --group-by stand in the schema of the run: leave them out")
    return read_history(
        table,
        schema=schema,
        group_by=tuple(arguments.group_by),
        order_by=tuple(arguments.order_by),
        columns=tuple(arguments.column),
        gaps=arguments.gaps,
        max_bad_rows=arguments.max_bad_rows,
        quarantine=arguments.quarantine,
        encoding=arguments.encoding,
        delimiter=arguments.delimiter,
    )


# ---- forecast ----


def add_forecast(verbs: Verbs) -> None:
    verb = add_verb(verbs, "forecast", "sample futures of the numeric columns of a history", forecast)
    verb.add_argument(
        "run", nargs="?", metavar="RUN", help="a run whose schema says keys and times (default: inferred)"
    )
    add_table_options(verb, "--history")
    _add_history_options(verb)
    verb.add_argument("--horizon", type=int, default=12, metavar="H", help="rows to forecast (12)")
    verb.add_argument(
        "--given-future",
        metavar="FILE",
        help="known futures of some columns, with times (and keys): the others follow from them, up to each "
        "step and not beyond",
    )
    verb.add_argument(
        "--event", action="append", default=[], metavar="TEXT", help='its probability, e.g. "infl > 4"'
    )
    verb.add_argument(
        "--risk", action="append", default=[], metavar="COLUMN", help="VaR and ES of its sum to each step"
    )
    verb.add_argument("-o", "--out", metavar="FILE", help="CSV (.gz) or Parquet of all paths")
    verb.add_argument("--quantiles", metavar="FILE", help="CSV or Parquet of quantiles by step")
    verb.add_argument("--plot", metavar="FILE", help="PNG to draw: a fan chart of every column")


def forecast(arguments: argparse.Namespace) -> None:
    import pandas as pd
    import pyarrow as pa

    from ..generate.forecast import Forecaster, ForecastRequest
    from ..readers import write_table

    history = _read_history(arguments, arguments.table)
    given = None if arguments.given_future is None else _frame(arguments.given_future)
    request = ForecastRequest(arguments.horizon, arguments.samples, arguments.seed, given)
    forecaster = Forecaster()
    if arguments.fine_tune != "never":
        how, seed, horizon = arguments.fine_tune, arguments.seed, arguments.horizon
        forecaster, found = forecaster.fine_tuned(history, how, seed, horizon)
        print(found)
    tables = forecaster.tables(history, request)
    summaries: dict[str, list[pd.DataFrame]] = {}
    rows = 0
    if arguments.out is None:
        for number, paths in enumerate(tables):
            _summarise(arguments, history, number, paths, summaries)
    else:
        with write_table(arguments.out) as out:
            for number, paths in enumerate(tables):
                _summarise(arguments, history, number, paths, summaries)
                out.write(pa.Table.from_pandas(paths, preserve_index=False))
                rows += len(paths)
        print(f"{arguments.out}: {rows:,} rows")
    for title, pieces in summaries.items():
        table = pd.concat(pieces, ignore_index=True)
        if title == "quantiles" and arguments.quantiles:
            with write_table(arguments.quantiles) as out:
                out.write(pa.Table.from_pandas(table, preserve_index=False))
            print(f"{arguments.quantiles}: {len(table):,} rows")
        else:
            print(f"\n{title}\n{table.to_string(index=False, float_format='{:.4g}'.format)}")


def _summarise(
    arguments: argparse.Namespace, history: Any, number: int, paths: Any, summaries: dict[str, list[Any]]
) -> None:
    """What is asked of one series' paths; without any question the quantiles of its last step."""
    from ..evaluate.outlook import event_probability, quantile_table, risk

    quantiles = quantile_table(paths, history.columns)
    if arguments.quantiles:
        summaries.setdefault("quantiles", []).append(quantiles)
    else:
        last = quantiles[quantiles.step == arguments.horizon]
        summaries.setdefault(f"step {arguments.horizon}", []).append(last)
    for event in arguments.event:
        found = event_probability(paths, event)
        summaries.setdefault(f"probability of {event}, at and by each step", []).append(found)
    for column in arguments.risk:
        found = risk(paths, column)
        summaries.setdefault(f"losses of {column}, summed to each step", []).append(found)
    if arguments.plot and number < PLOTTED:
        _plot(arguments, history, number, paths)


def _plot(arguments: argparse.Namespace, history: Any, number: int, paths: Any) -> None:
    from ..evaluate.fan import draw_fans

    given = () if arguments.given_future is None else tuple(_frame(arguments.given_future).columns)

    series = history.series[number]
    samples = int(paths["path"].max()) + 1
    values = paths[list(history.columns)].to_numpy().reshape(samples, -1, len(history.columns))
    times = {}
    if series.clock is not None:
        times["past_times"] = series.times
        times["future_times"] = series.clock.after(series.last, values.shape[1])
    name = ", ".join(map(str, series.key))
    draw_fans(arguments.plot, history.columns, series.values_TC, values, given=given, title=name, **times)
    whose = f" of the first of {len(history.series)} series" if name else ""
    print(f"{arguments.plot}: fan charts{whose}")


def _frame(path: str) -> Any:
    import pyarrow as pa

    from ..readers import open_table
    from ..schema import infer_schema

    reader = open_table(path)
    return pa.Table.from_batches(list(reader.batches(infer_schema(reader)))).to_pandas()


# ---- backtest ----


def add_backtest(verbs: Verbs) -> None:
    verb = add_verb(verbs, "backtest", "forecast a table's own past, and score it", run_backtest)
    add_table_options(verb)
    _add_history_options(verb)
    verb.add_argument("--horizon", type=int, default=4, metavar="H", help="rows to forecast (4)")
    verb.add_argument("--origins", type=int, default=20, metavar="N", help="forecasts of each series (20)")
    verb.add_argument("--step", type=int, default=1, metavar="ROWS", help="from origin to origin (1)")
    verb.add_argument("--season", type=int, metavar="ROWS", help="rows of a season (default: by the times)")
    verb.add_argument("--no-refit", action="store_true", help="learn at the first origin only")
    verb.add_argument(
        "--given", action="append", default=[], metavar="COLUMN", help="tell the models its realised path"
    )
    verb.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="NAME",
        help="VAR, or a model of statsforecast: AutoARIMA, AutoETS, AutoTheta; repeat it",
    )
    verb.add_argument("-o", "--out", metavar="FILE", help="CSV or Parquet of the scores by model and column")
    verb.add_argument("--plot", metavar="FILE", help="PNG to draw: relative scores and PIT histograms")


def run_backtest(arguments: argparse.Namespace) -> None:
    import pyarrow as pa

    from ..evaluate.backtest import Plan, backtest
    from ..evaluate.backtest_plot import draw_backtest
    from ..evaluate.baselines import GaussianVAR, StatsForecast
    from ..generate.forecast import Forecaster, SeriesModel, season_of
    from ..readers import write_table

    history = _read_history(arguments, arguments.table)
    season = arguments.season or season_of(history.series[0].clock) or 1
    for name in arguments.given:
        if name not in history.columns:
            raise GenerationError(f"--given {name}: forecast are {', '.join(history.columns)}")
    forecaster = Forecaster()
    models: dict[str, Any] = {
        "nemo-tabular": lambda: SeriesModel(
            forecaster,
            season=season,
            samples=arguments.samples,
            seed=arguments.seed,
            fine_tune=arguments.fine_tune,
            horizon=arguments.horizon,
        )
    }
    for name in arguments.baseline:
        if name == "VAR":
            models[name] = lambda: GaussianVAR(arguments.samples, arguments.seed)
        else:
            models[name] = lambda name=name: StatsForecast(name, season)
    plan = Plan(
        arguments.horizon,
        arguments.origins,
        arguments.step,
        season,
        not arguments.no_refit,
        tuple(history.columns.index(name) for name in arguments.given),
    )
    result = backtest([s.values_TC for s in history.series], history.columns, models, plan)
    scores = result.scores()
    if arguments.out:
        with write_table(arguments.out) as out:
            out.write(pa.Table.from_pandas(scores, preserve_index=False))
    print(scores.round(4).to_string(index=False))
    print(f"\nrelative to the seasonal naive (season {season}), geometric means over the columns")
    print(result.summary().round(4).to_string())
    if arguments.plot:
        draw_backtest(result, arguments.plot)


# ---- pretrain-forecaster ----


def add_pretrain(verbs: Verbs) -> None:
    verb = add_verb(
        verbs, "pretrain-forecaster", "train the forecaster that ships with the package again", run_pretrain
    )
    verb.add_argument("--documents", type=int, default=12_000, metavar="N", help="simulated ones (12,000)")
    verb.add_argument("--steps", type=int, default=1500, metavar="N", help="of training (1,500)")
    verb.add_argument("--batch", type=int, default=64, metavar="N", help="series a step (64)")
    verb.add_argument("--lr", type=float, default=2e-3, help="highest learning rate (0.002)")
    verb.add_argument("--seed", type=int, default=0, help="of the series and of the weights (default: 0)")
    verb.add_argument("-o", "--out", required=True, metavar="FOLDER", help="where the forecaster goes")


def run_pretrain(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    import torch

    from ..train.pretrain import pretrain

    show_progress()
    torch.set_num_threads(1)  # sums of more threads differ in their last bits
    model = pretrain(
        documents=arguments.documents,
        steps=arguments.steps,
        batch=arguments.batch,
        lr=arguments.lr,
        seed=arguments.seed,
    )
    model.save(Path(arguments.out))
    print(f"{arguments.out}: {model.info['nats']} nats a value, {model.info['cpu_seconds']} CPU seconds")
