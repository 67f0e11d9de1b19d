"""Row numbers, and which columns of a row come first or not at all, enter; the order in which a model of sets
sees the row's slots leaves. It depends on (seed, number) alone: not on ranks, batch sizes or interruptions.

Only columns are shuffled: the slots of a column (its digits, its bytes) stay together, in their own order.

Shapes: B rows, K columns, S slots.
"""

from dataclasses import dataclass

import numpy as np

from .uniforms import states_of, uniforms, words

FIRST, THEN, LAST = 0, 1, 2
"""Groups of columns: those that are given, the others, and those that are absent or not asked for."""
SLOT_BITS = 16  # of a sorting key; the 46 above them are the column's random number, the top two its group

SALT = 0x5E75_0F_C0_1111_7E5  # or a row's order would be made of the numbers that its cells are drawn with


@dataclass(frozen=True)
class SlotOrders:
    """Orders of rows whose slot s belongs to column owner[s]."""

    owner: np.ndarray
    """int64 (S,): the place of each slot's column; it never falls."""
    fixed_share: float = 0.0
    """Share of the rows whose columns stand as in `owner`; the others' are shuffled."""
    seed: int = 0

    def __call__(self, numbers: np.ndarray, groups_BK: np.ndarray | None = None) -> np.ndarray:
        """int64 (S, B): the slot at each position of each row; columns of a lower group come first."""
        states_B = states_of(self.seed ^ SALT, np.asarray(numbers))
        columns = int(self.owner[-1]) + 1 if len(self.owner) else 0
        key_BK = words(states_B[:, None], np.arange(columns)) >> np.uint64(2)
        fixed_B = uniforms(states_B, columns) < self.fixed_share
        low = np.uint64((1 << SLOT_BITS) - 1)
        key_BK = np.where(
            fixed_B[:, None], np.arange(columns, dtype=np.uint64) << np.uint64(SLOT_BITS), key_BK
        )
        key_BK &= ~low
        if groups_BK is not None:
            key_BK |= groups_BK.astype(np.uint64) << np.uint64(62)
        key_BS = key_BK[:, self.owner] | np.arange(len(self.owner), dtype=np.uint64)
        return np.ascontiguousarray(key_BS.argsort(axis=1).T)
