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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..batches import SetBatch
from ..config import ModelConfig
from ..engine.cross import CrossAttention
from ..engine.launch import ProcessGroupCollection
from .gpt import POSITION_STD, TabularGPT
from .lineup import by_slot, line_up

NEVER = -1e4
"""Bias of codes that cannot occur: finite, so that it is no trouble in sums, and exp(NEVER) is 0."""


class TabularCGM(TabularGPT):
    """`sizes`, `log_marginals`: as of the GPT. Batches are SetBatch; all slots stand in the plan's order."""

    def __init__(
        self,
        model: ModelConfig,
        precision: str,
        sizes: Sequence[int],
        groups: ProcessGroupCollection,
        *,
        log_marginals: Tensor | None = None,
    ) -> None:
        super().__init__(model, precision, sizes, groups, log_marginals=log_marginals)
        self.column = torch.nn.Parameter(torch.randn(len(sizes), model.hidden_size) * POSITION_STD)
        self.cross = CrossAttention(self.config, groups) if model.query == "cross_attention" else None

    def _predictions(self, batch: Any) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]]:
        assert isinstance(batch, SetBatch)
        x_TBH = line_up(batch, self.shift_S1, self.embedding, self.column, self.begin)
        query_TBH = functional.embedding(batch.order, self.position)
        if self.cross is None:
            hidden_TBH = self._transform(x_TBH + query_TBH)
        else:
            hidden_TBH = self.cross(query_TBH, self._transform(x_TBH))
        scored = None if batch.scored is None else batch.scored.unbind(0)
        return batch.codes.unbind(0), scored, by_slot(hidden_TBH, batch).unbind(0)
