"""The last rows of a table's columns enter, sampled paths of all columns together leave.

Column by column the network says how probable every next value is; the copula of the history says how the
columns move together; a column whose future is given conditions the others, up to each step and not beyond.
Path i depends on (seed, i) alone, whatever else is sampled.

Shapes: C columns, T rows of the history, H steps, P paths, K bins, W windows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..codecs.residual import STATISTICS, Bins, Cursor, ResidualCodec, residuals
from ..models.series import SavedForecaster, SeriesReader, before_bins
from ..uniforms import row_states, uniforms
from .copula import Copula

LONGEST = 512
"""Rows of a history that are looked at: its last ones. The dependence between columns is learnt from them."""
SURE = 1e-7
"""Probabilities are kept so far from 0 and 1, for the sake of their normal scores."""


@dataclass(frozen=True)
class Reading:
    """A history as the network reads it, and what was found in it."""

    codecs: Sequence[ResidualCodec]
    cursor: Cursor
    before_CT: np.ndarray
    features_CTF: np.ndarray
    copula: Copula
    last_C: np.ndarray
    """Bins of the last row."""
    score_C: np.ndarray
    """Normal scores of the last row."""


class PathSampler:
    """Samples paths of any table's numeric columns with one forecaster."""

    def __init__(self, model: SavedForecaster) -> None:
        self.model, self.reader = model, SeriesReader(model)

    def read(
        self, history_TC: np.ndarray, codecs: Sequence[ResidualCodec], dependent: bool = True
    ) -> Reading:
        """Encode a history, NaN where missing. Raises CodecError for columns without values."""
        values_CT = history_TC[-LONGEST:].T
        residual, features, cursor = residuals(codecs, values_CT[:, -STATISTICS:], values_CT)
        before = before_bins(residual, self.model.bins)  # of every row and the one to come
        copula = Copula.independent(len(codecs))
        score = np.zeros(len(codecs))
        if dependent and len(codecs) > 1:
            scores = normal_scores(self.places(residual, features))
            copula, score = Copula.fit(scores), np.nan_to_num(scores[:, -1])
        return Reading(codecs, cursor, before[:, :-1], features, copula, before[:, -1], score)

    def places(self, residual_CT: np.ndarray, features_CTF: np.ndarray) -> np.ndarray:
        """(C, T): where each row stood in its own one-step forecast, from 0 to 1."""
        return place_of(self._one_step(residual_CT, features_CTF), residual_CT, self.model.bins)

    def log_density(self, residual_CT: np.ndarray, features_CTF: np.ndarray) -> np.ndarray:
        """(C, T): log density of each residual in its own one-step forecast, NaN where missing."""
        code, _inside = self.model.bins.encode(residual_CT)
        low, high = ends_of(self._one_step(residual_CT, features_CTF), code)
        density = self.model.bins.density(np.nan_to_num(residual_CT))
        return np.where(np.isfinite(residual_CT), np.log((high - low) * density + 1e-300), np.nan)

    def _one_step(self, residual_CT: np.ndarray, features_CTF: np.ndarray) -> np.ndarray:
        """Cumulative probabilities (C, T, K) of single rows, each predicted from those before it."""
        total, window = residual_CT.shape[1], self.model.rows
        fresh = window // 2  # rows of each window that are judged: they have as many before them, or all
        before = before_bins(residual_CT, self.model.bins)[:, :-1]
        cumulative = []
        for start in range(0, total, fresh):
            rows = slice(max(0, start + fresh - window), min(total, start + fresh))
            found = self.reader.read(before[:, rows], features_CTF[:, rows])
            cumulative.append(found[:, start - rows.start :])
        return np.concatenate(cumulative, 1)

    def paths(
        self,
        reading: Reading,
        horizon: int,
        samples: int,
        seed: int,
        *,
        first_path: int = 0,
        given: Mapping[int, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Values (P, H, C). `given`: known values (H,) of columns, NaN where they are not known."""
        columns = len(reading.codecs)
        given = given or {}
        read = min(self.model.rows - min(horizon, self.model.rows // 2), reading.before_CT.shape[1])
        self.reader.read(reading.before_CT[:, -read:], reading.features_CTF[:, -read:])
        every = np.repeat(np.arange(columns), samples)
        cursor = reading.cursor.take(every)
        context = cursor.context
        state = row_states(seed, first_path, samples)
        before = np.repeat(reading.last_C[:, None], samples, 1)
        score = np.repeat(reading.score_C[:, None], samples, 1)
        out = np.empty((samples, horizon, columns))
        for h in range(horizon):
            cumulative = self.reader.step(before, cursor.features().reshape(columns, samples, -1))
            told = [c for c in sorted(given) if np.isfinite(given[c][h])]
            truth = np.repeat(np.array([given[c][h] for c in told])[:, None], samples, 1)
            residual = self._told_residual(cursor, told, truth, columns)
            fixed = normal_scores(place_of(cumulative[told], residual[told], self.model.bins))
            normal = np.stack([standard_normal(uniforms(state, h * columns + c)) for c in range(columns)])
            score = reading.copula.draw(score, normal, told, fixed)
            free = [c for c in range(columns) if c not in told]
            residual[free] = self._drawn(cumulative[free], normal_share(score[free]))
            values = context.backward(cursor.read(residual.reshape(-1))).reshape(columns, samples)
            values[told] = truth
            read_values = context.forward(values.reshape(-1))
            residual = cursor.residual(read_values).reshape(columns, samples)
            before, _inside = self.model.bins.encode(residual)
            cursor.advance(read_values)
            out[:, h] = values.T
        return out

    def _told_residual(
        self, cursor: Cursor, told: Sequence[int], truth_GP: np.ndarray, columns: int
    ) -> np.ndarray:
        """(C, P): residuals of the values that are given, 0 elsewhere."""
        paths = len(cursor.levels) // columns
        values = np.ones((columns, paths))
        values[told] = truth_GP
        residual = cursor.residual(cursor.context.forward(values.reshape(-1))).reshape(columns, paths)
        free = [c for c in range(columns) if c not in told]
        residual[free] = 0.0
        return residual

    def _drawn(self, cumulative_CPK: np.ndarray, share_CP: np.ndarray) -> np.ndarray:
        """Residuals at these shares of their distributions."""
        code = (cumulative_CPK < share_CP[..., None]).sum(-1).clip(0, self.model.bins.count - 1)
        low, high = ends_of(cumulative_CPK, code)
        inside = np.clip((share_CP - low) / np.maximum(high - low, 1e-300), 0, 1)
        return self.model.bins.decode(code, inside)


def ends_of(cumulative: np.ndarray, code: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cumulative probabilities at the two ends of bins."""
    high = np.take_along_axis(cumulative, code[..., None], -1)[..., 0]
    low = np.take_along_axis(cumulative, np.maximum(code - 1, 0)[..., None], -1)[..., 0]
    return np.where(code > 0, low, 0.0), high


def place_of(cumulative: np.ndarray, residual: np.ndarray, bins: Bins) -> np.ndarray:
    """Probability of a smaller residual; NaN where there is none."""
    code, inside = bins.encode(residual)
    low, high = ends_of(cumulative, code)
    place = low + (high - low) * np.clip(inside, 0, 1)
    return np.where(np.isfinite(residual), place, np.nan)


def normal_scores(place: np.ndarray) -> np.ndarray:
    """Standard normal numbers at these places."""
    return standard_normal(np.clip(place, SURE, 1 - SURE))


def standard_normal(uniform: np.ndarray) -> np.ndarray:
    """The inverse of the normal distribution function."""
    return torch.special.ndtri(torch.from_numpy(np.clip(uniform, SURE, 1 - SURE))).numpy()


def normal_share(score: np.ndarray) -> np.ndarray:
    """The normal distribution function."""
    return torch.special.ndtr(torch.from_numpy(score)).numpy()
