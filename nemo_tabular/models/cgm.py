"""The Composable Generative Model (Leduc and Grislain 2021): rows as sets of columns, each in an order of its
own, enter; the negative log-likelihood in nats leaves.

One causal pass, `query: additive`: position t holds the value seen last, the embedding of its slot, and the
query of the slot that it predicts. With every row in one order this is the GPT of rows, which is why it is
one with another way to line up a row. `query: cross_attention`, the paper's: the blocks see values and slots
only, and the query attends to what they made of the slots before it.

Dense columns (images, texts, ...; dense.py) have one slot, whose code says whether the cell is there. What is
seen of such a cell is added to the embedding of its code; its loss is added to that of its slot.

A row starts with `begin`: the first slot is drawn from the empty set. Absent cells stand last, where nothing
that counts can see them.

Shapes: S slots, T positions, B rows, H hidden.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..codecs import DenseCodec
from ..config import ModelConfig
from ..engine.cross import CrossAttention
from ..engine.launch import ProcessGroupCollection
from ..engine.stage import WHOLE, Stage
from .curves import Places
from .dense import Features
from .gpt import TabularGPT
from .lineup import by_slot, line_up

NEVER = -1e4
"""Bias of codes that cannot occur: finite, so that it is no trouble in sums, and exp(NEVER) is 0."""


class TabularCGM(TabularGPT):
    """`sizes`, `log_marginals`: as of the GPT. Batches are SetBatch; all slots stand in the plan's order."""

    column: torch.nn.Parameter

    def __init__(
        self,
        model: ModelConfig,
        precision: str,
        sizes: Sequence[int],
        groups: ProcessGroupCollection,
        *,
        log_marginals: Tensor | None = None,
        places: Places = (),
        seed: int = 0,
        stage: Stage = WHOLE,
        dense: Mapping[int, DenseCodec] | None = None,
    ) -> None:
        """`dense`: codecs of the columns whose cells a column type reads, by their slot."""
        super().__init__(
            model,
            precision,
            sizes,
            groups,
            log_marginals=log_marginals,
            places=places,
            seed=seed,
            stage=stage,
        )
        self.additive = model.query == "additive"
        crossing = stage.last and not self.additive
        self.cross = CrossAttention(self.config, groups, seed=seed) if crossing else None
        here = dense if dense and (stage.first or stage.last) else None
        parts = {"encoders": stage.first, "decoders": stage.last}
        self.features = Features(here, model.hidden_size, seed, **parts) if here else None

    def tables(self, model: ModelConfig) -> dict[str, int]:
        """The queries, `position`, stand where they are asked: before the blocks, or after them."""
        slots, additive = len(self.sizes), model.query == "additive"
        tables = {"column": slots, "begin": 1} if self.stage.first else {}
        asking = self.stage.first if additive else self.stage.last
        return tables | ({"position": slots} if asking else {})

    def shape(self, batch: Any) -> tuple[int, int]:
        return self.sequence.padded(len(batch.order)), batch.order.shape[1]

    def _row_input(self, batch: Any) -> Tensor:
        look_up = partial(self.share.look_up, self.table)
        x_TBH = line_up(batch, self.shift_S1, look_up, self.column, self.begin)
        if self.features is not None:
            x_TBH = self.features.seen(x_TBH, batch)
        return x_TBH + functional.embedding(batch.order, self.position) if self.additive else x_TBH

    def _hidden(self, batch: Any) -> Tensor:
        hidden_TBH = super()._hidden(batch)
        if self.cross is None:
            return hidden_TBH
        query_TBH = self.sequence.enter(functional.embedding(batch.order, self.position))
        return self.cross(query_TBH, hidden_TBH)

    def _predictions(
        self, batch: Any, hidden_TBH: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]]:
        hidden_SBH = by_slot(hidden_TBH[: len(batch.order)], batch)
        scored = None if batch.scored is None else batch.scored.unbind(0)
        return batch.codes.unbind(0), scored, hidden_SBH.unbind(0)

    def _outcome(self, batch: Any, predictions: Any, measure: str | None) -> Any:
        """As of the GPT, with the losses of the dense columns' cells."""
        found = super()._outcome(batch, predictions, measure)
        if self.features is None or measure == "counts":
            return found
        nats_S = self.features.by_slot(self._contexts(predictions[2]), batch, exact=measure is not None)
        if measure is not None:
            return found + nats_S.double() * (self.groups.tp.rank() == 0)
        total, by_slot, documents = found
        return total + nats_S.sum(), by_slot + nats_S.detach(), documents

    def _contexts(self, hidden: Sequence[Tensor]) -> Sequence[Tensor]:
        """Tensor-parallel ranks hold the same column types and compute the same losses, but what goes back
        from them into the states is added up: so from one of them only."""
        return hidden if self.groups.tp.rank() == 0 else [state.detach() for state in hidden]

    @torch.no_grad()
    def nll(self, batch: Any) -> list[Tensor]:
        losses = super().nll(batch)
        if self.features is not None:
            hidden = self._predictions(batch, self.sequence.leave(self._hidden(batch)))[2]
            for place, rows, nats in self.features.losses(hidden, batch):
                losses[place.slot] = losses[place.slot].index_add(0, rows, nats)
        return losses
