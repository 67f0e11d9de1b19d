"""Enter: tables whose rows form histories (one customer's, one market's), in order.
Leave: how alike the histories are: lengths, gaps, transitions, autocorrelation, what never changes in one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemo_tabular.evaluate.association import ranks
from nemo_tabular.evaluate.fidelity import BINS, decile_codes
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

MIN_GROUPS = 10
LAGS = (1, 2, 3)
BARS = 30
CONSTANT = 0.999
"""A column belongs to the history, not to its rows, if it never changes in this share of the real ones."""


@dataclass(frozen=True)
class Histories:
    """A table sorted by history and, within one, by time."""

    table: CodedTable
    group: np.ndarray
    """int64 (R,), rising: which history a row belongs to."""

    @property
    def lengths(self) -> np.ndarray:
        return np.unique(self.group, return_counts=True)[1].astype(np.float64)

    def pairs(self, lag: int = 1) -> np.ndarray:
        """Rows that have a row of the same history `lag` rows before them."""
        return np.flatnonzero(self.group[lag:] == self.group[:-lag]) + lag


def sorted_histories(table: CodedTable, group: np.ndarray, order_by: tuple[str, ...]) -> Histories:
    """Without `order_by` the rows of a history keep the order in which they stand."""
    keys = [table[name] for name in reversed(order_by)]
    order = np.lexsort([*keys, group])
    return Histories(table.take(order), group[order])


def shuffled_histories(histories: Histories, rng: np.random.Generator) -> Histories:
    """The same rows and the same lengths, every row in a random history: the floor."""
    return Histories(histories.table.take(rng.permutation(histories.table.rows)), histories.group)


def resampled_histories(histories: Histories, share: float, rng: np.random.Generator) -> Histories:
    """Whole histories drawn with replacement, this share of their number and at least MIN_GROUPS."""
    _, first, counts = np.unique(histories.group, return_index=True, return_counts=True)
    drawn = rng.integers(0, len(first), max(MIN_GROUPS, round(share * len(first))))
    lengths = counts[drawn]
    begins = np.cumsum(lengths) - lengths
    rows = np.arange(lengths.sum()) + np.repeat(first[drawn] - begins, lengths)
    return Histories(histories.table.take(rows), np.repeat(np.arange(len(drawn)), lengths))


def measure_histories(real: Histories, synthetic: Histories, order_by: tuple[str, ...]) -> Findings:
    """All scores of histories; those without ground (no order, no numbers) are left out."""
    groups = min(len(real.lengths), len(synthetic.lengths))
    if groups < MIN_GROUPS:
        return Findings(notes=(f"histories: {groups} are too few, {MIN_GROUPS} are needed; left out",))
    figures = {"history_lengths": Figure(1 - _ks(real.lengths, synthetic.lengths))}
    details: dict[str, object] = {"lengths": _histogram(real.lengths, synthetic.lengths, "rows")}
    if order_by:
        gaps = [_gaps(h, order_by[0]) for h in (real, synthetic)]
        figures["history_gaps"] = Figure(1 - _ks(*gaps))
        details["gaps"] = _time_histogram(real.table, order_by[0], *gaps)
    columns = [c for c in real.table.columns if c.name not in order_by]
    if columns and len(real.pairs()) and len(synthetic.pairs()):
        kept = {c.name: _transition_accuracy(c, real, synthetic) for c in columns}
        figures["history_transitions"] = Figure(float(np.mean(list(kept.values()))))
        details["transitions"] = kept
    errors = _autocorrelation_errors(columns, real, synthetic)
    if errors:
        figures["history_autocorrelation"] = Figure(float(np.mean(list(errors.values()))))
        details["autocorrelation"] = errors
    broken = {c.name: _changing(c, synthetic) for c in columns if _changing(c, real) <= 1 - CONSTANT}
    if broken:
        figures["history_constants"] = Figure(float(np.mean(list(broken.values()))))
        details["constants"] = broken
    return Findings(figures, details)


def _histogram(one: np.ndarray, two: np.ndarray, unit: str) -> dict[str, object]:
    """Shares in BARS equal parts of the real range; the last part holds the longest tail too."""
    one, two = one[~np.isnan(one)], two[~np.isnan(two)]
    if not len(one) or not len(two):
        return {}
    low, high = float(one.min()), float(np.quantile(one, 0.995))
    edges = np.linspace(low, high if high > low else low + 1, BARS + 1)
    shares = [np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] / len(v) for v in (one, two)]
    return {"edges": edges, "real": shares[0], "synthetic": shares[1], "unit": unit}


def _time_histogram(table: CodedTable, name: str, one: np.ndarray, two: np.ndarray) -> dict[str, object]:
    """Gaps of dates are read in days, or in hours or seconds where they are mostly shorter."""
    if next(c for c in table.columns if c.name == name).kind != "date":
        return _histogram(one, two, name)
    middle = float(np.nanmedian(np.append(one, 0.0)))
    size, unit = (
        (86_400, "days") if middle >= 86_400 else (3_600, "hours") if middle >= 3_600 else (1, "seconds")
    )
    return _histogram(one / size, two / size, unit)


def _ks(one: np.ndarray, two: np.ndarray) -> float:
    """Largest distance of the two distribution functions; NaN without values."""
    one, two = (np.sort(v[~np.isnan(v)]) for v in (one, two))
    if not len(one) or not len(two):
        return float("nan")
    places = np.concatenate([one, two])
    shares = (np.searchsorted(v, places, "right") / len(v) for v in (one, two))
    return float(np.abs(np.subtract(*shares)).max())


def _gaps(histories: Histories, name: str) -> np.ndarray:
    """Time from row to row within a history."""
    later = histories.pairs()
    times = histories.table[name]
    return times[later] - times[later - 1]


def _transition_accuracy(column: ColumnView, real: Histories, synthetic: Histories) -> float:
    """1 - total variation over (value, next value), deciles or the ten commonest values."""
    shares = []
    for histories in (real, synthetic):
        codes = decile_codes(column, real.table, histories.table)
        later = histories.pairs()
        pairs = codes[later - 1] * (BINS + 2) + codes[later]
        shares.append(np.bincount(pairs, minlength=(BINS + 2) ** 2) / max(len(pairs), 1))
    return float(1 - np.abs(shares[0] - shares[1]).sum() / 2)


def _autocorrelation_errors(
    columns: list[ColumnView], real: Histories, synthetic: Histories
) -> dict[str, float]:
    """|difference| of the rank autocorrelations by number column, mean over the lags both tables have."""
    errors = {}
    for column in columns:
        if column.kind != "number":
            continue
        found = [
            abs(one - two)
            for lag in LAGS
            if not np.isnan(one := _autocorrelation(column, real, lag))
            and not np.isnan(two := _autocorrelation(column, synthetic, lag))
        ]
        if found:
            errors[column.name] = float(np.mean(found))
    return errors


def _autocorrelation(column: ColumnView, histories: Histories, lag: int) -> float:
    later = histories.pairs(lag)
    values = ranks(histories.table[column.name])
    one, two = values[later - lag], values[later]
    both = ~(np.isnan(one) | np.isnan(two))
    one, two = one[both], two[both]
    if len(one) < 3 or one.std() == 0 or two.std() == 0:
        return float("nan")
    return float(np.corrcoef(one, two)[0, 1])


def _changing(column: ColumnView, histories: Histories) -> float:
    """Share of the histories of at least two rows in which the column takes more than one value."""
    later = histories.pairs()
    values = histories.table[column.name]
    one, two = values[later - 1], values[later]
    changed = (one != two) & ~(np.isnan(one) & np.isnan(two))
    several = np.unique(histories.group[later])
    return len(np.unique(histories.group[later][changed])) / max(len(several), 1)
