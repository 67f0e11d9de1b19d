"""Normal scores of a history's columns enter; the dependence between columns leaves, and scores that have it.

Each column's own forecast says how probable its values are; where a value stands in that distribution is its
score, a standard normal number. Scores of one row are correlated across columns (a Gaussian copula), and with
those of the row before: the history at hand says how much, and too few rows to say so say nothing. Columns
whose values are known fix their scores, and the scores of the others follow from them.

Shapes: C columns, T rows, P paths, G columns that are known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST = 4.0
"""Scores are cut off here: beyond it the tails of a forecast are guesswork."""
LEAST_ROWS = 8
LEAST_LEFT = 1e-6
"""Variance that no score loses, however well others tell it."""


@dataclass(frozen=True)
class Copula:
    """Scores of two rows in a row are jointly normal, each standard normal by itself."""

    carry: np.ndarray
    """(C, C): expected scores of a row, per score of the row before."""
    left: np.ndarray
    """(C, C): covariance of the scores of a row around that."""

    @classmethod
    def independent(cls, columns: int) -> Copula:
        """No dependence at all."""
        return cls(np.zeros((columns, columns)), np.eye(columns))

    @classmethod
    def fit(cls, scores_CT: np.ndarray, lagged: bool = True) -> Copula:
        """From the scores of a history, NaN where unknown.

        Correlations within a row, and those with the row before (`lagged`), are each shrunk towards none by
        the share of their squares that chance alone would make (Schaefer and Strimmer 2005): no setting.
        """
        columns = len(scores_CT)
        scores = np.clip(scores_CT, -MOST, MOST)
        same = _shrunk(_correlation(scores, scores), np.isfinite(scores).all(0).sum(), np.eye(columns))
        if not lagged:
            return cls(np.zeros((columns, columns)), same)
        before = _correlation(scores[:, 1:], scores[:, :-1])
        before = _shrunk(before, np.isfinite(scores).all(0).sum() - 1, np.zeros((columns, columns)))
        carry = before @ np.linalg.inv(same)
        return cls(carry, _positive(same - carry @ before.T))

    def draw(
        self, before_CP: np.ndarray, normal_CP: np.ndarray, known: Sequence[int], score_GP: np.ndarray
    ) -> np.ndarray:
        """Scores (C, P) of one row from those of the row before and independent standard normal numbers;
        those of the columns `known` are fixed, and the others follow from them.
        """
        known = list(known)
        free = [c for c in range(len(normal_CP)) if c not in known]
        out = self.carry @ np.clip(before_CP, -MOST, MOST)
        cross = self.left[np.ix_(free, known)]
        weights = cross @ np.linalg.inv(self.left[np.ix_(known, known)])
        root = np.linalg.cholesky(_positive(self.left[np.ix_(free, free)] - weights @ cross.T))
        news_GP = np.clip(score_GP, -MOST, MOST) - out[known]
        out[free] += weights @ news_GP + root @ normal_CP[free]
        out[known] = score_GP
        return out


def _correlation(one_CT: np.ndarray, two_CT: np.ndarray) -> np.ndarray:
    """(C, C) of standard normal scores, over the rows where all are known; 0 where there are too few."""
    both = np.isfinite(one_CT).all(0) & np.isfinite(two_CT).all(0)
    if both.sum() < LEAST_ROWS:
        return np.zeros((len(one_CT), len(two_CT)))
    one, two = (x[:, both] - x[:, both].mean(1, keepdims=True) for x in (one_CT, two_CT))
    size = np.sqrt((one**2).sum(1))[:, None] * np.sqrt((two**2).sum(1))
    return np.divide(one @ two.T, size, out=np.zeros(size.shape), where=size > 0)


def _shrunk(correlation: np.ndarray, rows: int, target: np.ndarray) -> np.ndarray:
    """Towards `target`, off whose diagonal (or everywhere, if it is 0) there is no correlation."""
    counted = ~np.eye(len(target), dtype=bool) | (target == 0).all()
    square = correlation[counted] ** 2
    chance = ((1 - square) ** 2 / max(rows - 1, 1)).sum()
    share = min(1.0, chance / max(square.sum(), 1e-12))
    out = (1 - share) * correlation
    return np.where(counted, out, target)


def _positive(matrix: np.ndarray) -> np.ndarray:
    """The nearest covariance matrix whose smallest eigenvalue is not below `LEAST_LEFT`."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.maximum(values, LEAST_LEFT)) @ vectors.T
