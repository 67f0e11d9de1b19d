"""Enter: train, test and synthetic rows.
Leave: signs that synthetic rows repeat training rows, beside held-out rows (must pass) and train (must fail).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors

from nemo_tabular.evaluate.detection import auc_and_variance
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, Tables

MAX_REFERENCE = 20_000
MAX_QUERIES = 20_000
REFERENCE_SHARE = 0.6
"""Of the test rows, this part is the reference and the rest plays the synthetic table that must pass."""
MIN_ROWS = 50
CANDIDATES = 5
ONE_HOT_LEVELS = 64
SKETCH = 32
"""A category of more than ONE_HOT_LEVELS levels enters the search as random vectors of this length."""


@dataclass(frozen=True)
class Distances:
    """From each query row to the reference rows: nearest and second nearest, float64 (R,)."""

    first: np.ndarray
    second: np.ndarray


@dataclass(frozen=True)
class Reference:
    """As many training rows as test rows to measure distances to, and real rows that are in neither."""

    train: CodedTable
    test: CodedTable
    held_out: CodedTable
    scale: CodedTable
    """Rows that give the numbers' ranks: all of train."""


def measure_privacy(tables: Tables, *, seed: int = 0) -> tuple[Findings, Findings, Findings]:
    """Findings for the synthetic rows, for held-out rows (the ceiling) and for train itself (the floor)."""
    rng = np.random.default_rng(seed)
    copies = copy_shares(tables)
    if min(tables.test.rows, tables.train.rows) < MIN_ROWS or tables.synthetic.rows < 2:
        note = f"privacy: distances need {MIN_ROWS} rows of train and test; only exact copies are counted"
        return Findings(copies[0], notes=(note,)), Findings(copies[1]), Findings(copies[2])
    size = min(MAX_REFERENCE, tables.train.rows, int(tables.test.rows * REFERENCE_SHARE))
    test = tables.test.sample(tables.test.rows, rng)
    reference = Reference(
        tables.train.sample(size, rng),
        test.take(np.arange(size)),
        test.take(np.arange(size, test.rows)),
        tables.train,
    )
    natural = _nearest(reference.held_out.sample(MAX_QUERIES, rng), reference.train, tables.train)
    subjects = (tables.synthetic, reference.held_out, tables.train)
    found = [_distance_figures(s.sample(MAX_QUERIES, rng), reference, natural) for s in subjects]
    return (
        Findings({**copies[0], **found[0]}, notes=(_statement(tables, size),)),
        Findings({**copies[1], **found[1]}),
        Findings({**copies[2], **found[2]}),
    )


def _statement(tables: Tables, size: int) -> str:
    queries = min(MAX_QUERIES, tables.synthetic.rows)
    return (
        f"privacy: distances of {queries:,} of {tables.synthetic.rows:,} synthetic rows to {size:,} of "
        f"{tables.train.rows:,} training rows and as many test rows"
    )


# ---------------------------------------------------------------- exact copies


def copy_shares(tables: Tables) -> tuple[dict[str, Figure], dict[str, Figure], dict[str, Figure]]:
    """Share of rows that equal a training row, for synthetic, test and train."""
    train = np.unique(tables.train.row_hashes())
    shares = [_share_in(t, train) for t in (tables.synthetic, tables.test, tables.train)]
    return {"copies": shares[0]}, {"copies": shares[1]}, {"copies": shares[2]}


def _share_in(table: CodedTable, hashes: np.ndarray) -> Figure:
    share = float(np.isin(table.row_hashes(), hashes).mean())
    return _proportion(share, table.rows)


def overlap(tables: Tables) -> tuple[float, float]:
    """Share of test rows that equal a training row, and of train rows that equal another training row."""
    _, counts = np.unique(tables.train.row_hashes(), return_counts=True)
    natural = float(counts[counts > 1].sum() / counts.sum())
    return copy_shares(tables)[1]["copies"].value, natural


def _proportion(share: float, rows: int) -> Figure:
    """With the Wilson interval, which stays sensible at 0 and 1."""
    z2 = 1.96**2
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = np.sqrt(share * (1 - share) * z2 / rows + z2 * z2 / (4 * rows * rows)) / (1 + z2 / rows)
    return Figure(share, min(share, float(centre - half)), max(share, float(centre + half)))


# ---------------------------------------------------------------- distances


def _distance_figures(queries: CodedTable, reference: Reference, natural: Distances) -> dict[str, Figure]:
    to_train = _nearest(queries, reference.train, reference.scale)
    to_test = _nearest(queries, reference.test, reference.scale)
    closer = float(np.mean(to_train.first < to_test.first) + np.mean(to_train.first == to_test.first) / 2)
    near = np.quantile(natural.first, 0.01)
    ratio = np.divide(to_train.first, to_train.second, out=np.ones(queries.rows), where=to_train.second > 0)
    return {
        "dcr_share": _proportion(closer, queries.rows),
        "near_copies": _proportion(float(np.mean(to_train.first < near)), queries.rows),
        "nndr": Figure(float(np.median(ratio))),
        "membership": _membership(queries, reference),
    }


def _membership(synthetic: CodedTable, reference: Reference) -> Figure:
    """AUC of -distance to the nearest synthetic row, members (train) against strangers (test)."""
    inside = _nearest(reference.train, synthetic, reference.scale).first
    outside = _nearest(reference.test, synthetic, reference.scale).first
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    auc, variance = auc_and_variance(labels, -np.concatenate([inside, outside]))
    error = 1.96 * float(np.sqrt(variance))
    return Figure(auc, auc - error, auc + error)


def _nearest(queries: CodedTable, reference: CodedTable, scale: CodedTable) -> Distances:
    """Squared distance, by column: the squared difference of ranks within train for numbers, 1 for unequal
    categories and for missing against present. float32 products find candidates, float64 differences judge.
    """
    count = min(CANDIDATES, reference.rows)
    search = NearestNeighbors(n_neighbors=count, algorithm="brute").fit(_search_vectors(reference, scale))
    index = search.kneighbors(_search_vectors(queries, scale), return_distance=False)
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


def _search_vectors(table: CodedTable, scale: CodedTable) -> np.ndarray:
    """float32 (R, features) whose Euclidean distances are those of `_nearest`, nearly for long categories."""
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
