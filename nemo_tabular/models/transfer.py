"""A saved model, and the tokenizer and plan of another table, enter; what leaves says where each row of the
new network's tables comes from: from the row of the same column and value, by their names, or from nowhere.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..config import Config, make_config
from ..errors import CheckpointError, ConfigError
from ..schema.following import contradictions
from ..tokenizer import TableTokenizer
from .order import RowPlan
from .saved import SavedModel

ARCHITECTURE = (
    *("kind", "num_layers", "hidden_size", "num_attention_heads", "ffn_hidden_size"),
    *("activation", "normalization", "query"),
)
INHERITED = (*ARCHITECTURE, "order", "fixed_share", "condition_on")
"""Settings that are the saved model's where the recipe leaves them out."""
SHOWN = 40  # columns that the log has a line for


def inherit(config: Config, saved: SavedModel) -> Config:
    """The configuration with the saved model's architecture. Raises ConfigError that lists what it says
    otherwise."""
    said = config.model.model_fields_set
    where = f"model.restore_from_path {config.model.restore_from_path}"
    there = saved.config.model_dump() | {"ffn_hidden_size": saved.config.feed_forward_size}
    here = config.model.model_dump()
    other = [
        f"model.{name}: {there[name]!r} there, {here[name]!r} here"
        for name in ARCHITECTURE
        if name in said and here[name] not in (there[name], None)
    ]
    if other:
        raise ConfigError(
            f"{where} is a model of another architecture:\n  "
            + "\n  ".join(other)
            + "\nleave these settings out, and they are that model's"
        )
    inherited = {name: there[name] for name in INHERITED if name not in said or here[name] is None}
    return make_config(config.model_dump() | {"model": here | inherited}, where)


def order_after(saved: SavedModel, columns: Sequence[str]) -> tuple[str, ...]:
    """The columns in the order that the saved model knows, new ones last, in the order given."""
    known = [name for name in saved.plan.columns if name in columns]
    return (*known, *(name for name in columns if name not in known))


@dataclass(frozen=True)
class ColumnShare:
    """How many codes of a column are taken over, are new, and have no place in the new table."""

    name: str
    known: int
    new: int
    lost: int


@dataclass(frozen=True)
class Transfer:
    """What goes on of `saved` in the network of another table."""

    saved: SavedModel
    rows: dict[str, np.ndarray]
    """For each table of parameters, int64 (rows of the new one): the saved one's row, or -1."""
    columns: tuple[ColumnShare, ...]

    @classmethod
    def of(cls, saved: SavedModel, tokenizer: TableTokenizer, plan: RowPlan, max_rows: int = 1) -> "Transfer":
        """`max_rows`: of a window of histories. Raises CheckpointError that lists all contradictions."""
        theirs, ours = (
            dict(_slots(t, p, saved.histories)) for t, p in ((saved.tokenizer, saved.plan), (tokenizer, plan))
        )
        _refuse(saved, tokenizer, plan, theirs, ours)
        ids = np.full(sum(len(slot.meanings) for slot in ours.values()), -1, np.int64)
        slots = np.full(len(ours), -1, np.int64)
        for key, slot in ours.items():
            known = theirs.get(key)
            if known is not None:
                slots[slot.number] = known.number
                ids[slot.first : slot.first + len(slot.meanings)] = known.rows_of(slot.meanings)
        documents = np.arange(max_rows + 1)
        documents[documents > saved.max_rows] = -1
        rows = {"embedding": ids, "bias": ids, "position": slots, "column": slots, "row_position": documents}
        return cls(saved, rows, tuple(_shares(theirs, ours, ids, plan)))

    @property
    def codes(self) -> tuple[int, int]:
        """Codes taken over, and codes in all."""
        ids = self.rows["bias"]
        return int((ids >= 0).sum()), len(ids)

    def to_json(self) -> dict[str, Any]:
        """What the new model remembers of it."""
        there = self.saved.tokenizer
        names = [column.name for column in self.columns]
        return {
            "tokenizer": there.fingerprint(),
            "codes": list(self.codes),
            "new_columns": [name for name in names if name not in there.columns],
            "columns_left_out": [name for name in there.columns if name not in names],
        }

    def __str__(self) -> str:
        told, (known, codes) = self.to_json(), self.codes
        both = len(self.columns) - len(told["new_columns"])
        lines = [f"{both} of {len(self.columns)} columns and {known:,} of {codes:,} codes are taken over"]
        changed = [c for c in self.columns if (c.new or c.lost) and c.name not in told["new_columns"]]
        if changed:
            width = max(len(column.name) for column in changed[:SHOWN])
            lines.append(f"  {'column':{width}}  taken over   new  left out")
            lines += [f"  {c.name:{width}}  {c.known:10,}  {c.new:4,}  {c.lost:8,}" for c in changed[:SHOWN]]
            lines += [f"  and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
        for what, key in (("new columns", "new_columns"), ("columns left out", "columns_left_out")):
            lines += [f"  {what}: {', '.join(told[key])}"] if told[key] else []
        return "\n".join(lines)


@dataclass(frozen=True)
class _Slot:
    number: int
    first: int
    """Row of its first code."""
    meanings: list[Hashable]

    def rows_of(self, meanings: Sequence[Hashable]) -> list[int]:
        row = {meaning: self.first + code for code, meaning in enumerate(self.meanings)}
        return [row.get(meaning, -1) for meaning in meanings]


def _slots(
    tokenizer: TableTokenizer, plan: RowPlan, histories: bool
) -> Iterator[tuple[tuple[str, str], _Slot]]:
    """The modelled slots by column and name, in the plan's order."""
    absent, number, first = plan.absent_slots(tokenizer), 0, 0
    for column in plan.columns:
        for name, meanings in tokenizer.codecs[column].meanings().items():
            if absent[number]:  # never predicted there, so it is not what a missing cell is elsewhere
                meanings = ["absent", *meanings[1:]]
            if histories and number == 0:
                meanings = [*meanings, "end of document"]
            yield (column, name), _Slot(number, first, meanings)
            number, first = number + 1, first + len(meanings)


def _shares(
    theirs: dict[tuple[str, str], _Slot], ours: dict[tuple[str, str], _Slot], ids: np.ndarray, plan: RowPlan
) -> Iterator[ColumnShare]:
    for name in plan.columns:
        rows = [ids[s.first : s.first + len(s.meanings)] for (column, _), s in ours.items() if column == name]
        known = sum(int((part >= 0).sum()) for part in rows)
        there = sum(len(slot.meanings) for (column, _), slot in theirs.items() if column == name)
        yield ColumnShare(name, known, sum(map(len, rows)) - known, there - known)


def _refuse(
    saved: SavedModel,
    tokenizer: TableTokenizer,
    plan: RowPlan,
    theirs: dict[tuple[str, str], _Slot],
    ours: dict[tuple[str, str], _Slot],
) -> None:
    wrong = list(contradictions(saved.tokenizer.schema, tokenizer.schema))
    for name in plan.columns:
        if name not in saved.tokenizer.codecs:
            continue
        here, there = tokenizer.codecs[name], saved.tokenizer.codecs[name]
        if type(here) is type(there) and not here.by_value and _cut_elsewhere(name, theirs, ours):
            wrong.append(f"column {name!r}: its numbers are cut into other cells than the model's")
    if saved.config.kind == "gpt" and set(plan.columns) != set(saved.plan.columns):
        more = sorted(set(plan.columns) - set(saved.plan.columns))
        less = sorted(set(saved.plan.columns) - set(plan.columns))
        wrong.append(
            f"columns {more + less}: {_than(more, less)} than the model's. A gpt reads a row in one order, "
            "each column given all before it, so it goes on with the same columns only; a cgm takes any"
        )
    if wrong:
        raise CheckpointError(
            "the table contradicts the model that training is to go on from:\n  "
            + "\n  ".join(wrong)
            + "\nprepare the table with the model's tokenizer: nemo-tabular prepare ... --extend RUN"
        )


def _than(more: list[str], less: list[str]) -> str:
    return "others" if more and less else "more" if more else "fewer"


def _cut_elsewhere(
    name: str, theirs: dict[tuple[str, str], _Slot], ours: dict[tuple[str, str], _Slot]
) -> bool:
    """Whether some piece of the saved model's scale is none of the new one's."""
    for key, slot in theirs.items():
        if key[0] == name:
            here = ours[key].meanings if key in ours else []
            if set(slot.meanings) - {"missing", "absent", "end of document"} - set(here):
                return True
    return False
