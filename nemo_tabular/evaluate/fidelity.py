"""Enter: real and synthetic rows, coded by tables.py.
Leave: how close their marginals, pairs and triples are, in SDMetrics' scores and in our own.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

SPIKE_SHARE = 0.01
"""A number column's value is repeated, and its share must be hit, from this share of the training rows on."""
BINS = 10
MAX_TRIPLES = 1000
PAIRED_COLUMNS, LONG_CATEGORY = 60, 1000
# SDMetrics' thresholds for a pair to be called dependent, fixed here whatever its version.
DEPENDENT_CORRELATION, DEPENDENT_ASSOCIATION = 0.5, 0.3


def measure_fidelity(real: CodedTable, synthetic: CodedTable, *, seed: int = 0) -> Findings:
    """Everything that compares distributions: SDMetrics' two properties, k-way marginals, spikes, missing."""
    figures, details, notes = sdmetrics_quality(real, synthetic, seed=seed)
    for ways in (1, 2, 3):
        figure, detail, more = marginal_accuracy(real, synthetic, ways, seed=seed)
        notes += more
        figures[f"marginals_{ways}"] = figure
        if ways == 1:
            details["marginals"] = detail
    spikes = spike_errors(real, synthetic)
    if spikes:
        figures["spikes"] = Figure(float(np.mean(list(spikes.values()))))
    missing = missing_errors(real, synthetic)
    figures["missing"] = Figure(max(missing.values()))
    return Findings(figures, {**details, "spikes": spikes, "missing": missing}, notes)


# ---------------------------------------------------------------- SDMetrics


def sdmetrics_quality(
    real: CodedTable, synthetic: CodedTable, *, seed: int = 0
) -> tuple[dict[str, Figure], dict[str, object], tuple[str, ...]]:
    """Column Shapes and Column Pair Trends of SDMetrics' QualityReport, per column and per pair.

    Categories go in as codes and dates as seconds, which changes no score and saves most of the time. Free
    texts stay out. Trends come twice: over the pairs that SDMetrics calls dependent, and over all pairs.
    """
    columns = [c for c in real.columns if c.kind != "text" and not _all_missing(c.name, real, synthetic)]
    if not columns:
        return {}, {}, ()
    scored, paired, notes = _shape_scores(columns, real, synthetic), columns, ()
    if len(columns) > PAIRED_COLUMNS:
        kept = np.random.default_rng(seed).choice(len(columns), PAIRED_COLUMNS, replace=False)
        paired = [columns[i] for i in sorted(kept)]
        notes = (f"pair trends: {PAIRED_COLUMNS} of {len(columns)} columns, drawn at random",)  # type: ignore
    pairs = _sdmetrics("ColumnPairTrends", paired, real, synthetic)
    figures = {"shapes": Figure(float(np.nanmean(list(scored.values()))))}
    details: dict[str, object] = {"shapes": scored}
    if len(pairs):
        dependent = _dependent(pairs, real)
        if dependent.any():
            figures["trends"] = Figure(float(pairs["Score"][dependent].mean()))
        figures["trends_all"] = Figure(float(pairs["Score"].mean()))
        details["trends"] = list(zip(pairs["Column 1"], pairs["Column 2"], pairs["Score"], strict=True))
    return figures, details, notes


def _shape_scores(columns: Sequence[ColumnView], real: CodedTable, synthetic: CodedTable) -> dict[str, float]:
    """By SDMetrics, but for long categories, on which its time grows with the square of their length."""
    long = {c.name for c in columns if len(c.levels) > LONG_CATEGORY}
    found = _sdmetrics("ColumnShapes", [c for c in columns if c.name not in long], real, synthetic)
    scores = dict(zip(found["Column"], found["Score"], strict=True)) if len(found) else {}
    scores |= {name: _total_variation_complement(real[name], synthetic[name]) for name in long}
    return {c.name: float(scores[c.name]) for c in columns}


def _total_variation_complement(one: np.ndarray, two: np.ndarray) -> float:
    counts = [np.bincount(v[~np.isnan(v)].astype(np.int64)) for v in (one, two)]
    size = max(map(len, counts))
    p, q = (np.pad(c, (0, size - len(c))) / c.sum() for c in counts)
    return float(1 - np.abs(p - q).sum() / 2)


def _sdmetrics(
    name: str, columns: Sequence[ColumnView], real: CodedTable, synthetic: CodedTable
) -> pd.DataFrame:
    """The details of one property of SDMetrics' QualityReport, on all rows: its subsample is unseeded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdmetrics.reports.single_table import _properties

        scorer = getattr(_properties, name)()
        scorer.num_rows_subsample = None
        kinds = {c.name: {"sdtype": "categorical" if c.discrete else "numerical"} for c in columns}
        scorer.get_score(_frame(real, columns), _frame(synthetic, columns), {"columns": kinds})
    return scorer.details


def _all_missing(name: str, *tables: CodedTable) -> bool:
    return any(np.isnan(t[name]).all() for t in tables)


def _frame(table: CodedTable, columns: Sequence[ColumnView]) -> pd.DataFrame:
    return pd.DataFrame({c.name: table[c.name] for c in columns})


def _dependent(pairs: pd.DataFrame, real: CodedTable) -> pd.Series:
    """Which pairs the real table shows to be dependent, by SDMetrics' rule."""
    kinds = {c.name: c.discrete for c in real.columns}
    named = set(pairs["Column 1"]) | set(pairs["Column 2"])
    codes = {c.name: _sdmetrics_codes(c, real[c.name]) for c in real.columns if c.name in named}
    result = []
    for one, two, correlation in zip(
        pairs["Column 1"], pairs["Column 2"], pairs["Real Correlation"], strict=True
    ):
        if kinds[one] or kinds[two]:
            result.append(_cramers_v(codes[one], codes[two]) > DEPENDENT_ASSOCIATION)
        else:
            result.append(abs(correlation) > DEPENDENT_CORRELATION)
    return pd.Series(result, index=pairs.index, dtype=bool)


def _sdmetrics_codes(column: ColumnView, values: np.ndarray) -> np.ndarray:
    """Codes as ContingencySimilarity groups them: ten equal-width bins, missing together with the maximum."""
    if not column.discrete:
        edges = np.histogram_bin_edges(values[~np.isnan(values)])
        return np.unique(np.digitize(values, edges), return_inverse=True)[1]
    return np.unique(values, return_inverse=True)[1]


def _cramers_v(one: np.ndarray, two: np.ndarray) -> float:
    """Cramer's V of two code arrays (0..size-1 each), without bias correction; NaN for a constant."""
    sizes = one.max() + 1, two.max() + 1
    if min(sizes) < 2:
        return float("nan")
    counts = np.bincount(one * sizes[1] + two, minlength=sizes[0] * sizes[1]).reshape(sizes)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / len(one)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    return float(np.sqrt(chi2 / len(one) / (min(sizes) - 1)))


# ---------------------------------------------------------------- marginals


def marginal_accuracy(
    real: CodedTable, synthetic: CodedTable, ways: int, *, seed: int = 0
) -> tuple[Figure, dict[str, float], tuple[str, ...]]:
    """1 - total variation over the cells of `ways` columns, mean over the combinations of columns.

    A number falls into the deciles of the real column, a category into its ten commonest values and the rest;
    missing has its own cell. Of more than MAX_TRIPLES triples a random sample is taken, and the note says so.
    """
    codes_real = {c.name: decile_codes(c, real, real) for c in real.columns}
    codes_synthetic = {c.name: decile_codes(c, real, synthetic) for c in real.columns}
    combinations = list(itertools.combinations([c.name for c in real.columns], ways))
    notes: tuple[str, ...] = ()
    if len(combinations) > MAX_TRIPLES and ways == 3:
        notes = (
            f"3-way marginals: {MAX_TRIPLES:,} of {len(combinations):,} triples of columns, drawn at random",
        )
        chosen = np.random.default_rng(seed).choice(len(combinations), MAX_TRIPLES, replace=False)
        combinations = [combinations[i] for i in sorted(chosen)]
    scores = {}
    for names in combinations:
        p, q = (_cell_shares([codes[n] for n in names]) for codes in (codes_real, codes_synthetic))
        scores[" / ".join(map(str, names))] = float(1 - np.abs(p - q).sum() / 2)
    value = float(np.mean(list(scores.values()))) if scores else float("nan")
    return Figure(value), scores, notes


def decile_codes(column: ColumnView, real: CodedTable, table: CodedTable) -> np.ndarray:
    """int64 (R,): 0..BINS, and BINS + 1 for missing."""
    values, reference = table[column.name], real[column.name]
    if column.kind in ("category", "text"):
        codes = np.minimum(values, BINS)  # levels are by falling share in train already
    else:
        present = reference[~np.isnan(reference)]
        deciles = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = np.unique(np.quantile(present, deciles)) if len(present) else np.zeros(0)
        codes = np.searchsorted(edges, values, side="left").astype(np.float64)
    return np.where(np.isnan(values), BINS + 1, codes).astype(np.int64)


def _cell_shares(codes: Sequence[np.ndarray]) -> np.ndarray:
    flat = np.zeros(len(codes[0]), np.int64)
    for column in codes:
        flat = flat * (BINS + 2) + column
    return np.bincount(flat, minlength=(BINS + 2) ** len(codes)) / len(flat)


# ---------------------------------------------------------------- spikes and gaps


def spikes_of(values: np.ndarray) -> np.ndarray:
    """The repeated values of a number column: those that hold at least SPIKE_SHARE of all rows."""
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    return distinct[counts >= SPIKE_SHARE * len(values)]


def spike_errors(real: CodedTable, synthetic: CodedTable) -> dict[str, float]:
    """Total variation over {each spike, everything else} by number column; those without spikes stay out."""
    errors = {}
    for column in real.columns:
        if column.kind not in ("number", "date"):
            continue
        spikes = spikes_of(real[column.name])
        if len(spikes):
            p, q = (_spike_shares(t[column.name], spikes) for t in (real, synthetic))
            errors[column.name] = float((np.abs(p - q).sum() + abs(p.sum() - q.sum())) / 2)
    return errors


def _spike_shares(values: np.ndarray, spikes: np.ndarray) -> np.ndarray:
    place = np.minimum(np.searchsorted(spikes, values), len(spikes) - 1)
    return np.bincount(place[spikes[place] == values], minlength=len(spikes)) / len(values)


def missing_errors(real: CodedTable, synthetic: CodedTable) -> dict[str, float]:
    """|difference of the shares of missing cells| by column."""
    return {
        c.name: float(abs(np.isnan(real[c.name]).mean() - np.isnan(synthetic[c.name]).mean()))
        for c in real.columns
    }
