"""Enter: two tables.
Leave: how far each row of one is from its nearest rows in the other: numbers by rank, categories by mismatch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemo_tabular.evaluate.tables import CodedTable

CANDIDATES = 5
CHUNK_CELLS = 8_000_000
"""Distances held at once: 32 MB of them."""
ONE_HOT_LEVELS = 64
SKETCH = 32
"""A category of more than ONE_HOT_LEVELS levels enters the search as random vectors of this length."""


@dataclass(frozen=True)
class Distances:
    """From each query row to the reference rows: nearest and second nearest, float64 (R,)."""

    first: np.ndarray
    second: np.ndarray
    row: np.ndarray
    """int64 (R,): which reference row is the nearest."""


def nearest(queries: CodedTable, reference: CodedTable, scale: CodedTable) -> Distances:
    """Squared distance, by column: the squared difference of ranks within train for numbers, 1 for unequal
    categories and for missing against present. float32 products find candidates, float64 differences judge.
    """
    return nearest_both_ways(queries, reference, scale)[0]


def nearest_both_ways(
    queries: CodedTable, reference: CodedTable, scale: CodedTable
) -> tuple[Distances, np.ndarray]:
    """As `nearest`, and from each reference row to its nearest query row: one pass over the products."""
    x, y = search_vectors(queries, scale), search_vectors(reference, scale)
    index, back = closest(x, y, min(CANDIDATES, reference.rows))
    coordinates = [
        (c.discrete, _coordinate(queries, c.name, scale), _coordinate(reference, c.name, scale))
        for c in queries.columns
    ]
    squared, squared_back = np.zeros(index.shape), np.zeros(len(back))
    for discrete, one, two in coordinates:
        squared += _apart(discrete, one[:, None], two[index])
        squared_back += _apart(discrete, one[back], two)
    order = np.argsort(squared, axis=1, kind="stable")[:, : min(2, index.shape[1])]
    found = np.sqrt(np.take_along_axis(squared, order, 1))
    row = np.take_along_axis(index, order[:, :1], 1)[:, 0]
    return Distances(found[:, 0], found[:, -1], row), np.sqrt(squared_back)


def _apart(discrete: bool, one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """What one column adds to the squared distance."""
    difference = one - two
    apart = (difference != 0).astype(np.float64) if discrete else difference**2
    return np.where(np.isnan(difference), np.isnan(one) != np.isnan(two), apart)


def closest(x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """int64 (X, count): the rows of y nearest to each row of x, nearest first; int64 (Y,): the row of x
    nearest to each row of y. Euclidean, in float32: rows that are nearly as near may change places.
    """
    index, back = np.zeros((len(x), count), np.int64), np.zeros(len(y), np.int64)
    best = np.full(len(y), np.inf, np.float32)
    y_norms = (y * y).sum(axis=1) / 2
    step = max(1, CHUNK_CELLS // len(y))
    for start in range(0, len(x), step):
        part = x[start : start + step]
        half_squares = y_norms + (part * part).sum(axis=1, keepdims=True) / 2 - part @ y.T
        nearer = np.flatnonzero(half_squares.min(axis=0) < best)
        rows = half_squares[:, nearer].argmin(axis=0)
        best[nearer], back[nearer] = half_squares[rows, nearer], start + rows
        every = np.arange(len(part))
        for k in range(count):
            index[start : start + step, k] = found = half_squares.argmin(axis=1)
            half_squares[every, found] = np.inf
    return index, back


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
