"""What is asked of sampled futures: quantiles, events, losses, pictures."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import ConfigError, GenerationError
from nemo_tabular.evaluate.backtest import Plan, backtest
from nemo_tabular.evaluate.backtest_plot import draw_backtest
from nemo_tabular.evaluate.baselines import GaussianVAR
from nemo_tabular.evaluate.fan import draw_fans
from nemo_tabular.evaluate.outlook import event_probability, quantile_table, risk


def paths() -> pd.DataFrame:
    """Two series, four paths, two steps."""
    values = np.array([[1.0, 2], [3, -1], [-2, -3], [0, 5]])
    pieces = []
    for key, shift in (("a", 0.0), ("b", 10.0)):
        step = np.tile([1, 2], 4)
        pieces.append(
            pd.DataFrame(
                {
                    "key": key,
                    "path": np.repeat(range(4), 2),
                    "step": step,
                    "r": values.ravel() + shift,
                    "n": 1.0 * step,
                }
            )
        )
    return pd.concat(pieces, ignore_index=True)


def test_quantiles_by_series_step_and_column():
    table = quantile_table(paths(), ["r", "n"], [0.5])
    assert list(table.columns) == ["key", "step", "column", "50 %", "mean"]
    assert table[(table.key == "a") & (table.column == "r")]["50 %"].tolist() == [0.5, 0.5]
    assert table[(table.key == "b") & (table.column == "r")]["mean"].tolist() == [10.5, 10.75]


def test_probability_at_a_step_and_by_then():
    table = event_probability(paths(), "r < 0")
    assert table[table.key == "a"][["at", "by"]].to_numpy().tolist() == [[0.25, 0.25], [0.5, 0.5]]
    assert event_probability(paths(), "r >= 3 and n == 1")["at"].tolist() == [0.25, 0, 1, 0]
    assert event_probability(paths(), "r > 2")["by"].tolist()[:2] == [0.25, 0.5]


@pytest.mark.parametrize(
    ("event", "message"), [("r > x", "COLUMN > NUMBER"), ("q > 1", "no column 'q'"), ("", "write it")]
)
def test_events_that_are_none(event, message):
    with pytest.raises(GenerationError, match=message):
        event_probability(paths(), event)


def test_losses_of_the_sum_and_of_the_step():
    summed = risk(paths(), "r", [0.75])
    assert summed[(summed.key == "a")][["var", "es"]].to_numpy().tolist() == [[2, 2], [5, 5]]
    single = risk(paths(), "r", [0.5], summed=False)
    assert single[(single.key == "a") & (single.step == 2)][["var", "es"]].to_numpy().tolist() == [[1, 2]]
    with pytest.raises(GenerationError, match="no column 'x'"):
        risk(paths(), "x")


def test_expected_shortfall_of_a_normal_is_the_closed_form():
    draws = np.random.default_rng(0).normal(size=200_000)
    frame = pd.DataFrame({"series": 1, "path": np.arange(len(draws)), "step": 1, "r": draws})
    found = risk(frame, "r", [0.95]).iloc[0]
    assert found["var"] == pytest.approx(1.645, abs=0.02) and found["es"] == pytest.approx(2.063, abs=0.03)


def test_fan_charts_and_backtests_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    past = np.cumsum(rng.normal(size=(50, 3)), 0)
    past[-1, 0] = np.nan
    draw_fans(tmp_path / "fan.png", ["a", "b $", "c"], past, rng.normal(size=(20, 4, 3)), given=["c"])
    result = backtest([past[:-1]], ["a", "b", "c"], {"VAR": lambda: GaussianVAR(20)}, Plan(2, 5))
    draw_backtest(result, tmp_path / "backtest.png")
    for name in ("fan.png", "backtest.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        draw_fans(tmp_path / "fan.jpg", ["a"], past[:, :1], rng.normal(size=(20, 4, 1)))
