"""The verbs for series in time, from files to files."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.cli import main
from nemo_tabular.models.series import SavedForecaster


@pytest.fixture
def history(tmp_path):
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(80, 2)), 0).round(2)
    frame = pd.DataFrame({"day": pd.date_range("2021-03-01", periods=80), "infl": y[:, 0], "rate": y[:, 1]})
    frame.to_csv(tmp_path / "history.csv", index=False)
    return tmp_path / "history.csv"


def run(*arguments) -> int:
    return main([str(a) for a in arguments])


def test_forecast_from_a_csv_to_paths_quantiles_events_and_a_picture(history, tmp_path, capsys):
    out, quantiles, plot = (tmp_path / name for name in ("paths.parquet", "q.csv", "fan.png"))
    asked = [
        "--fine-tune",
        "auto",
        "--event",
        "infl > 0",
        "--risk",
        "rate",
        "--quantiles",
        quantiles,
        "--plot",
        plot,
    ]
    options = ["--order-by", "day", "--horizon", 3, "--samples", 20, "--seed", 1]
    assert run("forecast", "--history", history, *options, "-o", out, *asked) == 0
    paths = pd.read_parquet(out)
    assert list(paths.columns) == ["series", "path", "step", "day", "infl", "rate"] and len(paths) == 60
    assert len(pd.read_csv(quantiles)) == 6 and plot.exists()
    printed = capsys.readouterr().out
    assert "not fine-tuned" in printed, "80 rows are too few"
    assert "probability of infl > 0" in printed and "losses of rate" in printed


def test_forecast_with_a_given_future_and_with_a_gap(history, tmp_path, capsys):
    given = tmp_path / "given.csv"
    given.write_text("day,infl\n2021-05-20,9.5\n2021-05-21,9.25\n")
    out = tmp_path / "paths.csv"
    options = ["--order-by", "day", "--horizon", 2, "--samples", 5]
    assert run("forecast", "--history", history, *options, "--given-future", given, "-o", out) == 0
    assert pd.read_csv(out).groupby("step").infl.unique().map(list).tolist() == [[9.5], [9.25]]
    gappy = tmp_path / "gappy.csv"
    pd.read_csv(history).drop(index=[40, 41]).to_csv(gappy, index=False)
    assert run("forecast", "--history", gappy, *options) == 2
    assert "2 rows are missing between 2021-04-09 and 2021-04-12" in capsys.readouterr().err
    assert run("forecast", "--history", gappy, *options, "--gaps", "missing") == 0


def test_backtest_prints_one_table_and_draws_one_picture(history, tmp_path, capsys):
    scores, plot = tmp_path / "scores.csv", tmp_path / "backtest.png"
    options = ["--order-by", "day", "--horizon", 2, "--origins", 3, "--samples", 20, "--baseline", "VAR"]
    assert run("backtest", history, *options, "--given", "infl", "-o", scores, "--plot", plot) == 0
    table = pd.read_csv(scores)
    assert set(table.model) == {"seasonal naive", "nemo-tabular", "VAR"} and set(table.column) == {"rate"}
    assert plot.exists() and "season 7" in capsys.readouterr().out
    assert run("backtest", history, *options, "--given", "rates") == 2
    assert run("backtest", history, "--order-by", "day", "--origins", 90) == 2


def test_a_forecaster_can_be_made_again(tmp_path, capsys):
    out = tmp_path / "forecaster"
    assert run("pretrain-forecaster", "--documents", 20, "--steps", 2, "--batch", 8, "-o", out) == 0
    assert SavedForecaster.load(out).info["recipe"]["steps"] == 2
