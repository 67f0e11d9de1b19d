"""The name of one of SDGym's data sets and the folder of the real ones enter; training and test rows leave,
as numbers, with what is known of them: the law they were drawn from, or the column to predict.

SDGym 0.2.2: 20,000 rows are drawn of a simulated set, the first half trains; real sets are shuffled with the
legacy NumPy generator, seed 0, and the last rows test. `sdgym_scores.py` judges.
"""

import gzip
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd

ROWS = 10_000
"""Training rows of a simulated set, and its test rows."""
DECIMALS = 4
"""Of the simulated numbers: a 2,000th of a mode's standard deviation, so that the probability of a step gives
a density."""
VARIANCE = 0.05


class Law(Protocol):
    """What a simulated table was drawn from."""

    def log_p(self, rows: np.ndarray) -> np.ndarray:
        """Log-probability or log-density of each row, nats."""


@dataclass(frozen=True)
class Task:
    """One data set, ready to be learnt. All columns are numbers; categories are codes from 0."""

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    categorical: tuple[str, ...] = ()
    ordinal: tuple[str, ...] = ()
    law: Law | None = None
    label: str = ""
    """The column to predict, of a real set; in one of two classes 1 is the rarer one."""

    @property
    def continuous(self) -> list[str]:
        return [name for name in self.train if name not in (*self.categorical, *self.ordinal)]


# ---------------------------------------------------------------- mixtures of Gaussians


@dataclass(frozen=True)
class Mixture:
    """Equal shares of round Gaussians of variance .05."""

    modes: np.ndarray

    @classmethod
    def of(cls, name: str, rng: np.random.RandomState) -> "Mixture":
        grid = np.array(list(itertools.product(range(-4, 5, 2), repeat=2)), float)
        if name == "ring":
            angle = np.arange(8) * np.pi / 4
            return cls(np.stack([np.cos(angle), np.sin(angle)], 1))
        return cls(grid + rng.rand(*grid.shape) - 0.5 if name == "gridr" else grid)

    def draw(self, rows: int, rng: np.random.RandomState) -> np.ndarray:
        """The same number from every mode, shuffled."""
        points = np.repeat(self.modes, rows // len(self.modes), axis=0)
        points = points + rng.normal(0, VARIANCE**0.5, points.shape)
        rng.shuffle(points)
        return points

    def log_p(self, rows: np.ndarray) -> np.ndarray:
        squares = ((rows[:, None] - self.modes) ** 2).sum(2)
        logs = -squares / (2 * VARIANCE) - np.log(2 * np.pi * VARIANCE * len(self.modes))
        return np.logaddexp.reduce(logs, axis=1)


def mixture_task(name: str, _data: Path) -> Task:
    rng = np.random.RandomState(0)
    law = Mixture.of(name, rng)
    table = pd.DataFrame(law.draw(2 * ROWS, rng).round(DECIMALS), columns=["x", "y"])
    return Task(name, table[:ROWS], table[ROWS:], law=law)


# ---------------------------------------------------------------- Bayesian networks


@dataclass(frozen=True)
class Network:
    """Node i has states[i] states and parents parents[i]; tables[i] has an axis for each, its own last."""

    names: tuple[str, ...]
    states: tuple[int, ...]
    parents: tuple[tuple[int, ...], ...]
    tables: tuple[np.ndarray, ...]

    @classmethod
    def read(cls, path: Path) -> "Network":
        """A network in the Bayesian Interchange Format."""
        text = gzip.decompress(path.read_bytes()).decode()
        found = re.findall(r"variable\s+(\S+)\s*\{[^{}]*\{([^{}]*)\}", text)
        states = {name: _words(inside) for name, inside in found}
        names = list(states)
        blocks = {}
        for head, body in re.findall(r"probability\s*\(([^)]*)\)\s*\{([^{}]*)\}", text):
            child, *parents = _words(head.replace("|", " "))
            shape = [len(states[name]) for name in (*parents, child)]
            blocks[child] = (
                tuple(map(names.index, parents)),
                _table(body, [states[p] for p in parents], shape),
            )
        parents_of, tables = zip(*(blocks[name] for name in names), strict=True)
        return cls(tuple(names), tuple(len(s) for s in states.values()), parents_of, tables)

    def draw(self, rows: int, rng: np.random.Generator) -> np.ndarray:
        """Ancestral sampling."""
        drawn, out = set[int](), np.zeros((rows, len(self.names)), np.int64)
        while len(drawn) < len(self.names):
            for i in set(range(len(self.names))) - drawn:
                if drawn.issuperset(self.parents[i]):
                    p = self.tables[i][tuple(out[:, j] for j in self.parents[i])]
                    below = np.broadcast_to(p, (rows, self.states[i])).cumsum(1)
                    out[:, i] = (rng.random((rows, 1)) * below[:, -1:] >= below).sum(1)
                    drawn.add(i)
        return out

    def p(self, rows: np.ndarray, tables: Sequence[np.ndarray] | None = None) -> np.ndarray:
        """Probability of each row, under these tables or others of the same structure."""
        out = np.ones(len(rows))
        for i, table in enumerate(self.tables if tables is None else tables):
            out *= table[(*(rows[:, j] for j in self.parents[i]), rows[:, i])]
        return out

    def log_p(self, rows: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return np.log(self.p(rows))


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _table(body: str, parents: list[list[str]], shape: list[int]) -> np.ndarray:
    """`table p, ...;` of a node without parents, `(state, ...) p, ...;` of each state of the parents."""
    table = np.full(shape, np.nan)
    for line in filter(str.strip, body.split(";")):
        given, numbers = re.fullmatch(r"\s*(?:table|\(([^)]*)\))(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        at = tuple(s.index(word) for s, word in zip(parents, _words(given or ""), strict=True))
        table[at] = list(map(float, _words(numbers)))
    assert not np.isnan(table).any()
    return table


def network_task(name: str, data: Path) -> Task:
    law = Network.read(data / "bayesian_networks" / f"{name}.bif.gz")
    table = pd.DataFrame(law.draw(2 * ROWS, np.random.default_rng(0)), columns=law.names)
    return Task(name, table[:ROWS], table[ROWS:], categorical=law.names, law=law)


# ---------------------------------------------------------------- real tables

EDUCATION = (
    "Preschool", "1st-4th", "5th-6th", "7th-8th", "9th", "10th", "11th", "12th", "HS-grad", "Prof-school",
    "Assoc-voc", "Assoc-acdm", "Some-college", "Bachelors", "Masters", "Doctorate",
)  # fmt: skip
CENSUS_NUMBERS = (
    "age", "wage_per_hour", "capital_gains", "capital_losses", "dividends_from_stocks",
    "num_persons_worked_for_employer", "weeks_worked_in_year",
)  # fmt: skip


def adult_task(name: str, data: Path) -> Task:
    table = pd.read_csv(data / "adult" / "adult_train.csv.gz", keep_default_na=False)
    table["education"] = table["education"].map(EDUCATION.index)
    return _split(name, table, 10_000, "income", ordinal=("education",))


def covtype_task(name: str, data: Path) -> Task:
    """A sample of 68 %; the indicators of wilderness and soil as the two columns that they came from."""
    table = pd.read_parquet(data / "covtype" / "covtype_sample.parquet")
    categorical = ("Wilderness_Area", "Soil_Type", "Cover_Type")
    return _split(name, table.astype(dict.fromkeys(categorical, str)), 100_000, "Cover_Type")


def credit_task(name: str, data: Path) -> Task:
    table = pd.read_parquet(data / "credit_fraud" / "creditcard.parquet").drop(columns="Time")
    return _split(name, table.astype({"Class": str}), 20_000, "Class")


def intrusion_task(name: str, data: Path) -> Task:
    folder = data / "intrusion_kdd99"
    table = pd.read_csv(folder / "kdd99_10_percent.csv.gz").drop(columns="num_outbound_cmds")
    classes = pd.read_csv(folder / "label_classes.csv").set_index("label")["class5"]
    table["label"] = table["label"].map(classes)
    kinds = pd.read_csv(folder / "columns.csv").set_index("column")["kind"]
    categorical = [c for c in table if kinds[c] == "categorical"]
    ordinal = tuple(c for c in table if kinds[c] == "ordinal")
    return _split(name, table.astype(dict.fromkeys(categorical, str)), 100_000, "label", ordinal)


def census_task(name: str, data: Path) -> Task:
    """Its own test file."""
    parts = [pd.read_parquet(data / "census_kdd" / f"census_{part}.parquet") for part in ("train", "test")]
    table = pd.concat(parts, ignore_index=True).drop(columns="instance_weight")
    categorical = [c for c in table if c not in CENSUS_NUMBERS]
    table[categorical] = table[categorical].astype(str)
    return _cut(name, table, len(parts[1]), "income", (), coded_by=len(parts[0]))


def _split(name: str, table: pd.DataFrame, test: int, label: str, ordinal: tuple[str, ...] = ()) -> Task:
    order = np.arange(len(table))
    np.random.RandomState(0).shuffle(order)
    return _cut(name, table.iloc[order].reset_index(drop=True), test, label, ordinal, len(table))


def _cut(
    name: str, table: pd.DataFrame, test: int, label: str, ordinal: tuple[str, ...], coded_by: int
) -> Task:
    """The last rows test; texts become codes by falling frequency in the first `coded_by` rows, as 32-bit
    floats hold them."""
    categorical = tuple(c for c in table if not pd.api.types.is_numeric_dtype(table[c]))
    for column in categorical:
        ranked = table[column][:coded_by].value_counts(sort=True)
        codes = {value: code for code, value in enumerate(ranked.index)}
        table[column] = table[column].map(lambda value, codes=codes: codes.get(value, len(codes)))
    for column in table.columns.difference(categorical):
        whole = (table[column] % 1 == 0).all()
        table[column] = table[column].astype(np.float32)
        table[column] = table[column].astype(np.int64) if whole else table[column]
    train, held = table[:-test], table[-test:]
    return Task(name, train, held.reset_index(drop=True), categorical, ordinal, label=label)


TASKS: dict[str, Callable[[Path], Task]] = {
    **{name: partial(mixture_task, name) for name in ("ring", "grid", "gridr")},
    **{name: partial(network_task, name) for name in ("asia", "child", "insurance", "alarm")},
    "adult": partial(adult_task, "adult"),
    "census": partial(census_task, "census"),
    "covtype": partial(covtype_task, "covtype"),
    "credit": partial(credit_task, "credit"),
    "intrusion": partial(intrusion_task, "intrusion"),
}
SIMULATED = ("ring", "grid", "gridr", "asia", "child", "insurance", "alarm")
REAL = ("adult", "census", "covtype", "credit", "intrusion")
