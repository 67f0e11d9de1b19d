"""Numbers of a series in time enter; what each deviates from its own past leaves, as a residual and as a bin
of it, and comes back exactly.

A residual is `(value - anchor) / scale`. The anchor says where the past lets the value be expected, the scale
how far from it; both are functions of the past alone, so whoever knows the past can go back. A network that
reads residuals sees series of any level and unit alike, which levels under one scaler do not allow.

Shapes: N series, T rows, L lags, F features, K bins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

from ..errors import CodecError
from .autoregression import LAGS, autoregressions, corrected, shifted

Anchor = Literal["level", "previous", "nearest", "ar1", "ar"]
ANCHORS: tuple[Anchor, ...] = ("level", "previous", "nearest", "ar1", "ar")
FEATURES = 6
"""Numbers beside each value that its prediction may look at: see `Cursor.features`."""
OUTLIER = 5.0
"""One wild value raises the running volatility by no more than a deviation of so many scales."""
CALMEST = 0.01
"""The running scale falls no lower than this share of the context's."""
STATISTICS = 256
"""Rows that statistics are made from, at most: hardly more than where the network was trained."""
FARTHEST = 6.0
"""Features are cut off here: arcsinh of 200 deviations."""


@dataclass(frozen=True)
class ResidualCodec:
    """How one column is read. Frozen; JSON by `to_json`."""

    anchor: Anchor = "nearest"
    """level: the context's mean. previous: the value before. nearest: whichever of the two is nearer, by the
    context's autocorrelation. ar1: between them, by the autocorrelation itself. ar: an autoregression on the
    last few values, its order by BIC."""
    log: bool = False
    """Read the logarithm: for positive columns whose changes are proportional."""
    season: int = 0
    """Read the difference from the value so many rows before; 0: none."""
    volatility: float = 0.5
    """Share of the running volatility in the squared scale; the rest is the context's."""
    decay: float = 0.9
    """Of the running volatility, a row."""
    decimals: int | None = None
    """Values are rounded to so many decimals on the way back; None: as they are."""

    def __post_init__(self) -> None:
        if self.anchor not in ANCHORS:
            raise CodecError(f"anchor {self.anchor!r} is unknown: expected one of {', '.join(ANCHORS)}")
        if self.season < 0 or not 0 <= self.volatility <= 1 or not 0 <= self.decay < 1:
            raise CodecError(
                f"season {self.season}, volatility {self.volatility}, decay {self.decay}: expected a season "
                "of 0 or more rows, a share of 0 to 1, and a decay from 0 to below 1"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them."""
        return asdict(self)

    @classmethod
    def from_json(cls, params: dict[str, Any]) -> ResidualCodec:
        """The inverse of `to_json`. Raises CodecError for what is not one."""
        try:
            return cls(**params)
        except TypeError as error:
            raise CodecError(f"residual codec: {error}") from None


@dataclass(frozen=True)
class Bins:
    """Residuals <-> bins, evenly spaced on the arcsinh scale: fine in the middle, wide in the tails."""

    count: int = 128
    largest: float = 15.0
    """Residuals beyond it fall into the outermost bins."""

    @property
    def width(self) -> float:
        """Of a bin, on the arcsinh scale."""
        return 2 * float(np.arcsinh(self.largest)) / self.count

    def encode(self, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int64 bins, and where in its bin each residual lies: in [0, 1) unless beyond the outermost."""
        place = (np.arcsinh(residual) + np.arcsinh(self.largest)) / self.width
        code = np.clip(np.floor(np.nan_to_num(place)), 0, self.count - 1).astype(np.int64)
        return code, place - code

    def decode(self, code: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Residuals; `inside` uniform in [0, 1) draws them within their bins."""
        return np.sinh((code + inside) * self.width - np.arcsinh(self.largest))

    def density(self, residual: np.ndarray) -> np.ndarray:
        """d(place in the bin) / d(residual): turns a bin's probability into a density."""
        return 1 / (self.width * np.sqrt(1 + residual**2))

    @property
    def middles(self) -> np.ndarray:
        """Residual in the middle of each bin."""
        return self.decode(np.arange(self.count), np.full(self.count, 0.5))


@dataclass(frozen=True)
class Context:
    """What the codecs found in the rows they were shown: arrays (N,), one entry a series."""

    mean: np.ndarray
    spread: np.ndarray
    """Standard deviation of the level."""
    weights: np.ndarray
    """(N, L): of the values before in the anchor, the latest first; the mean has the rest."""
    scale: np.ndarray
    """Root mean square of value - anchor."""
    advice: np.ndarray
    """(N, L): weights of the autoregression that the rows suggest, whatever the anchor."""
    log: np.ndarray
    season: np.ndarray
    volatility: np.ndarray
    decay: np.ndarray
    decimals: tuple[int | None, ...] = field(default=())

    def take(self, index: np.ndarray) -> Context:
        """The series of these numbers, also repeatedly."""
        arrays = {k: v[index] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return replace(self, **arrays, decimals=tuple(self.decimals[i] for i in index))

    def forward(self, values: np.ndarray) -> np.ndarray:
        """Values (N, ...) as they are read: of the columns with `log` the logarithm, and what has none (rows
        older than those of the statistics may be 0) as missing."""
        logs = _along(self.log, values)
        positive = np.where(values > 0, values, np.nan)
        return np.where(logs, np.log(np.where(logs, positive, 1.0)), values)

    def backward(self, read: np.ndarray) -> np.ndarray:
        """The inverse of `forward`, rounded to the columns' decimals."""
        logs = _along(self.log, read)
        values = np.where(logs, np.exp(np.where(logs, read, 0.0)), read)
        for decimals in set(self.decimals):
            if decimals is not None:
                rows = np.array([d == decimals for d in self.decimals])
                values[rows] = np.round(values[rows], decimals)
        return values


def context_of(codecs: Sequence[ResidualCodec], values_NT: np.ndarray) -> Context:
    """Statistics of the rows at hand, one codec a series; NaN where a value is missing.

    Raises CodecError for a value that is not positive where the logarithm is to be read, for infinite ones,
    and for fewer than two values.
    """
    log = np.array([c.log for c in codecs])
    if np.isinf(values_NT).any():
        raise CodecError("infinite values have no residual; give them as missing")
    if (values_NT[log] <= 0).any():
        raise CodecError("a column with `log` has values of 0 or below: read it without")
    if (np.isfinite(values_NT).sum(1) < 2).any():
        raise CodecError("a series needs at least two values that are not missing")
    season = np.array([c.season for c in codecs])
    level_NT = values_NT.astype(float)
    level_NT[log] = np.log(level_NT[log])
    level_NT = _less_season(level_NT, season)
    mean, spread = np.nanmean(level_NT, 1), np.nanstd(level_NT, 1)
    spread = np.maximum(spread, 1e-8 * np.maximum(np.abs(mean), 1.0))
    off_NT = level_NT - mean[:, None]
    advice = autoregressions(off_NT)
    weights = _weights(codecs, off_NT, advice)
    square = _residual(off_NT, weights) ** 2
    scale = np.sqrt(np.nansum(square, 1) / np.maximum(np.isfinite(square).sum(1), 1))
    return Context(
        mean=mean,
        spread=spread,
        weights=weights,
        scale=scale + 1e-6 * spread,
        advice=advice,
        log=log,
        season=season,
        volatility=np.array([c.volatility for c in codecs]),
        decay=np.array([c.decay for c in codecs]),
        decimals=tuple(c.decimals for c in codecs),
    )


def _weights(codecs: Sequence[ResidualCodec], off_NT: np.ndarray, advice_NL: np.ndarray) -> np.ndarray:
    """(N, L): of the last values in the anchor."""
    kind = np.array([c.anchor for c in codecs])
    before, now = off_NT[:, :-1], off_NT[:, 1:]
    both = np.isfinite(before) & np.isfinite(now)
    product = np.where(both, before * now, 0.0).sum(1)
    rho = np.clip(product / (np.where(both, before**2, 0.0).sum(1) + 1e-300), 0, 1)
    out = np.zeros((len(off_NT), LAGS))
    out[:, 0] = np.select(
        [kind == "previous", kind == "nearest", kind == "ar1"], [1.0, rho > 0.5, corrected(rho, both.sum(1))]
    )
    return np.where(kind[:, None] == "ar", advice_NL, out)


def _residual(off_NT: np.ndarray, weights_NL: np.ndarray) -> np.ndarray:
    """(N, T): deviations from the anchor; NaN where a value that it needs is missing."""
    out = off_NT.copy()
    for lag, weight in enumerate(weights_NL.T, 1):
        out -= np.where(weight[:, None] == 0, 0.0, weight[:, None] * shifted(off_NT, lag))
    out[:, :1] = np.nan  # nothing comes before it
    return out


def _less_season(read_NT: np.ndarray, season: np.ndarray) -> np.ndarray:
    """Differences from the value a season before; those of the first season do not exist."""
    out = read_NT.copy()
    for length in np.unique(season[season > 0]):
        rows = season == length
        out[rows, :length] = np.nan
        out[rows, length:] = read_NT[rows, length:] - read_NT[rows, :-length]
    return out


class Cursor:
    """Walks along N series, row by row: says anchor and scale of the next row, then takes its value.

    The one place where values become residuals and residuals values, in training and in sampling alike.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.levels = np.repeat(context.mean[:, None], LAGS, 1)  # of the rows before, the latest first
        self.variance = context.scale**2
        self.before = np.zeros((2, len(context.mean)))  # residuals of the two rows before
        self._past: list[np.ndarray] = []  # read values, as many as the longest season
        self._keep = int(context.season.max(initial=0))
        self._next()

    def take(self, index: np.ndarray) -> Cursor:
        """A cursor on the series of these numbers, also repeatedly; this one stays where it is."""
        other = object.__new__(Cursor)
        other.context, other._keep = self.context.take(index), self._keep
        other.levels, other.variance = self.levels[index], self.variance[index]
        other.before = self.before[:, index]
        other._past = [row[index] for row in self._past]
        other._next()
        return other

    def _next(self) -> None:
        c = self.context
        self._off = self.levels - c.mean[:, None]
        self.anchor = c.mean + (c.weights * self._off).sum(1)
        square = (1 - c.volatility) * c.scale**2 + c.volatility * self.variance
        self.scale = np.maximum(np.sqrt(square), CALMEST * c.scale)

    def _season(self) -> np.ndarray:
        """The value a season before the next row; 0 without a season, or before there is one."""
        c, out = self.context, np.zeros(len(self.levels))
        for length in np.unique(c.season[c.season > 0]):
            if len(self._past) >= length:
                rows = c.season == length
                out[rows] = np.nan_to_num(self._past[-length][rows])
        return out

    def features(self) -> np.ndarray:
        """(N, F): where the level stands, the last two residuals, the running scale, how far the anchor
        follows the level, and how far from the anchor an autoregression expects the row."""
        c = self.context
        out = np.empty((len(self.levels), FEATURES))
        out[:, 0] = np.arcsinh(self._off[:, 0] / c.spread)
        out[:, 1:3] = np.arcsinh(self.before).T
        out[:, 3] = np.log(self.scale / c.scale)
        out[:, 4] = c.weights.sum(1)
        out[:, 5] = np.arcsinh(((c.advice - c.weights) * self._off).sum(1) / self.scale)
        return np.clip(out, -FARTHEST, FARTHEST)

    def residual(self, read: np.ndarray) -> np.ndarray:
        """Residuals (N,) of the next row's values as they are read; NaN where missing."""
        return (read - self._season() - self.anchor) / self.scale

    def read(self, residual: np.ndarray) -> np.ndarray:
        """The inverse of `residual`."""
        return residual * self.scale + self.anchor + self._season()

    def advance(self, read: np.ndarray) -> None:
        """Take the next row's values. A missing one counts as the anchor, and leaves the volatility alone."""
        c = self.context
        season = self._season()
        level = read - season
        known = np.isfinite(level)
        if self._keep and len(self._past) < self._keep:  # the first season has nothing to differ from
            known &= (c.season == 0) | (len(self._past) >= c.season)
        off = np.where(known, level - self.anchor, 0.0)
        square = np.minimum(off**2, (OUTLIER * c.scale) ** 2)
        self.variance = np.where(known, c.decay * self.variance + (1 - c.decay) * square, self.variance)
        self.before = np.stack([off / self.scale, self.before[0]])
        self.levels = np.concatenate([(self.anchor + off)[:, None], self.levels[:, :-1]], 1)
        if self._keep:
            whole = np.where(np.isfinite(read), read, self.anchor + season)
            self._past = [*self._past[-self._keep + 1 :], whole] if self._keep > 1 else [whole]
        self._next()


def encode(context: Context, values_NT: np.ndarray) -> tuple[np.ndarray, np.ndarray, Cursor]:
    """Residuals (N, T), NaN where missing; features (N, T, F); the cursor, standing after the last row."""
    read_NT = context.forward(values_NT)
    cursor = Cursor(context)
    residual_NT = np.empty(read_NT.shape)
    features_NTF = np.empty((*read_NT.shape, FEATURES))
    for t in range(read_NT.shape[1]):
        features_NTF[:, t] = cursor.features()
        residual_NT[:, t] = cursor.residual(read_NT[:, t])
        cursor.advance(read_NT[:, t])
    return residual_NT, features_NTF, cursor


def residuals(
    codecs: Sequence[ResidualCodec], shown_NT: np.ndarray, values_NT: np.ndarray
) -> tuple[np.ndarray, np.ndarray, Cursor]:
    """As `encode`, with statistics of the rows `shown`; those of a first season, which has nothing to differ
    from, count as missing."""
    residual, features, cursor = encode(context_of(codecs, shown_NT), values_NT)
    for n, codec in enumerate(codecs):
        residual[n, : codec.season] = np.nan
    return residual, features, cursor


def decode(context: Context, residual_NT: np.ndarray, cursor: Cursor | None = None) -> np.ndarray:
    """The inverse of `encode`: values (N, T), from where `cursor` stands (default: the first row)."""
    cursor = Cursor(context) if cursor is None else cursor.take(np.arange(len(residual_NT)))
    values_NT = np.empty(residual_NT.shape)
    for t in range(residual_NT.shape[1]):
        values_NT[:, t] = context.backward(cursor.read(residual_NT[:, t]))
        cursor.advance(context.forward(values_NT[:, t]))  # as rounded: errors do not add up
    return values_NT


def decimals_of(values: np.ndarray, most: int = 9) -> int | None:
    """Decimals that write every value exactly; None where more than `most` are needed."""
    known = values[np.isfinite(values)]
    for decimals in range(most + 1):
        if np.array_equal(np.round(known, decimals), known):
            return decimals
    return None


def _along(per_series: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Shape (N,) as (N, 1, ...), to meet `values`."""
    return np.broadcast_to(per_series.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
