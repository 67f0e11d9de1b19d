"""Enter: real and synthetic rows.
Leave: alpha-precision (are synthetic rows where real rows are?) and beta-recall (are real rows all reached?).

After Alaa et al., "How Faithful is your Synthetic Data?", ICML 2022, on ranks and one-hot categories
instead of a learnt embedding.
"""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from nemo_tabular.evaluate.distances import search_vectors
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable

MAX_ROWS = 10_000
LEVELS = np.linspace(0, 1, 31)[1:]
MIN_ROWS = 50


def measure_coverage(real: CodedTable, synthetic: CodedTable, *, seed: int = 0) -> Findings:
    """Both scores are 1 - 2 * mean |curve - diagonal| over the levels alpha (beta), as in the authors' code.

    The alpha-support of a table is the ball around its mean that holds the share alpha of its rows. P(alpha)
    is the share of synthetic rows within the real alpha-support. R(beta) is the share of real rows that have
    a synthetic row of the synthetic beta-support nearer than their nearest real neighbour; of as many fresh
    rows every second does, so that real rows score about 0.5.
    """
    rng = np.random.default_rng(seed)
    rows = min(MAX_ROWS, real.rows, synthetic.rows)
    if rows < MIN_ROWS:
        return Findings(
            notes=(f"precision and recall: {rows} rows are too few, {MIN_ROWS} are needed; left out",)
        )
    scale = real
    real, synthetic = real.sample(rows, rng), synthetic.sample(rows, rng)
    x, y = (search_vectors(t, scale) for t in (real, synthetic))
    notes = (f"precision and recall: {rows:,} rows of train and synthetic",) if rows == MAX_ROWS else ()
    figures = {"alpha_precision": Figure(_precision(x, y)), "beta_recall": Figure(_recall(x, y))}
    return Findings(figures, notes=notes)


def _precision(x: np.ndarray, y: np.ndarray) -> float:
    centre = x.mean(axis=0)
    radii = np.quantile(np.linalg.norm(x - centre, axis=1), LEVELS)
    inside = (np.linalg.norm(y - centre, axis=1)[:, None] <= radii).mean(axis=0)
    return float(1 - 2 * np.abs(inside - LEVELS).mean())


def _recall(x: np.ndarray, y: np.ndarray) -> float:
    to_real = NearestNeighbors(n_neighbors=2, algorithm="brute").fit(x).kneighbors(x)[0][:, 1]
    to_synthetic, nearest = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(y).kneighbors(x)
    reached = to_synthetic[:, 0] <= to_real
    from_centre = np.linalg.norm(y - y.mean(axis=0), axis=1)
    radii = np.quantile(from_centre, LEVELS)
    curve = ((from_centre[nearest[:, 0]][:, None] <= radii) & reached[:, None]).mean(axis=0)
    return float(1 - 2 * np.abs(curve - LEVELS).mean())
