"""Enter: real and synthetic rows.
Leave: alpha-precision (are synthetic rows where real rows are?) and beta-recall (are real rows all reached?).

After Alaa et al., "How Faithful is your Synthetic Data?", ICML 2022, on ranks and one-hot categories
instead of a learnt embedding.
"""

from __future__ import annotations

import numpy as np

from nemo_tabular.evaluate.distances import closest, search_vectors
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable

MAX_ROWS = 10_000
LEVELS = np.linspace(0, 1, 31)[1:]
MIN_ROWS, RESAMPLES = 50, 100


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
    draws = np.vstack([np.ones(rows), rng.poisson(1.0, (RESAMPLES, rows))]).astype(np.float32)
    figures = {"alpha_precision": _score(_inside(x, y), draws), "beta_recall": _score(_reached(x, y), draws)}
    return Findings(figures, notes=notes)


def _inside(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool (R, levels): whether each synthetic row y lies within each ball of the real rows x."""
    centre = x.mean(axis=0)
    radii = np.quantile(np.linalg.norm(x - centre, axis=1), LEVELS)
    return np.linalg.norm(y - centre, axis=1)[:, None] <= radii


def _reached(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """bool (R, levels): whether a synthetic row of each ball is as near to a real row as real ones are."""
    pairs = closest(x, x, 2)[0]  # each row itself, or its double, and the next
    to_real = np.linalg.norm(x[:, None] - x[pairs], axis=2).max(axis=1)
    nearest = closest(x, y, 1)[0][:, 0]
    reached = np.linalg.norm(x - y[nearest], axis=1) <= to_real
    from_centre = np.linalg.norm(y - y.mean(axis=0), axis=1)
    radii = np.quantile(from_centre, LEVELS)
    return (from_centre[nearest][:, None] <= radii) & reached[:, None]


def _score(hits: np.ndarray, draws: np.ndarray) -> Figure:
    """1 - 2 * mean |curve - diagonal|, with the spread over the bootstrap draws of the rows."""
    curves = draws @ hits.astype(np.float32) / draws.sum(axis=1, keepdims=True)
    scores = 1 - 2 * np.abs(curves - LEVELS).mean(axis=1)
    value, error = float(scores[0]), 1.96 * float(scores[1:].std())
    return Figure(value, value - error, min(value + error, 1.0))
