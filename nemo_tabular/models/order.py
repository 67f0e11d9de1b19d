"""A tokenizer, a sample of rows and a wish enter; the order in which a model sees columns and slots leaves.

Columns of low entropy first: then rows share long prefixes, which generation computes once. Users never see
this order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError, nearest
from ..tokenizer import TableTokenizer


@dataclass(frozen=True)
class RowPlan:
    """How a model reads a row: its columns in order, and the table's number and the size of each modelled
    slot.
    """

    columns: tuple[str, ...]
    slots: np.ndarray
    """int64 (S,): the table's slot at each place of the model's row. Residual slots are not among them."""
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, tokenizer: TableTokenizer, columns: Sequence[str]) -> "RowPlan":
        """The plan of `columns`, which are all of the tokenizer's columns in the wanted order."""
        places = [np.arange(s.start, s.stop) for s in (tokenizer.column_slots[name] for name in columns)]
        slots = np.concatenate(places)
        slots = slots[~tokenizer.residual[slots]]
        return cls(tuple(columns), slots, tuple(int(size) for size in tokenizer.slot_sizes[slots]))

    def column_of_slot(self, tokenizer: TableTokenizer) -> np.ndarray:
        """int64 (S,): for each modelled slot the place of its column in `columns`."""
        owner = np.empty(tokenizer.num_slots, np.int64)
        for place, name in enumerate(self.columns):
            owner[tokenizer.column_slots[name]] = place
        return owner[self.slots]

    def rising_slots(self, tokenizer: TableTokenizer) -> tuple[int, ...]:
        """Places of the slots that say, from left to right, when a row is: those of the columns of order_by,
        as far as their codes rise with their values and the model sees them in this order."""
        rising: list[int] = []
        for name in tokenizer.schema.order_by:
            if name not in tokenizer.columns:
                continue  # a key is the same in all rows
            slots = tokenizer.column_slots[name]
            places = [i for i, slot in enumerate(self.slots.tolist()) if slots.start <= slot < slots.stop]
            if not tokenizer.codecs[name].rising or (rising and places[0] < rising[-1]):
                break
            rising += places
            if tokenizer.residual[slots].any():
                break  # of two rows that seem level one may yet be later
        return tuple(rising)

    def absent_slots(self, tokenizer: TableTokenizer) -> np.ndarray:
        """bool (S,): modelled slots whose code 0 says that the cell is not there: the first ones of columns
        with `missing: absent`."""
        absent = np.zeros(tokenizer.num_slots, bool)
        for column in tokenizer.schema.coded:
            first = tokenizer.column_slots[column.name].start
            absent[first] = column.missing == "absent" and tokenizer.codecs[column.name].nullable
        return absent[self.slots]


def marginal_entropies(codes: np.ndarray, tokenizer: TableTokenizer) -> dict[str, float]:
    """Entropy in nats of each column's modelled codes in a sample, codes int (rows, table's slots)."""
    entropies = {}
    for name, slots in tokenizer.column_slots.items():
        modelled = codes[:, slots][:, ~tokenizer.residual[slots]]
        key = np.zeros(len(codes), np.int64)
        for column in modelled.T:
            # renumbered after each slot, so that the product of the sizes cannot overflow
            key = np.unique(key * (int(column.max(initial=0)) + 1) + column, return_inverse=True)[1]
        share = np.bincount(key) / max(len(key), 1)
        entropies[name] = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    return entropies


def column_order(
    codes: np.ndarray, tokenizer: TableTokenizer, order: str | Sequence[str], condition_on: Sequence[str]
) -> tuple[str, ...]:
    """All columns, `condition_on` first, the others by `order` ("entropy", "schema" or names).

    Raises ConfigError for an unknown name, a name given twice, and a list of names that leaves columns out.
    """
    names = tokenizer.columns
    listed = () if isinstance(order, str) else tuple(order)
    for setting, given in (("model.condition_on", tuple(condition_on)), ("model.order", listed)):
        for name in given:
            if name not in names:
                raise ConfigError(f"{setting}: {_no_column(name, tokenizer)}")
            if given.count(name) > 1:
                raise ConfigError(f"{setting}: column {name!r} stands there twice")
    if order == "entropy":
        entropies = marginal_entropies(codes, tokenizer)
        rest: Sequence[str] = sorted(names, key=lambda name: entropies[name])
    elif order == "schema":
        rest = names
    else:
        missing = [name for name in names if name not in listed]
        if missing:
            raise ConfigError(
                f"model.order leaves out {missing}: name every column once, or use entropy or schema"
            )
        rest = listed
    return (*condition_on, *(name for name in rest if name not in condition_on))


def _no_column(name: str, tokenizer: TableTokenizer) -> str:
    if name in tokenizer.schema.group_by:
        return f"column {name!r} is the key of group_by, which no model learns"
    return f"the table has no column {name!r}{nearest(name, tokenizer.columns)}"
