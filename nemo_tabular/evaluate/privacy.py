"""Enter: train, test and synthetic rows.
Leave: signs that synthetic rows repeat training rows, beside held-out rows (must pass) and train (must fail).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemo_tabular.evaluate.detection import auc_and_variance
from nemo_tabular.evaluate.distances import Distances, nearest
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, Tables

MAX_REFERENCE = 20_000
MAX_QUERIES = 20_000
REFERENCE_SHARE = 0.6
"""Of the test rows, this part is the reference and the rest plays the synthetic table that must pass."""
MIN_ROWS = 50


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
    natural = nearest(reference.held_out.sample(MAX_QUERIES, rng), reference.train, tables.train)
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
    to_train = nearest(queries, reference.train, reference.scale)
    to_test = nearest(queries, reference.test, reference.scale)
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
    inside = nearest(reference.train, synthetic, reference.scale).first
    outside = nearest(reference.test, synthetic, reference.scale).first
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    auc, variance = auc_and_variance(labels, -np.concatenate([inside, outside]))
    error = 1.96 * float(np.sqrt(variance))
    return Figure(auc, auc - error, auc + error)
