"""Finite floats enter; their image under a monotone, reversible map leaves, and the other way round.

The maps bend a column so that equal steps after them are useful steps before them; each is fitted on a
sample, frozen and JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

YEO_JOHNSON_ROWS = 20_000
"""Rows that the search for lambda looks at: its standard error is far below what changes a cell."""


def robust_scale(sample: np.ndarray) -> float:
    """Interquartile range; where it is 0, the standard deviation, the range, or 1. Never infinite."""
    if len(sample) == 0:
        return 1.0
    scaled = sample / (top := float(np.abs(sample).max()) or 1.0)  # 1e308 - -1e308 overflows
    low, high = np.quantile(scaled, [0.25, 0.75])
    for scale in (high - low, scaled.std(), scaled.max() - scaled.min()):
        if scale * top > 0:
            return min(float(scale * top), 1e300)
    return 1.0


@dataclass(frozen=True)
class Identity:
    """The value itself. "robust" is the same map up to an offset and a factor, which the grid has anyway."""

    kind: ClassVar[str] = "identity"
    linear: ClassVar[bool] = True

    @classmethod
    def fit(cls, sample: np.ndarray) -> Identity:
        """Nothing to learn."""
        return cls()

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x."""
        return x

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """t."""
        return t


@dataclass(frozen=True)
class Log1p:
    """sign(x) log(1 + |x| / scale): a constant relative step above `scale`, a constant step below it."""

    kind: ClassVar[str] = "log1p"
    linear: ClassVar[bool] = False
    scale: float = 1.0

    @classmethod
    def fit(cls, sample: np.ndarray) -> Log1p:
        """`scale` is the 1 % quantile of the magnitudes, but not above 1, so that ordinary amounts get plain
        log1p.
        """
        size = np.abs(sample[sample != 0])
        return cls(float(np.clip(np.quantile(size, 0.01), 1e-300, 1.0)) if len(size) else 1.0)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The map."""
        size = np.abs(x)
        # |x| / scale overflows for 1e308 / 1e-300; there log1p is the plain difference of logarithms.
        with np.errstate(over="ignore", divide="ignore"):
            t = np.log1p(size / self.scale)
            t = np.where(np.isfinite(t), t, np.log(size) - np.log(self.scale))
        return np.copysign(t, x)

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Its inverse."""
        size = np.abs(t)
        with np.errstate(over="ignore"):
            x = np.where(
                size < 700, np.expm1(np.minimum(size, 700)) * self.scale, np.exp(size + np.log(self.scale))
            )
        return np.copysign(np.minimum(x, np.finfo(np.float64).max), t)


WIDEST_LOG = 40 * float(np.log(2))
"""Of the image of a power transform, where the middle of a column is 1 wide: a grid has 50 bits."""


@dataclass(frozen=True)
class YeoJohnson:
    """Yeo and Johnson's power transform (Biometrika 2000), lambda by maximum likelihood."""

    kind: ClassVar[str] = "yeo-johnson"
    linear: ClassVar[bool] = False
    power: float
    centre: float = 0.0
    scale: float = 1.0

    @classmethod
    def fit(cls, sample: np.ndarray) -> YeoJohnson:
        """Golden-section search over lambda in [-3, 5] on a standardised sample.

        The range narrows to lambda = 1 where a power would stretch the tails so far that the middle falls
        into one step of the grid.
        """
        if len(sample) == 0:
            return cls(1.0)
        centre, scale = float(np.median(sample)), robust_scale(sample)
        few = sample[:: max(1, len(sample) // YEO_JOHNSON_ROWS)]
        z = (few - centre) / scale
        slope = float((np.sign(z) * np.log1p(np.abs(z))).mean())

        def loss(power: float) -> float:
            t = cls(power).forward(z)
            return 0.5 * float(np.log(max(t.var(), 1e-300))) - (power - 1) * slope

        most = float(np.clip(WIDEST_LOG / max(float(np.log1p(np.abs(z).max())), 1e-9), 1.0, 5.0))
        low, high, ratio = 2 - most, most, (5**0.5 - 1) / 2
        while high - low > 1e-3:
            a, b = high - ratio * (high - low), low + ratio * (high - low)
            low, high = (low, b) if loss(a) < loss(b) else (a, high)
        return cls(round((low + high) / 2, 3), centre, scale)

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The map."""
        z = (x - self.centre) / self.scale
        up = _power_log(np.maximum(z, 0), self.power)
        down = _power_log(np.maximum(-z, 0), 2 - self.power)
        return np.where(z >= 0, up, -down)

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Its inverse on the map's image."""
        up = _power_exp(np.maximum(t, 0), self.power)
        down = _power_exp(np.maximum(-t, 0), 2 - self.power)
        return np.where(t >= 0, up, -down) * self.scale + self.centre


def _power_log(z: np.ndarray, power: float) -> np.ndarray:
    """((1 + z)**power - 1) / power for z >= 0, without cancellation near 0."""
    return np.log1p(z) if abs(power) < 1e-6 else np.expm1(power * np.log1p(z)) / power


def _power_exp(t: np.ndarray, power: float) -> np.ndarray:
    if abs(power) < 1e-6:
        return np.expm1(np.minimum(t, 700))
    # Outside the image (t * power <= -1) there is no inverse; the clip leaves the fitted range.
    inside = np.maximum(t * power, -1 + 1e-16)
    return np.expm1(np.minimum(np.log1p(inside) / power, 700))


@dataclass(frozen=True)
class Quantile:
    """Piecewise linear rank of x: equal steps hold equal shares of the sample."""

    kind: ClassVar[str] = "quantile"
    linear: ClassVar[bool] = False
    knots: tuple[float, ...]
    ranks: tuple[float, ...]

    @classmethod
    def fit(cls, sample: np.ndarray, num_knots: int = 1000) -> Quantile:
        """Knots at the sample's quantiles, repeated ones merged at the middle of their ranks."""
        if len(sample) == 0:
            return cls((0.0, 1.0), (0.0, 1.0))
        ranks = np.linspace(0, 1, min(num_knots, max(2, len(sample))))
        all_knots = np.quantile(sample, ranks)
        knots, first, count = np.unique(all_knots, return_index=True, return_counts=True)
        if len(knots) == 1:
            return cls((float(knots[0]), float(np.nextafter(knots[0], np.inf))), (0.0, 1.0))
        middle = (ranks[first] + ranks[first + count - 1]) / 2
        middle[0], middle[-1] = 0.0, 1.0
        return cls(tuple(knots.tolist()), tuple(middle.tolist()))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """The map."""
        return np.interp(x, self.knots, self.ranks)

    def inverse(self, t: np.ndarray) -> np.ndarray:
        """Its inverse."""
        return np.interp(t, self.ranks, self.knots)


Transform = Identity | Log1p | YeoJohnson | Quantile

TRANSFORMS: dict[str, type[Transform]] = {
    "identity": Identity,
    "robust": Identity,
    "log1p": Log1p,
    "yeo-johnson": YeoJohnson,
    "quantile": Quantile,
}


def transform_to_json(transform: Transform) -> dict[str, Any]:
    """The kind and its parameters."""
    return {"kind": transform.kind} | {
        k: list(v) if isinstance(v, tuple) else v for k, v in asdict(transform).items()
    }


def transform_from_json(document: dict[str, Any]) -> Transform:
    """Inverse of `transform_to_json`."""
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in document.items()}
    return TRANSFORMS[fields.pop("kind")](**fields)
