"""Enter: sampled futures in a long table, as a forecast gives them.
Leave: what people ask of them: quantiles by step, probabilities of events, value at risk, expected shortfall.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from ..errors import GenerationError, nearest

COMPARISONS: dict[str, Callable[[pd.Series, float], pd.Series]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def keys_of(paths: pd.DataFrame) -> list[str]:
    """The columns that tell series apart: those before `path`."""
    return list(paths.columns[: paths.columns.get_loc("path")])


def quantile_table(
    paths: pd.DataFrame, columns: Sequence[str], levels: Sequence[float] = LEVELS
) -> pd.DataFrame:
    """One line a series, step and column; one column a level, named "5 %", and the mean."""
    lines = []
    for column in columns:
        grouped = paths.groupby([*keys_of(paths), "step"], sort=False, dropna=False)[column]
        table = grouped.quantile(list(levels)).unstack()
        table.columns = [f"{100 * level:g} %" for level in levels]
        table.insert(0, "column", column)
        table["mean"] = grouped.mean()
        lines.append(table.reset_index())
    return pd.concat(lines, ignore_index=True)


def event_probability(paths: pd.DataFrame, event: str) -> pd.DataFrame:
    """Probability of an event such as "infl > 4" or "infl > 4 and unemp > 6".

    One line a series and step: `at` this step, and `by` this step (at least once until then). Both conditions
    of an "and" have to hold at the same step. Raises GenerationError for what is not such a text.
    """
    holds = pd.Series(True, index=paths.index)
    for part in re.split(r"\s+and\s+", event.strip()):
        holds &= _condition(paths, part)
    keys = keys_of(paths)
    by = holds.groupby([*(paths[k] for k in keys), paths["path"]], sort=False, dropna=False).cummax()
    table = paths[[*keys, "step"]].assign(at=holds.astype(float), by=by.astype(float))
    return table.groupby([*keys, "step"], sort=False, dropna=False).mean().reset_index()


def _condition(paths: pd.DataFrame, text: str) -> pd.Series:
    found = re.fullmatch(r"(.+?)\s*(>=|<=|==|!=|>|<)\s*([-+.\deE]+)", text.strip())
    try:
        assert found is not None
        column, sign, number = found[1], found[2], float(found[3])
    except (AssertionError, ValueError):
        raise GenerationError(f"event {text!r}: write it as COLUMN > NUMBER (or <, >=, <=, ==, !=)") from None
    if column not in paths.columns:
        raise GenerationError(f"event {text!r}: no column {column!r}{nearest(column, list(paths.columns))}")
    return COMPARISONS[sign](paths[column], number)


def risk(
    paths: pd.DataFrame, column: str, levels: Sequence[float] = (0.95, 0.99), *, summed: bool = True
) -> pd.DataFrame:
    """Value at risk and expected shortfall of a column, as positive losses; one line a series, step and
    level.

    `summed`: of the column added up to each step, which is right for log returns; otherwise of its value at
    the step. The value at risk of 95 % is the loss that 5 % of the paths exceed, the expected shortfall the
    mean loss of those 5 %.
    """
    if column not in paths.columns:
        raise GenerationError(f"risk: no column {column!r}{nearest(column, list(paths.columns))}")
    keys = keys_of(paths)
    loss = -paths[column]
    if summed:
        loss = loss.groupby([*(paths[k] for k in keys), paths["path"]], sort=False, dropna=False).cumsum()
    lines = []
    table = paths[[*keys, "step"]].assign(loss=loss)
    for group, piece in table.groupby([*keys, "step"], sort=False, dropna=False):
        losses = np.sort(piece["loss"].to_numpy())
        for level in levels:
            beyond = losses[int(np.floor(level * len(losses))) :]
            figures = {"level": level, "var": beyond[0], "es": beyond.mean()}
            lines.append({**dict(zip([*keys, "step"], group, strict=True)), **figures})
    return pd.DataFrame(lines)
