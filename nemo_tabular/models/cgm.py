"""The Composable Generative Model (Leduc and Grislain 2021): rows as sets of columns, each in an order of its
own, enter; the negative log-likelihood in nats leaves.

One causal pass, `query: additive`: position t holds the value seen last, the embedding of its slot, and the
query of the slot that it predicts. With every row in one order this is the GPT of rows, which is why it is
one with another way to line up a row. `query: cross_attention`, the paper's: the blocks see values and slots
only, and the query attends to what they made of the slots before it.

A row starts with `begin`: the first slot is drawn from the empty set. Absent cells stand last, where nothing
that counts can see them.

Shapes: S slots, T positions, B rows, H hidden.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..config import ModelConfig
from ..engine.cross import CrossAttention
from ..engine.launch import ProcessGroupCollection
from ..engine.stage import WHOLE, Stage
from .curves import Orders
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
        orders: Orders = (),
        seed: int = 0,
        stage: Stage = WHOLE,
    ) -> None:
        super().__init__(
            model,
            precision,
            sizes,
            groups,
            log_marginals=log_marginals,
            orders=orders,
            seed=seed,
            stage=stage,
        )
        self.additive = model.query == "additive"
        crossing = stage.last and not self.additive
        self.cross = CrossAttention(self.config, groups, seed=seed) if crossing else None

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
