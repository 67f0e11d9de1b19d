"""Codes that are given, codes that are allowed, and how to draw come in; one checked `Draw` for the decoders
leaves. Codes stand in the model's order of slots; which columns lead, and what their values are as codes,
stream.py knows.

Shapes: S slots, G slots given, V ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import GenerationError
from ..features.draw import Sampling


@dataclass(frozen=True)
class Draw:
    """Which rows to draw, and how."""

    seed: int
    first_row: int
    sampling: Sampling
    given: np.ndarray
    """int32 (n, G): row i starts with the codes of line i % n."""
    bias: np.ndarray
    """float32 (V,): the output layer's, minus infinity at codes that are not allowed."""


def leading_codes(given: np.ndarray | None, sizes: Sequence[int]) -> np.ndarray:
    """int32 (n, G). Raises GenerationError for codes that are not of their slot, naming row and slot."""
    lead = np.zeros((1, 0), np.int32) if given is None else np.atleast_2d(np.asarray(given))
    if lead.ndim != 2 or len(lead) == 0 or lead.shape[1] > len(sizes):
        raise GenerationError(
            f"given codes have shape {lead.shape}, expected (rows, at most {len(sizes)} leading slots)"
        )
    size_G = np.array(sizes[: lead.shape[1]], dtype=np.int64)
    bad = (lead < 0) | (lead >= size_G)
    if bad.any():
        row, slot = (int(x) for x in np.argwhere(bad)[0])
        raise GenerationError(
            f"given row {row}: code {lead[row, slot]} at slot {slot}, whose codes are 0 to {size_G[slot] - 1}"
        )
    return np.ascontiguousarray(lead, dtype=np.int32)


def masked_bias(
    bias_V: np.ndarray,
    allowed: Sequence[np.ndarray | None] | None,
    sizes: Sequence[int],
    given_slots: int = 0,
) -> np.ndarray:
    """The bias with minus infinity at codes that are not allowed; slots that are given need none."""
    bias_V = bias_V.copy()
    if allowed is None:
        return bias_V
    if len(allowed) != len(sizes):
        raise GenerationError(f"allowed names {len(allowed)} slots, expected {len(sizes)}")
    start = 0
    for slot, (mask, size) in enumerate(zip(allowed, sizes, strict=True)):
        if mask is not None:
            if np.shape(mask) != (size,):
                raise GenerationError(
                    f"allowed codes of slot {slot}: shape {np.shape(mask)}, expected ({size},)"
                )
            if slot >= given_slots and not np.any(mask):
                raise GenerationError(f"slot {slot}: no code is allowed")
            bias_V[start : start + size][~np.asarray(mask, dtype=bool)] = -np.inf
        start += size
    return bias_V
