"""Enter: two tables.
Leave: how far each row of one is from its nearest rows in the other: numbers by rank, categories by mismatch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from nemo_tabular.evaluate.tables import CodedTable

CANDIDATES = 5
ONE_HOT_LEVELS = 64
SKETCH = 32
"""A category of more than ONE_HOT_LEVELS levels enters the search as random vectors of this length."""


@dataclass(frozen=True)
class Distances:
    """From each query row to the reference rows: nearest and second nearest, float64 (R,)."""

    first: np.ndarray
    second: np.ndarray


def nearest(queries: CodedTable, reference: CodedTable, scale: CodedTable) -> Distances:
    """Squared distance, by column: the squared difference of ranks within train for numbers, 1 for unequal
    categories and for missing against present. float32 products find candidates, float64 differences judge.
    """
    count = min(CANDIDATES, reference.rows)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(search_vectors(reference, scale))
    index = search.kneighbors(search_vectors(queries, scale), return_distance=False)
    squared = np.zeros(index.shape)
    for column in queries.columns:
        one, two = (_coordinate(t, column.name, scale) for t in (queries, reference))
        difference = one[:, None] - two[index]
        apart = (difference != 0).astype(np.float64) if column.discrete else difference**2
        unequal = np.isnan(one)[:, None] != np.isnan(two)[index]
        squared += np.where(np.isnan(difference), unequal, apart)
    ordered = np.sqrt(np.sort(squared, axis=1))
    return Distances(ordered[:, 0], ordered[:, min(1, count - 1)])


def _coordinate(table: CodedTable, name: str, scale: CodedTable) -> np.ndarray:
    """float64 (R,): codes of a category; the mid-rank in [0, 1] of a number within the scale's rows."""
    column = next(c for c in table.columns if c.name == name)
    if column.discrete:
        return table[name]
    single = (column,)
    values = CodedTable(single, {name: table[name]}, table.rows).features()[:, 0]
    reference = np.sort(CodedTable(single, {name: scale[name]}, scale.rows).features()[:, 0])
    reference = reference[~np.isnan(reference)]
    if not len(reference):
        return values * 0.0
    ranks = np.searchsorted(reference, values, "left") + np.searchsorted(reference, values, "right")
    return np.where(np.isnan(values), np.nan, ranks / (2 * len(reference)))


def search_vectors(table: CodedTable, scale: CodedTable) -> np.ndarray:
    """float32 (R, features) whose Euclidean distances are those of `nearest`, nearly for long categories."""
    parts = []
    for k, column in enumerate(table.columns):
        values = _coordinate(table, column.name, scale)
        absent = np.isnan(values)
        if column.discrete:
            vectors = _level_vectors(len(column.levels), k)
            parts.append(vectors[np.where(absent, len(vectors) - 1, values).astype(np.int64)])
        else:
            parts.append(np.stack([np.where(absent, 0.5, values), absent], axis=1))
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _level_vectors(levels: int, seed: int) -> np.ndarray:
    """One vector a level and one for missing, all at a distance of 1 (nearly, if there are many)."""
    if levels <= ONE_HOT_LEVELS:
        return np.eye(levels + 1, dtype=np.float32) / np.sqrt(2)
    signs = np.random.default_rng(seed).integers(0, 2, (levels + 1, SKETCH)) * 2 - 1
    return (signs / np.sqrt(2 * SKETCH)).astype(np.float32)
