"""Floats that are no number enter; which of them a column has, and where they stand, leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile

NON_FINITE = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}
"""Names in JSON, in the order of their codes."""


def seen_specials(profile: ColumnProfile) -> tuple[str, ...]:
    """The non-finite values that the whole table has."""
    counts = {"nan": profile.nan, "inf": profile.posinf, "-inf": profile.neginf}
    return tuple(name for name in NON_FINITE if counts[name])


def of_either(some: tuple[str, ...], others: tuple[str, ...]) -> tuple[str, ...]:
    """The names in one or the other, in the order of their codes."""
    return tuple(name for name in NON_FINITE if name in some or name in others)


def rows_of(name: str, values: np.ndarray) -> np.ndarray:
    """Mask of the rows that hold this non-finite value."""
    return np.isnan(values) if name == "nan" else values == NON_FINITE[name]


def all_finite(values: np.ndarray) -> bool:
    """Two fast passes: NaN and infinities all show in the extremes."""
    return len(values) == 0 or bool(np.isfinite(values.min()) and np.isfinite(values.max()))
