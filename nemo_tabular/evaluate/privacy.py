"""Enter: train, test and synthetic rows.
Leave: signs that synthetic rows repeat training rows, beside held-out rows (must pass) and train (must fail).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nemo_tabular.evaluate.detection import auc_and_variance
from nemo_tabular.evaluate.distances import Distances, nearest, nearest_both_ways
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.singling import singling_out
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
    queries = [s.sample(MAX_QUERIES, rng) for s in subjects]
    found, distances = zip(*(_distance_figures(q, reference, natural) for q in queries), strict=True)
    singled = [_singling_figures(q, reference, seed) for q in queries]
    quantiles = [np.quantile(d, np.linspace(0, 1, 201)) for d in distances]
    details = {"closest_records": dict(zip(("synthetic", "held_out", "train"), quantiles, strict=True))}
    return (
        Findings({**copies[0], **found[0], **singled[0]}, details, (_statement(tables, size),)),
        Findings({**copies[1], **found[1], **singled[1]}),
        Findings({**copies[2], **found[2], **singled[2]}),
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
    return proportion(share, table.rows)


def overlap(tables: Tables) -> tuple[float, float]:
    """Share of test rows that equal a training row, and of train rows that equal another training row."""
    _, counts = np.unique(tables.train.row_hashes(), return_counts=True)
    natural = float(counts[counts > 1].sum() / counts.sum())
    return copy_shares(tables)[1]["copies"].value, natural


def proportion(share: float, rows: int) -> Figure:
    """With the Wilson interval, which stays sensible at 0 and 1."""
    z2 = 1.96**2
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = np.sqrt(share * (1 - share) * z2 / rows + z2 * z2 / (4 * rows * rows)) / (1 + z2 / rows)
    return Figure(
        share, min(share, max(0.0, float(centre - half))), max(share, min(1.0, float(centre + half)))
    )


# ---------------------------------------------------------------- distances


def _distance_figures(
    queries: CodedTable, reference: Reference, natural: Distances
) -> tuple[dict[str, Figure], np.ndarray]:
    """The figures, and each query's distance to its closest training row."""
    to_train, members = nearest_both_ways(queries, reference.train, reference.scale)
    to_test, strangers = nearest_both_ways(queries, reference.test, reference.scale)
    near = np.quantile(natural.first, 0.01)
    figures = {
        "dcr_share": _closer_share(to_train, to_test),
        "near_copies": proportion(float(np.mean(to_train.first < near)), queries.rows),
        "nndr": _median_ratio(to_train),
        "membership": _membership(members, strangers),
    }
    return figures, to_train.first


def _closer_share(to_train: Distances, to_test: Distances) -> Figure:
    """Share of the queries closer to train than to test, ties counted half.

    The interval counts the reference rows too: one of them may be the closest to many queries, so that as
    few of them decide a share as there are distinct closest rows.
    """
    closer = (to_train.first < to_test.first) + (to_train.first == to_test.first) / 2
    share, rows = float(closer.mean()), len(closer)
    won = np.bincount(to_train.row, weights=(1 - share) * closer)
    lost = np.bincount(to_test.row, weights=share * (1 - closer))
    clustered = (won**2).sum() + (lost**2).sum()
    error = 1.96 * float(np.sqrt(max(clustered, ((closer - share) ** 2).sum()))) / rows
    return Figure(share, max(share - error, 0.0), min(share + error, 1.0))


def _median_ratio(to_train: Distances) -> Figure:
    """Median of nearest / second nearest, with the interval that the order statistics give."""
    ratio = np.divide(
        to_train.first, to_train.second, out=np.ones(len(to_train.first)), where=to_train.second > 0
    )
    half = 0.98 / np.sqrt(len(ratio))
    low, value, high = np.quantile(ratio, [max(0.5 - half, 0), 0.5, min(0.5 + half, 1)])
    return Figure(float(value), float(low), float(high))


def _membership(members: np.ndarray, strangers: np.ndarray) -> Figure:
    """AUC of -distance to the nearest synthetic row, members (train) against strangers (test)."""
    labels = np.repeat([1, 0], [len(members), len(strangers)])
    auc, variance = auc_and_variance(labels, -np.concatenate([members, strangers]))
    error = 1.96 * float(np.sqrt(variance))
    return Figure(auc, auc - error, auc + error)


def _singling_figures(queries: CodedTable, reference: Reference, seed: int) -> dict[str, Figure]:
    figure = singling_out(queries, reference.train, reference.test, reference.scale, seed=seed)
    return {} if figure is None else {"singling_out": figure}
