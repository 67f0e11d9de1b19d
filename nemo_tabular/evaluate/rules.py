"""Enter: train, test and synthetic rows.
Leave: rules that hold in train and how often test and synthetic rows break them.

One column determines another, one of its values implies a value of another, it never exceeds another, or both
are missing together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

Kind = Literal["determines", "implies", "at most", "missing together"]

HOLDS = 0.999
"""A rule holds if this share of the training rows keeps it: one wrong row must not hide it."""
TELLING = 0.05
"""A rule is worth telling if independent columns would break it at least this often."""
SUPPORT = 5
"""A value that determines another must occur this often on average: rare values determine everything."""
SEARCH_ROWS = 20_000
"""Rules are searched on so many training rows and then verified on all."""
MAX_COLUMNS = 100


@dataclass(frozen=True)
class Rule:
    """`first` determines, implies, is at most, or is missing together with `second`."""

    kind: Kind
    first: ColumnView
    second: ColumnView
    value: float = float("nan")
    """The coded value of `first` that implies `implied` of `second`."""
    implied: float = float("nan")
    train: float = 0.0
    """Share of the training rows that break it."""

    def __str__(self) -> str:
        one, two = self.first, self.second
        if self.kind == "implies":
            return f"{one.name} = {one.show(self.value)} implies {two.name} = {two.show(self.implied)}"
        words = {"determines": "determines", "at most": "≤", "missing together": "is missing together with"}
        return f"{one.name} {words[self.kind]} {two.name}"


def rule_findings(
    train: CodedTable, test: CodedTable, synthetic: CodedTable, floor: CodedTable, *, seed: int = 0
) -> tuple[Findings, Findings, Findings]:
    """Mean broken share over the rules, for the synthetic table, for test (ceiling) and for `floor`."""
    rules, notes = find_rules(train, seed=seed)
    if not rules:
        return Findings(details={"rules": []}, notes=notes), Findings(), Findings()
    (figure, own), (ceiling, unseen), (worst, _) = (
        _broken(rules, train, table) for table in (synthetic, test, floor)
    )
    table = [
        {"rule": str(r), "kind": r.kind, "train": r.train, "test": real, "synthetic": made}
        for r, made, real in zip(rules, own, unseen, strict=True)
    ]
    table.sort(key=lambda r: r["test"] - r["synthetic"])  # type: ignore[operator]
    return (
        Findings({"rules": figure}, {"rules": table}, notes),
        Findings({"rules": ceiling}),
        Findings({"rules": worst}),
    )


def _broken(rules: list[Rule], train: CodedTable, table: CodedTable) -> tuple[Figure, list[float]]:
    """The mean over rows and rules, with the interval that the rows give, and the share of each rule."""
    counts, shares = np.zeros(table.rows), []
    for rule in rules:
        broken = broken_rows(rule, train, table)
        counts += broken
        shares.append(float(broken.mean()))
    value = float(np.mean(shares))
    error = 1.96 * float((counts / len(rules)).std()) / table.rows**0.5
    return Figure(value, max(value - error, 0.0), min(value + error, 1.0)), shares


def find_rules(train: CodedTable, *, seed: int = 0) -> tuple[list[Rule], tuple[str, ...]]:
    """Rules that at least HOLDS of the training rows keep and that independent columns would often break."""
    columns = train.columns[:MAX_COLUMNS]
    notes: tuple[str, ...] = ()
    if len(columns) < len(train.columns):
        notes = (f"rules: searched among the first {MAX_COLUMNS} of {len(train.columns)} columns",)
    rng = np.random.default_rng(seed)
    few = train.sample(SEARCH_ROWS, rng)
    shuffled = few.shuffled_columns(rng)
    kept = []
    for one, two in itertools.permutations(columns, 2):
        for rule in _candidates(one, two, few):
            if (
                broken_share(rule, few, few) <= 1 - HOLDS
                and broken_share(rule, few, shuffled) >= TELLING
                and (share := broken_share(rule, train, train)) <= 1 - HOLDS
            ):
                kept.append(replace(rule, train=share))
                if rule.kind == "determines":
                    break  # what its single values imply follows
    return kept, notes


def _candidates(one: ColumnView, two: ColumnView, table: CodedTable) -> Iterator[Rule]:
    first, second = table[one.name], table[two.name]
    present = first[~np.isnan(first)]
    if one.kind == two.kind and one.kind in ("number", "date"):
        yield Rule("at most", one, two)
    if one.name < two.name and np.isnan(first).any() and np.isnan(second).any():
        yield Rule("missing together", one, two)
    if 0 < len(np.unique(present)) * SUPPORT <= len(present):
        yield Rule("determines", one, two)
        if one.discrete and two.discrete:
            yield from _implications(one, two, first, second)


def _implications(one: ColumnView, two: ColumnView, first: np.ndarray, second: np.ndarray) -> Iterator[Rule]:
    """A rule for each value of `first` that is common enough to tell, with what mostly stands beside it."""
    values, counts = np.unique(first[~np.isnan(first)], return_counts=True)
    for value in values[counts >= TELLING * len(first)]:
        beside, times = np.unique(second[first == value], return_counts=True)
        if not np.isnan(beside[times.argmax()]):
            yield Rule("implies", one, two, value, beside[times.argmax()])


def broken_share(rule: Rule, train: CodedTable, table: CodedTable) -> float:
    """Share of the rows of `table` that break the rule."""
    return float(np.mean(broken_rows(rule, train, table)))


def broken_rows(rule: Rule, train: CodedTable, table: CodedTable) -> np.ndarray:
    """bool (R,): the rows of `table` that break the rule; what determines what is learnt from `train`."""
    one, two = table[rule.first.name], table[rule.second.name]
    if rule.kind == "missing together":
        return np.isnan(one) != np.isnan(two)
    if rule.kind == "implies":
        return (one == rule.value) & (two != rule.implied)
    if rule.kind == "at most":
        return one > two  # a comparison with a missing cell is false: nothing is broken
    return _contradicted(train[rule.first.name], train[rule.second.name], one, two)


def _contradicted(
    known_first: np.ndarray, known_second: np.ndarray, first: np.ndarray, second: np.ndarray
) -> np.ndarray:
    """Rows whose second value is not the commonest that train shows beside their first value.

    A first value that train does not show, or a missing one, contradicts nothing.
    """
    keys, key = np.unique(known_first, return_inverse=True)
    values, value = np.unique(known_second, return_inverse=True)
    pairs, counts = np.unique(key * len(values) + value, return_counts=True)
    order = np.lexsort((counts, pairs // len(values)))
    last = np.r_[np.diff(pairs[order] // len(values)) != 0, True]  # the commonest pair of each key
    commonest = values[pairs[order][last] % len(values)]
    place = np.minimum(np.searchsorted(keys, first), len(keys) - 1)
    known = keys[place] == first
    expected = commonest[place]
    same = (expected == second) | (np.isnan(expected) & np.isnan(second))
    return known & ~same
