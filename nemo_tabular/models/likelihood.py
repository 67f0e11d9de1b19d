"""A saved model and a table enter; exact log-probabilities of its cells leave, in nats, by row and column.

A number's resolution is the table's: integers have probabilities, floats the probability of their step.

Shapes: B rows, K columns of the tokenizer, S modelled slots in the plan's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from ..batches import DenseCells, SetBatch, micro_batches, set_batch
from ..errors import GenerationError, nearest
from ..orders import FIRST, LAST, THEN, SlotOrders
from ..tokenizer import as_arrow
from .head import slot_log_probs
from .saved import SavedModel
from .score import row_nll, set_hidden_states, set_nll

AT_ONCE = 2048  # rows


@dataclass(frozen=True)
class Question:
    """Which columns are asked for, given which, in how many orders; None: all the others."""

    columns: Sequence[str] | None = None
    given: Sequence[str] | None = None
    orders: int = 1
    """1: the order of the model's plan. More: so many random ones, whose probabilities are averaged."""
    unseen: str | None = None
    """What a value that training never saw is scored as; None: it is an error."""

    def __post_init__(self) -> None:
        if isinstance(self.orders, bool) or not isinstance(self.orders, int) or self.orders < 1:
            raise GenerationError(f"orders is {self.orders!r}, expected a whole number of at least 1")


class Likelihood(Protocol):
    """What a model family knows of the probabilities of cells."""

    def __init__(self, model: SavedModel, device: torch.device) -> None: ...

    def log_prob(self, table: Any, question: Question) -> np.ndarray:
        """float64 (orders, B, K): log-probability of each cell given those before it; 0 where not asked."""

    def probabilities(self, table: Any, target: str, question: Question) -> np.ndarray:
        """float64 (B, codes): of each code of a column of one slot."""


class RowLikelihood:
    """The GPT's: one order, all columns."""

    def __init__(self, model: SavedModel, device: torch.device) -> None:
        if model.histories:
            raise GenerationError(
                "log_prob of histories is not offered: this model was trained on documents of many rows"
            )
        self.model, self.device = model, device

    def log_prob(self, table: Any, question: Question) -> np.ndarray:
        """Each column is conditional on those before it in the model's order."""
        if question.columns is not None or question.given is not None or question.orders != 1:
            raise GenerationError(ONE_ORDER.format("log_prob of some columns given others"))
        model = self.model
        codes = model.tokenizer.encode_codes(table, unseen=question.unseen)
        modelled = torch.from_numpy(np.ascontiguousarray(codes[:, model.plan.slots].T).astype(np.int64))
        nll_SB = row_nll(model.weights().to(self.device), modelled).cpu()
        return -by_column(model, nll_SB, codes)[None]

    def probabilities(self, table: Any, target: str, question: Question) -> np.ndarray:
        """Not offered."""
        raise GenerationError(ONE_ORDER.format("predict_proba"))


class SetLikelihood:
    """The CGM's: any columns given any others; computed on the CPU, wherever rows are made."""

    def __init__(self, model: SavedModel, device: torch.device) -> None:
        self.model, self.plan, self.tokenizer = model, model.plan, model.tokenizer
        self.owner_S, self.weights = self.plan.column_of_slot(self.tokenizer), model.set_weights()
        names = self.tokenizer.columns
        self.place = {name: k for k, name in enumerate(names)}
        self.plan_K = np.array([self.place[name] for name in self.plan.columns])

    def log_prob(self, table: Any, question: Question) -> np.ndarray:
        """Cells that are absent are left out, as if the table had no such column in that row."""
        asked, given = self._split(question)
        table = as_arrow(table)
        self._require_exact(asked)
        codes, groups_BK = self._cells(table, asked, given, question.unseen)
        dense = self._dense(table, [*asked, *given], question.unseen)
        scored_BK = groups_BK == THEN
        out = []
        for order_SB in self._orders(len(codes), groups_BK[:, self.plan_K], question.orders):
            batch = self._batch(codes, order_SB, scored_BK[:, self.plan_K], dense)
            nll = set_nll(self.weights, batch)
            out.append(-by_column(self.model, nll, codes) * scored_BK)
        return np.stack(out) + 0.0

    def probabilities(self, table: Any, target: str, question: Question) -> np.ndarray:
        """Given all other columns that the table has, or those of `given`."""
        slot_S = self.plan.slots == self.tokenizer.column_slots[self._known(target)].start
        if len(self.tokenizer.codecs[target].slots) != 1 or target in self.tokenizer.dense:
            raise GenerationError(
                f"predict_proba: column {target!r} takes several tokens a value, or is no token at all, so "
                "its values are too many to list; draw them instead: impute(table, imputations=...)"
            )
        slot = int(np.flatnonzero(slot_S)[0])
        names = self.tokenizer.columns if question.given is None else map(self._known, question.given)
        given = [name for name in names if name != target]
        table = as_arrow(table)
        codes, groups_BK = self._cells(table, [], given, question.unseen, lacking=question.given is None)
        dense = self._dense(table, given, question.unseen)
        groups_BK[:, self.place[target]] = THEN
        weights, total = self.weights, np.zeros(())
        ids = slice(weights.base.offsets[slot], weights.base.offsets[slot + 1])
        for order_SB in self._orders(len(codes), groups_BK[:, self.plan_K], question.orders):
            batch = self._batch(codes, order_SB, (groups_BK == THEN)[:, self.plan_K], dense)
            with torch.inference_mode():
                parts = [part for part in micro_batches(batch, AT_ONCE) if isinstance(part, SetBatch)]
                hidden_BH = torch.cat([set_hidden_states(weights, part)[slot] for part in parts])
                log_p = slot_log_probs(hidden_BH, weights.base.embedding[ids], weights.base.bias[ids])
            total = total + log_p.double().exp().numpy()
        return total / question.orders

    def _split(self, question: Question) -> tuple[list[str], list[str]]:
        given = [self._known(name) for name in question.given or ()]
        asked = question.columns
        names = [n for n in self.tokenizer.columns if n not in given] if asked is None else list(asked)
        for name in names:
            if self._known(name) in given:
                raise GenerationError(f"log_prob: column {name!r} is both asked for and given")
        if not names:
            raise GenerationError("log_prob: every column is given, so there is nothing left to score")
        return names, given

    def _known(self, name: str) -> str:
        if name not in self.place:
            names = self.tokenizer.columns
            raise GenerationError(f"the table has no column {name!r}{nearest(str(name), names)}")
        return name

    def _cells(
        self,
        table: Any,
        asked: Sequence[str],
        given: Sequence[str],
        unseen: str | None,
        lacking: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes, and the group of each cell: given, asked for, or neither."""
        codes, missing_BK = self.tokenizer.encode_cells(table, [*asked, *given], unseen, lacking=lacking)
        groups_BK = np.full(missing_BK.shape, LAST)
        for names, group in ((given, FIRST), (asked, THEN)):
            for name in names:
                k = self.place[name]
                groups_BK[:, k] = np.where(missing_BK[:, k] & ~self._models_missing(name), LAST, group)
        return codes, groups_BK

    def _models_missing(self, name: str) -> bool:
        column = self.tokenizer.schema.column(name)
        return column.missing == "value" and self.tokenizer.codecs[name].nullable

    def _orders(self, rows: int, groups_BK: np.ndarray, orders: int) -> list[np.ndarray]:
        """(S, B) each: all rows in one order, so that the average over orders is a distribution too."""
        share = float(orders == 1)
        return [SlotOrders(self.owner_S, share)(np.full(rows, o), groups_BK) for o in range(orders)]

    def _dense(self, table: pa.Table, columns: Sequence[str], unseen: str | None) -> DenseCells | None:
        if not self.tokenizer.dense:
            return None
        cells = self.tokenizer.read_dense(table, columns, unseen)
        return DenseCells({name: torch.from_numpy(found) for name, found in cells.items()})

    def _require_exact(self, asked: Sequence[str]) -> None:
        for place in [] if self.weights.features is None else self.weights.features.places():
            if place.column in asked and not place.feature.exact:
                raise GenerationError(
                    f"log_prob: column {place.column!r} has feature {place.feature.name!r}, which has no "
                    "likelihood: ask for the other columns (columns=[...]), given it or not"
                )

    def _batch(
        self, codes: np.ndarray, order_SB: np.ndarray, scored_BK: np.ndarray, dense: DenseCells | None
    ) -> SetBatch:
        modelled = torch.from_numpy(np.ascontiguousarray(codes[:, self.plan.slots].T).astype(np.int64))
        return set_batch(modelled, order_SB, scored_BK[:, self.owner_S].T, dense)


def by_column(model: SavedModel, nll_SB: torch.Tensor, codes: np.ndarray) -> np.ndarray:
    """float64 (B, K): nats of each cell, the uniform remainders of numbers included."""
    columns = np.log(model.tokenizer.widths(codes).astype(np.float64))
    names = list(model.tokenizer.columns)
    owner = [names.index(model.plan.columns[c]) for c in model.plan.column_of_slot(model.tokenizer)]
    np.add.at(columns.T, owner, nll_SB.double().numpy())
    return columns


ONE_ORDER = (
    "{} needs a model that reads columns in any order: fit the CGM, Synthesizer('cgm') or model.kind=cgm"
)
LIKELIHOODS: dict[str, type[Likelihood]] = {"gpt": RowLikelihood, "cgm": SetLikelihood}


def open_likelihood(model: SavedModel, device: torch.device) -> Likelihood:
    """The likelihood of a model's family."""
    return LIKELIHOODS[model.config.kind](model, device)
