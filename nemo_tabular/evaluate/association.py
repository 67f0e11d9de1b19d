"""Enter: real and synthetic rows.
Leave: how strongly each pair of columns depends on each other in both, as matrices to draw and to subtract.
"""

from __future__ import annotations

import numpy as np

from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, text_lengths

MAX_ROWS = 50_000
MAX_LEVELS = 100
"""Rarer values of a category go together: their counts would be too small to measure an association."""


def measure_association(real: CodedTable, synthetic: CodedTable, *, seed: int = 0) -> Findings:
    """Mean |difference| over the pairs of columns; as details both matrices (K, K) and the columns' names.

    Two numbers: Spearman's rank correlation, with its sign. A number and a category: the correlation ratio of
    the ranks. Two categories: Cramer's V, bias-corrected (Bergsma 2013). Rows with a missing cell in the
    pair are left out. All in [-1, 1]; NaN where a column is constant.
    """
    rng = np.random.default_rng(seed)
    pair = [association(t.sample(MAX_ROWS, rng)) for t in (real, synthetic)]
    names = [c.name for c in real.columns]
    notes: tuple[str, ...] = (f"associations: {MAX_ROWS:,} rows of train and synthetic at most",)
    notes = notes if max(real.rows, synthetic.rows) > MAX_ROWS else ()
    details = {"association": {"columns": names, "real": pair[0], "synthetic": pair[1]}}
    differences = np.abs(pair[0] - pair[1])[np.triu_indices(len(names), 1)]
    if np.isnan(differences).all():
        return Findings(details=details, notes=notes)
    return Findings({"associations": Figure(float(np.nanmean(differences)))}, details, notes)


def association(table: CodedTable) -> np.ndarray:
    """float64 (K, K), symmetric, ones on the diagonal."""
    columns = table.columns
    values = [_prepared(table, k) for k in range(len(columns))]
    matrix = np.eye(len(columns))
    for i in range(len(columns)):
        for j in range(i):
            matrix[i, j] = matrix[j, i] = _pair(
                values[i], columns[i].discrete, values[j], columns[j].discrete
            )
    return matrix


def _prepared(table: CodedTable, k: int) -> np.ndarray:
    """Codes of a category, ranks of everything else; NaN where missing."""
    column = table.columns[k]
    values = table[column.name]
    if column.discrete:
        return np.minimum(values, MAX_LEVELS)
    return ranks(text_lengths(column, values) if column.kind == "text" else values)


def ranks(values: np.ndarray) -> np.ndarray:
    """Mid-ranks of the present values, NaN where missing."""
    result = np.full(len(values), np.nan)
    present = ~np.isnan(values)
    _, place, counts = np.unique(values[present], return_inverse=True, return_counts=True)
    result[present] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return result


def _pair(one: np.ndarray, one_discrete: bool, two: np.ndarray, two_discrete: bool) -> float:
    both = ~(np.isnan(one) | np.isnan(two))
    one, two = one[both], two[both]
    if len(one) < 2 or (one == one[0]).all() or (two == two[0]).all():
        return float("nan")
    if one_discrete and two_discrete:
        return _cramers_v(one, two)
    if one_discrete or two_discrete:
        return _correlation_ratio(one, two) if one_discrete else _correlation_ratio(two, one)
    return float(np.corrcoef(one, two)[0, 1])


def _correlation_ratio(codes: np.ndarray, numbers: np.ndarray) -> float:
    """Root of the share of the numbers' variance that the category explains, less what chance would explain.

    Without that correction (epsilon squared, Kelley 1935) a long category seems to explain something.
    """
    groups = codes.astype(np.int64)
    counts = np.bincount(groups)
    counts, total, levels = counts[counts > 0], len(codes), int((counts > 0).sum())
    if total <= levels:
        return float("nan")
    centred = numbers - numbers.mean()
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=centred)
    eta2 = (sums**2 / counts).sum() / (centred**2).sum()
    return float(np.sqrt(max(0.0, 1 - (1 - eta2) * (total - 1) / (total - levels))))


def _cramers_v(one: np.ndarray, two: np.ndarray) -> float:
    one, two = (np.unique(v, return_inverse=True)[1] for v in (one, two))
    rows, columns, total = one.max() + 1, two.max() + 1, len(one)
    counts = np.bincount(one * columns + two, minlength=rows * columns).reshape(rows, columns)
    expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / total
    phi2 = ((counts - expected) ** 2 / expected).sum() / total
    phi2 = max(0.0, phi2 - (rows - 1) * (columns - 1) / (total - 1))
    smaller = min(rows - (rows - 1) ** 2 / (total - 1), columns - (columns - 1) ** 2 / (total - 1)) - 1
    return float(np.sqrt(min(1.0, phi2 / smaller))) if smaller > 0 else float("nan")
