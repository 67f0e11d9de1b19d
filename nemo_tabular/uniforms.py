"""A seed, row numbers and slot numbers come in; uniform numbers leave, each depending on its own three alone.
So a row is the same whatever batch, process or machine makes it, and generation resumes at any row.

`u(seed, row, slot) = mix(mix(mix(seed) ^ row * G) + slot * G) >> 11`, over 2^53, where `mix` is the finaliser
of splitmix64 (Steele, Lea and Flood 2014) after adding G, its golden-ratio increment. csrc/draw.h does the
same.
"""

import numpy as np

GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1
_SCALE = 2.0**-53


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64's step, on uint64 (it wraps)."""
    z = x + np.uint64(GOLDEN)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def row_states(seed: int, first_row: int, rows: int) -> np.ndarray:
    """uint64 (rows,): the states from which the draws of rows first_row, first_row + 1, ... are made."""
    return states_of(seed, np.arange(rows, dtype=np.uint64) + np.uint64(first_row & _MASK))


def states_of(seed: int, numbers: np.ndarray) -> np.ndarray:
    """uint64 (rows,): the states of the rows with these numbers."""
    start = _mix(np.array([seed & _MASK], dtype=np.uint64))
    return _mix(start ^ (numbers.astype(np.uint64) * np.uint64(GOLDEN)))


def uniforms(states: np.ndarray, slot: int | np.ndarray) -> np.ndarray:
    """float64 (rows,) in [0, 1): the draw of each row at one slot, or at a slot of its own (array)."""
    return (words(states, slot) >> np.uint64(11)).astype(np.float64) * _SCALE


def words(states: np.ndarray, slot: int | np.ndarray) -> np.ndarray:
    """The same draws as whole uint64 numbers."""
    step = np.atleast_1d(np.asarray(slot, dtype=np.uint64)) * np.uint64(GOLDEN)
    return _mix(states + step)
