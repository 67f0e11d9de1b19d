"""The state of a fitted scikit-learn scaler comes in; its transform and inverse leave, to the last bit.
Three small formulas, so that an imported tokenizer needs no scikit-learn, of any version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from nemo_tabular.errors import StoreError
from nemo_tabular.nemo_import.unpickle import Record

EPSILON = float(np.spacing(1.0))  # lambdas as near to 0 or 2 as this take the logarithm


@dataclass(frozen=True)
class Robust:
    """(x - median) / interquartile range."""

    kind: ClassVar[str] = "robust"
    center: float
    scale: float

    def transform(self, x: np.ndarray) -> np.ndarray:
        """float64 -> float64."""
        return (x - self.center) / self.scale

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """float64 -> float64."""
        return y * self.scale + self.center


@dataclass(frozen=True)
class YeoJohnson:
    """Yeo and Johnson (Biometrika 2000), then standardised. As scikit-learn 1.7 and later compute it.

    Earlier versions took `power(x + 1, l) - 1`: the last digit of an id may differ there, the text does not.
    """

    kind: ClassVar[str] = "yeo-johnson"
    exponent: float
    mean: float
    scale: float

    def transform(self, x: np.ndarray) -> np.ndarray:
        """float64 -> float64."""
        power, out, up = self.exponent, np.zeros_like(x), x >= 0
        high = np.log1p(x[up])
        out[up] = high if abs(power) < EPSILON else np.expm1(power * high) / power
        low = np.log1p(-x[~up])
        out[~up] = -np.expm1((2 - power) * low) / (2 - power) if abs(power - 2) > EPSILON else -low
        return (out - self.mean) / self.scale

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """float64 -> float64; NaN beyond the transform's range."""
        y = y * self.scale + self.mean
        power, out, up = self.exponent, np.zeros_like(y), y >= 0
        with np.errstate(invalid="ignore", over="ignore"):
            if abs(power) < EPSILON:
                out[up] = np.exp(y[up]) - 1
            else:
                out[up] = np.power(y[up] * power + 1, 1 / power) - 1
            if abs(power - 2) > EPSILON:
                out[~up] = 1 - np.power(-(2 - power) * y[~up] + 1, 1 / (2 - power))
            else:
                out[~up] = 1 - np.exp(-y[~up])
        return out


@dataclass(frozen=True)
class Quantile:
    """Position among the fitted quantiles, in [0, 1]."""

    kind: ClassVar[str] = "quantile"
    quantiles: tuple[float, ...]
    references: tuple[float, ...]

    def transform(self, x: np.ndarray) -> np.ndarray:
        """float64 -> float64, interpolated from both sides: these differ where quantiles repeat."""
        q, r = np.array(self.quantiles), np.array(self.references)
        y = 0.5 * (np.interp(x, q, r) - np.interp(-x, -q[::-1], -r[::-1]))
        y[x == q[-1]] = 1
        y[x == q[0]] = 0
        return y

    def inverse(self, y: np.ndarray) -> np.ndarray:
        """float64 -> float64."""
        q = np.array(self.quantiles)
        x = np.interp(y, np.array(self.references), q)
        x[y == 1] = q[-1]
        x[y == 0] = q[0]
        return x


Scaler = Robust | YeoJohnson | Quantile
KINDS: dict[str, type[Scaler]] = {cls.kind: cls for cls in (Robust, YeoJohnson, Quantile)}


def scaler_from_record(state: Record) -> Scaler:
    """The scaler of one column. Raises StoreError for a kind or setting that NeMo never used."""

    def only(name: str, of: Record = state) -> float:
        return float(np.asarray(of.get(name)).reshape(1)[0])

    if state.kind == "RobustScaler":
        return Robust(only("center_"), only("scale_"))
    if state.kind == "PowerTransformer" and state.get("method") == "yeo-johnson" and state.get("standardize"):
        inner = state.get("_scaler")
        return YeoJohnson(only("lambdas_"), only("mean_", inner), only("scale_", inner))
    if state.kind == "QuantileTransformer" and state.get("output_distribution") == "uniform":
        quantiles = np.asarray(state.get("quantiles_"), float).reshape(-1)
        return Quantile(
            tuple(quantiles.tolist()), tuple(np.asarray(state.get("references_"), float).tolist())
        )
    raise StoreError(f"a scaler {state.kind} with settings that NeMo's coder never used")


def scaler_to_json(scaler: Scaler) -> dict[str, Any]:
    """Plain JSON types; floats come back to the last bit."""
    return {"kind": scaler.kind, **asdict(scaler)}


def scaler_from_json(content: Mapping[str, Any]) -> Scaler:
    """The inverse of `scaler_to_json`."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
    del values["kind"]
    return KINDS[content["kind"]](**values)
