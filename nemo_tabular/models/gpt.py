"""The GPT of tables: codes of rows enter, the negative log-likelihood in nats leaves.

**Rows.** Each row is a sequence of its own: `[begin, v_0, ..., v_{S-2}]` predicts `[v_0, ..., v_{S-1}]`,
where v_s is the code of slot s in the model's column order. Position s holds the embedding of the value
before it plus the embedding of the slot that it predicts. The output layer is tied to the embedding of the
values and computes one slot's ids only.

**Histories** (documents of many rows). One window of at most R rows is a sequence `[begin, v_00, ...,
v_{R-1,S-1}]`; each position also carries the embedding of its row's place in the window. Slot 0 has one code
more, the last: end of document (EOD), predicted after every row. `begin` differs for windows that start a
document and those that continue one.

Shapes: S slots of a row, R rows of a window, B sequences, T positions, H hidden, V ids.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

from ..batches import Batch, DocumentBatch
from ..config import ModelConfig
from ..engine import block as engine_block
from ..engine.launch import ProcessGroupCollection
from .head import SlotLoss, slot_log_probs, slot_nll

EMBEDDING_STD = 0.1
POSITION_STD = 0.02


class TabularGPT(torch.nn.Module):
    """`sizes`: number of codes of each modelled slot, in model order. `max_rows` > 1 or `histories` makes it
    a model of histories. `log_marginals` (V,) is where the head's bias starts: the model begins as the
    independent marginals.
    """

    def __init__(
        self,
        model: ModelConfig,
        precision: str,
        sizes: Sequence[int],
        groups: ProcessGroupCollection,
        *,
        log_marginals: Tensor | None = None,
        histories: bool = False,
        max_rows: int = 1,
    ) -> None:
        super().__init__()
        self.config = engine_block.transformer_config(model, precision)
        self.histories, self.max_rows = histories, max_rows
        self.sizes = [size + (histories and s == 0) for s, size in enumerate(sizes)]
        self.offsets = [0, *accumulate(self.sizes)]
        hidden, vocab = model.hidden_size, self.offsets[-1]
        self.embedding = torch.nn.Parameter(torch.randn(vocab, hidden) * EMBEDDING_STD)
        self.position = torch.nn.Parameter(torch.randn(len(sizes), hidden) * POSITION_STD)
        self.begin = torch.nn.Parameter(torch.randn(2 if histories else 1, hidden) * POSITION_STD)
        if histories:
            self.row_position = torch.nn.Parameter(torch.randn(max_rows + 1, hidden) * POSITION_STD)
        self.bias = torch.nn.Parameter(torch.zeros(vocab) if log_marginals is None else log_marginals.clone())
        self.blocks = engine_block.transformer_block(self.config, groups)
        self.shift_S1: Tensor
        self.register_buffer("shift_S1", torch.tensor(self.offsets[:-1]).unsqueeze(1), persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, int]:
        """Negative log-likelihood of the batch in nats: the sum, the sum by slot (S,), and its documents."""
        targets, scored, hidden = self._predictions(batch)
        total, by_slot = SlotLoss.apply(self.embedding, self.bias, self.offsets, targets, scored, *hidden)
        return total, by_slot, len(batch.lengths) if isinstance(batch, DocumentBatch) else targets[0].shape[0]

    @torch.no_grad()
    def nll(self, batch: Batch) -> list[Tensor]:
        """Negative log-likelihood in nats of each single prediction: S tensors, (B,) for rows."""
        targets, scored, hidden = self._predictions(batch)
        losses = slot_nll(self.embedding, self.bias, self.offsets, targets, *hidden)
        return losses if scored is None else [a * b for a, b in zip(losses, scored, strict=True)]

    @torch.no_grad()
    def expected_counts(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """How often each code is predicted and how often it occurs in the batch: two float64 (V,)."""
        targets, scored, hidden = self._predictions(batch)
        predicted, found = [], []
        for s, (y_NH, target_N) in enumerate(zip(hidden, targets, strict=True)):
            block = slice(self.offsets[s], self.offsets[s + 1])
            p_NC = slot_log_probs(y_NH, self.embedding[block], self.bias[block]).exp_().double()
            weight_N = p_NC.new_ones(len(p_NC)) if scored is None else scored[s].double()
            predicted.append(weight_N @ p_NC)
            found.append(torch.bincount(target_N, weights=weight_N, minlength=self.sizes[s]))
        return torch.cat(predicted), torch.cat(found)

    def _predictions(
        self, batch: Batch
    ) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]]:
        if isinstance(batch, DocumentBatch):
            return self._window_predictions(batch)
        assert isinstance(batch, Tensor)
        hidden_SBH = self._row_hidden(batch)
        return batch.unbind(0), None, hidden_SBH.unbind(0)

    def _transform(self, x_TBH: Tensor) -> Tensor:
        return self.blocks(x_TBH.to(self.config.params_dtype), attention_mask=None)

    def _row_hidden(self, codes_SB: Tensor) -> Tensor:
        begin = self.begin[:1].expand(1, codes_SB.shape[1], -1)
        values = functional.embedding(codes_SB[:-1] + self.shift_S1[:-1], self.embedding)
        return self._transform(torch.cat([begin, values]) + self.position.unsqueeze(1))

    def _window_predictions(self, batch: DocumentBatch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        codes_RSB = batch.codes
        rows, slots, _count = codes_RSB.shape
        begin_BH = self.begin[(~batch.begins).long()]
        values = functional.embedding((codes_RSB + self.shift_S1).flatten(0, 1), self.embedding)
        place = (self.position.unsqueeze(0) + self.row_position[: rows + 1].unsqueeze(1)).flatten(0, 1)
        x_TBH = torch.cat([begin_BH.unsqueeze(0), values]) + place[: rows * slots + 1].unsqueeze(1)
        hidden_TBH = self._transform(x_TBH)
        # slot 0 is predicted once more than the others: after the last row, where the document may end
        last = torch.zeros_like(codes_RSB[:1, 0])
        row_R1 = torch.arange(rows + 1, device=codes_RSB.device).unsqueeze(1)
        ends_RB = (row_R1 == batch.lengths) & batch.ends
        first_RB = torch.cat([codes_RSB[:, 0], last]).masked_fill(ends_RB, self.sizes[0] - 1)
        scored_RB = batch.scored.float()
        first_scored_RB = torch.cat([scored_RB, last.float()]) + ends_RB.float()
        targets = [first_RB.flatten(), *(codes_RSB[:, s].flatten() for s in range(1, slots))]
        scored = [first_scored_RB.flatten(), *[scored_RB.flatten()] * (slots - 1)]
        return targets, scored, [hidden_TBH[s::slots].flatten(0, 1) for s in range(slots)]
