"""Enter: series, and models that forecast. Leave: what each model would have said at origins in the past, and
how good that was beside the seasonal naive.

At every origin a model is shown the rows before it and nothing else. That nothing after it has reached the
model by another way is checked: the rows after the first origin are replaced by nonsense, and the model, made
anew, has to say the same again.

Shapes: O origins (of all series together), S samples, H steps, C columns, T rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pandas as pd

from ..errors import ConfigError, GenerationError
from .baselines import SeasonalNaive
from .forecasts import (
    covered,
    crps,
    naive_scale,
    pit,
    pit_histogram,
    quantile_loss,
    quantiles,
    variogram_score,
)


class ForecastModel(Protocol):
    """What can be judged."""

    joint: bool
    """Whether steps and columns of a sample belong together; if not, there is no dependence to score."""

    def fit(self, history: np.ndarray) -> None:
        """Learn from (T, C). Called before each origin; with `refit=False` before each series' first only."""

    def forecast(self, history: np.ndarray, horizon: int, given: Mapping[int, np.ndarray]) -> np.ndarray:
        """Samples (S, H, C) of the rows after (T, C); `given`: paths (H,) of columns that are known."""


@dataclass(frozen=True)
class Plan:
    """Which forecasts are made."""

    horizon: int
    origins: int = 20
    """Forecasts a series, the last of which ends with it."""
    step: int = 1
    """Rows from origin to origin."""
    season: int = 1
    """Rows of a season: of the seasonal naive, and of the scale of MASE."""
    refit: bool = True
    """Whether models learn anew at every origin."""
    given: tuple[int, ...] = ()
    """Columns whose realised paths the models are told: scenarios."""

    def rows(self, length: int) -> list[int]:
        """Origins in a series: the number of rows that come before each. Raises ConfigError if too short."""
        first = length - self.horizon - (self.origins - 1) * self.step
        least = 2 * self.season + 2
        if first < least:
            raise ConfigError(
                f"a series of {length:,} rows leaves {first:,} before the first of {self.origins} origins of "
                f"{self.horizon} steps; {least} are the least: take fewer origins, steps or rows between them"
            )
        return [first + i * self.step for i in range(self.origins)]


@dataclass(frozen=True)
class Backtest:
    """Forecasts and what came true."""

    columns: tuple[str, ...]
    plan: Plan
    truth: np.ndarray
    """(O, H, C)."""
    scale: np.ndarray
    """(O, C): mean absolute change from season to season before each origin."""
    samples: Mapping[str, Sequence[np.ndarray]]
    """Of each model and origin (S, H, C)."""
    joint: Mapping[str, bool] = field(default_factory=dict)

    def scores(self) -> pd.DataFrame:
        """One line a model and column that is not given: crps, wql, mase, cov80, and their relation to the
        seasonal naive; `n` forecasts that could be compared with a value."""
        lines = [
            self._score(model, c)
            for model in self.samples
            for c in range(len(self.columns))
            if c not in self.plan.given
        ]
        table = pd.DataFrame(lines)
        naive = table[table.model == SeasonalNaive.name].set_index("column")
        for name in ("crps", "wql", "mase"):
            table[f"rel_{name}"] = table[name] / naive.loc[table.column, name].to_numpy()
        return table

    def _score(self, model: str, column: int) -> dict[str, object]:
        truth = self.truth[..., column]
        known = np.isfinite(truth)

        def over(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
            pieces = zip(self.samples[model], truth, strict=True)
            return np.stack([score(x[..., column], y) for x, y in pieces])[known]

        off = over(lambda x, y: np.abs(y - quantiles(x, [0.5])[0]))
        scale = np.broadcast_to(self.scale[:, column : column + 1], truth.shape)[known]
        return {
            "model": model,
            "column": self.columns[column],
            "crps": over(crps).mean(),
            "wql": over(quantile_loss).sum() / np.abs(truth[known]).sum(),
            "mase": (off / scale).mean(),
            "cov80": over(covered).mean(),
            "n": int(known.sum()),
        }

    def summary(self) -> pd.DataFrame:
        """One line a model: geometric means over columns of the scores relative to the seasonal naive (as
        GIFT-Eval and fev-bench have it), mean coverage, and the variogram score of joint models."""
        table = self.scores()
        relative = ["rel_crps", "rel_wql", "rel_mase"]
        out = np.exp(np.log(table.set_index("model")[relative]).groupby(level=0, sort=False).mean())
        out["cov80"] = table.groupby("model", sort=False)["cov80"].mean()
        out["variogram"] = [self.variogram(m) if self.joint[m] else np.nan for m in out.index]
        return out.sort_values("rel_crps")

    def variogram(self, model: str) -> float:
        """Mean variogram score over the origins, columns in units of their seasonal change; without the
        given."""
        kept = [
            c
            for c in range(len(self.columns))
            if c not in self.plan.given and not np.isnan(self.scale[:, c]).any()
        ]
        scores = []
        for x, y, scale in zip(self.samples[model], self.truth, self.scale, strict=True):
            scaled = (x[..., kept] / scale[kept]).reshape(len(x), -1)
            scores.append(variogram_score(scaled, (y[:, kept] / scale[kept]).ravel()))
        return float(np.mean(scores))

    def pit(self, model: str, column: str) -> np.ndarray:
        """Histogram of the probability integral transform: ten shares, .1 each if calibrated."""
        c = self.columns.index(column)
        values = [pit(x[..., c], y) for x, y in zip(self.samples[model], self.truth[..., c], strict=True)]
        return pit_histogram(np.where(np.isfinite(self.truth[..., c]), np.stack(values), np.nan))


def backtest(
    series: Sequence[np.ndarray],
    columns: Sequence[str],
    models: Mapping[str, Callable[[], ForecastModel]],
    plan: Plan,
    *,
    guard: bool = True,
) -> Backtest:
    """Forecast at every origin of every series (T, C) with fresh models, the seasonal naive among them.

    Raises ConfigError for series that are too short, and GenerationError where `guard` finds that a model's
    forecasts depend on rows after the origin.
    """
    makers: dict[str, Callable[[], ForecastModel]] = {
        SeasonalNaive.name: lambda: SeasonalNaive(plan.season),
        **models,
    }
    origins = [(values, row) for values in series for row in plan.rows(len(values))]
    made = {}
    for name, make in makers.items():
        made[name] = [x for values in series for x in _forecasts(make(), values, plan)]
        if guard:
            _check_blind(name, make, series[0], plan, made[name][0])
    return Backtest(
        columns=tuple(columns),
        plan=plan,
        truth=np.stack([values[row : row + plan.horizon] for values, row in origins]),
        scale=np.stack([naive_scale(values[:row], plan.season) for values, row in origins]),
        samples=made,
        joint={name: make().joint for name, make in makers.items()},
    )


def _forecasts(
    model: ForecastModel, values: np.ndarray, plan: Plan, origins: slice = slice(None)
) -> list[np.ndarray]:
    """Samples (S, H, C) at each origin of one series."""
    out: list[np.ndarray] = []
    for row in plan.rows(len(values))[origins]:
        history = values[:row].copy()  # a view would lead to the rows after it
        if plan.refit or not out:
            model.fit(history)
        given = {c: values[row : row + plan.horizon, c].copy() for c in plan.given}
        out.append(model.forecast(history, plan.horizon, given))
    return out


def poisoned(values: np.ndarray, origin: int, given: Sequence[int] = (), horizon: int = 0) -> np.ndarray:
    """A copy in which every row after the origin is nonsense, but for the paths that are given."""
    out = values.copy()
    size = 1e3 * (1 + np.nanmax(np.abs(values), 0))
    out[origin:] = size * (1.5 + np.arange(len(values) - origin)[:, None] % 7)
    for c in given:
        out[origin : origin + horizon, c] = values[origin : origin + horizon, c]
    return out


def _check_blind(
    name: str, make: Callable[[], ForecastModel], values: np.ndarray, plan: Plan, said: np.ndarray
) -> None:
    origin = plan.rows(len(values))[0]
    nonsense = poisoned(values, origin, plan.given, plan.horizon)
    again = _forecasts(make(), nonsense, plan, slice(1))[0]
    if not np.array_equal(said, again, equal_nan=True):
        raise GenerationError(
            f"{name}: its forecast from row {origin:,} changes when the rows after it do (or from call to "
            "call): it has seen the future, so its scores are worthless. Fit it within `fit`, on the history "
            "that it is given, and let a seed decide its samples"
        )
