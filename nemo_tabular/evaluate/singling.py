"""Enter: the rows to judge, training rows and as many unseen rows.
Leave: how often rare combinations of the judged rows single out a training row rather than an unseen one.

After the singling-out attack of Giomi et al., "A Unified Framework for Quantifying Privacy Risk in Synthetic
Data" (PETS 2023), with every rare combination of many sets of columns in place of a few thousand guesses.
"""

from __future__ import annotations

import numpy as np

from nemo_tabular.evaluate.scores import Figure
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

SETS, MAX_SIZE = 60, 4
BINS = 50
MIN_GUESSES = 100
"""Fewer successful guesses than this decide nothing."""


def singling_out(
    subject: CodedTable, train: CodedTable, test: CodedTable, scale: CodedTable, *, seed: int = 0
) -> Figure | None:
    """Of the guesses that single out one row, the share that single out a training row; 0.5 is natural.

    A guess is a combination of values of two to four columns that occurs once among the judged rows; it
    singles out a row if it occurs once among the training (or the unseen) rows. None where too few do.
    """
    columns = [c for c in subject.columns if c.kind != "text"]
    if len(columns) < 2 or train.rows != test.rows:
        return None
    rng = np.random.default_rng(seed)
    tables = (subject, train, test)
    codes = {c.name: _codes(c, tables, scale) for c in columns}
    hits = [np.zeros(t.rows) for t in tables]  # by judged row: training hits less unseen ones, below: by row
    total = np.zeros(subject.rows)
    won = 0.0
    for _ in range(SETS):
        size = int(rng.integers(2, min(MAX_SIZE, len(columns)) + 1))
        names = [columns[i].name for i in rng.choice(len(columns), size, replace=False)]
        keys = [_joined([codes[n][part] for n in names]) for part in range(3)]
        guesses, place = _singles(keys[0])
        for part, sign in ((1, 1.0), (2, -1.0)):
            single, row = _singles(keys[part])
            _, mine, other = np.intersect1d(guesses, single, assume_unique=True, return_indices=True)
            hits[0][place[mine]] += sign
            hits[part][row[other]] += 1
            total[place[mine]] += 1
            won += len(mine) * (sign > 0)
    if total.sum() < MIN_GUESSES:
        return None
    return _share(float(won / total.sum()), hits, total)


def _codes(column: ColumnView, tables: tuple[CodedTable, ...], scale: CodedTable) -> list[np.ndarray]:
    """int64 for each table: the category, or which of BINS equally full parts of train a number falls in."""
    if column.discrete:
        values = [t[column.name] for t in tables]
    else:
        present = scale[column.name][~np.isnan(scale[column.name])]
        inner = np.linspace(0, 1, BINS + 1)[1:-1]
        edges = np.unique(np.quantile(present, inner)) if len(present) else np.zeros(0)
        values = [
            np.where(np.isnan(v), np.nan, np.searchsorted(edges, v)) for v in (t[column.name] for t in tables)
        ]
    return [np.where(np.isnan(v), 0, v + 1).astype(np.int64) for v in values]


def _joined(codes: list[np.ndarray]) -> np.ndarray:
    """One number for each combination: four columns of up to 65,535 values each fit into 64 bits."""
    keys = np.zeros(len(codes[0]), np.uint64)
    for column in codes:
        keys = keys * np.uint64(65_536) + np.minimum(column, 65_535).astype(np.uint64)
    return keys


def _singles(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The keys that occur once, rising, and where."""
    found, first, counts = np.unique(keys, return_index=True, return_counts=True)
    return found[counts == 1], first[counts == 1]


def _share(share: float, hits: list[np.ndarray], total: np.ndarray) -> Figure:
    """With the interval of a ratio whose guesses come in clusters: of the judged and of the real rows."""
    won = (total + hits[0]) / 2
    by_row = ((won - share * total) ** 2).sum()
    by_real = (((1 - share) * hits[1]) ** 2).sum() + ((share * hits[2]) ** 2).sum()
    # what the real rows' hits would vary by if they were single ones is in by_row already
    beyond = max(0.0, by_real - share * (1 - share) * total.sum())
    error = 1.96 * float(np.sqrt(by_row + beyond) / total.sum())
    return Figure(share, max(share - error, 0.0), min(share + error, 1.0))
