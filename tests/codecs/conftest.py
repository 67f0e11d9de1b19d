"""An Arrow array and codec options enter; the fitted codec leaves."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs import Codec, fit_codec


def _decimals(finite: np.ndarray) -> int | None:
    for d in range(13):
        with np.errstate(over="ignore", invalid="ignore"):
            if np.array_equal(np.round(finite * 10.0**d) / 10.0**d, finite):
                return d
    return None


def fit(values: pa.Array, codec: str, *, name: str = "x", nullable: bool | None = None, **options: Any) -> Codec:
    """Fit `codec` to these values as if they were a whole table's column."""
    kind = str(values.type.value_type if isinstance(values, pa.DictionaryArray) else values.type)
    nullable = values.null_count > 0 if nullable is None else nullable
    column = SimpleNamespace(name=name, kind="", type=kind, codec=codec, nullable=nullable, options=options, format=None)
    return fit_codec(column, profile(values, name))  # type: ignore[arg-type]


def profile(values: pa.Array, name: str = "x") -> Any:
    plain = values.dictionary_decode() if isinstance(values, pa.DictionaryArray) else values
    items = plain.drop_null().to_pylist() if not pa.types.is_timestamp(plain.type) else []
    lists = dict(nan=0, posinf=0, neginf=0, decimals=None, max_bytes=None)
    if pa.types.is_floating(plain.type):
        x = plain.drop_null().to_numpy(zero_copy_only=False).astype(float)
        lists |= dict(nan=int(np.isnan(x).sum()), posinf=int((x == np.inf).sum()), neginf=int((x == -np.inf).sum()))
        finite = x[np.isfinite(x)]
        items, lists["decimals"] = finite.tolist(), _decimals(finite)
    elif pa.types.is_integer(plain.type):
        lists["decimals"] = 0
    elif pa.types.is_string(plain.type) or pa.types.is_large_string(plain.type):
        lists["max_bytes"] = max((len(s.encode()) for s in items), default=None)
    elif pa.types.is_timestamp(plain.type):
        items = list(plain.drop_null())
    least, most = (None, None)
    if items and not pa.types.is_timestamp(plain.type):
        least, most = min(items), max(items)
    elif items:
        least, most = min(items, key=lambda s: s.value), max(items, key=lambda s: s.value)
    return SimpleNamespace(
        name=name, type=str(plain.type), rows=len(plain), missing=plain.null_count, minimum=least, maximum=most,
        distinct=Counter(items) if not pa.types.is_timestamp(plain.type) else None, sample=plain, **lists,
    )  # fmt: skip
