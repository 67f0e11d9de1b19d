"""Series enter; windows of them leave, as the forecasting network learns from them: statistics from the rows
before an origin, then rows that are read, then rows from the origin on that are scored.

So the network learns to forecast with statistics that have not seen the future.

Shapes: N windows, T rows of a window, F features, C columns of a history, O origins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..codecs.residual import Bins, ResidualCodec, residuals
from ..engine.ranks import device
from ..models.series import SeriesBatch, before_bins

CONTEXTS = (32, 64, 120, 200)
"""Rows that statistics are made from."""
WILD = 60.0
"""Nothing is learnt from a window with a residual beyond this: too few rows, or a broken simulation."""
LEAST_KNOWN = 8
"""Values that statistics can be made from."""
AT_ONCE = 256


@dataclass(frozen=True)
class Windows:
    """Ready to learn from. Shapes (N, T) and (N, T, F), row by row as in `SeriesBatch`."""

    before: np.ndarray
    features: np.ndarray
    target: np.ndarray
    scored: np.ndarray

    def batch(self, index: np.ndarray) -> SeriesBatch:
        """The windows of these numbers."""

        def there(x: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(np.ascontiguousarray(x[index].swapaxes(0, 1))).to(device())

        return SeriesBatch(there(self.before), there(self.features), there(self.target), there(self.scored))

    def take(self, index: np.ndarray) -> "Windows":
        """Those of these numbers only."""
        return Windows(*(x[index] for x in vars(self).values()))


def joined(parts: Sequence[Windows]) -> Windows:
    """All of them, in this order."""
    columns = ("before", "features", "target", "scored")
    return Windows(*(np.concatenate([getattr(part, c) for part in parts]) for c in columns))


def windows(
    values_NT: np.ndarray, codecs: Sequence[ResidualCodec], shown: int, read: int, bins: Bins
) -> Windows:
    """One window a series. Statistics are made from the first `shown` rows; the last `read` of those are in
    the window, and all rows after them are scored, but for missing values."""
    residual, features, _cursor = residuals(codecs, values_NT[:, :shown], values_NT)
    last = slice(shown - read, None)
    scored = np.isfinite(residual) & (np.abs(np.nan_to_num(residual)) < WILD).all(1, keepdims=True)
    scored[:, :shown] = False
    code, _inside = bins.encode(residual[:, last])
    before = before_bins(residual[:, last], bins)[:, :-1]
    return Windows(before, features[:, last].astype(np.float32), code, scored[:, last].astype(np.float32))


def history_windows(
    values_CT: np.ndarray,
    codecs: Sequence[ResidualCodec],
    origins: np.ndarray,
    end: int,
    rows: int,
    scored: int,
    bins: Bins,
) -> list[Windows]:
    """Windows of `rows` rows, the last `scored` of them scored, of every column at every origin, in parts
    that are to be joined. Nothing from row `end` on is read.

    Statistics are made from as many rows as one of `CONTEXTS`, so that many origins are encoded at once;
    origins with fewer rows before them than a window reads are left out.
    """
    padded_CT = np.pad(values_CT[:, :end].astype(float), ((0, 0), (0, scored)), constant_values=np.nan)
    contexts = [count for count in CONTEXTS if count >= rows - scored]
    parts = []
    for shown, more in zip(contexts, [*contexts[1:], end + 1], strict=True):
        group = origins[(origins >= shown) & (origins < more)]
        for some in (group[i : i + AT_ONCE] for i in range(0, len(group), AT_ONCE)):
            values_NT = padded_CT[:, some[:, None] + np.arange(-shown, scored)].reshape(-1, shown + scored)
            every = [codec for codec in codecs for _ in some]
            usable = np.flatnonzero(_usable(values_NT, every, shown))
            if len(usable):
                chosen = [every[i] for i in usable]
                parts.append(windows(values_NT[usable], chosen, shown, rows - scored, bins))
    return parts


def _usable(values_NT: np.ndarray, codecs: Sequence[ResidualCodec], shown: int) -> np.ndarray:
    """Which of these series have enough values for their codec."""
    log, season = (np.array([getattr(codec, name) for codec in codecs]) for name in ("log", "season"))
    known = np.isfinite(values_NT[:, :shown])
    enough = (known & (np.arange(shown) >= season[:, None])).sum(1) >= LEAST_KNOWN
    return enough & ~(log & (values_NT <= 0).any(1))
