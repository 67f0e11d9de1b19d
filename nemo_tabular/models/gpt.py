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
from typing import Any

import torch
from torch import Tensor

from ..batches import DocumentBatch
from ..config import ModelConfig
from ..engine import block as engine_block
from ..engine.initial import draw_
from ..engine.launch import ProcessGroupCollection
from ..engine.rows import RowShare
from ..engine.sequence import SequenceShare
from ..engine.stage import WHOLE, Stage, StageModule
from .curves import ROW_STD, Curves, Places
from .head import SlotLoss, Slots, slot_counts, slot_nll

POSITION_STD = 0.02
DRAWN = {"embedding": ROW_STD} | dict.fromkeys(("position", "column", "row_position"), POSITION_STD)
"""Tables of vectors that belong to codes, slots and rows, and the deviation that they begin with."""

Batch = Tensor | DocumentBatch
"""Codes of rows (S, B), or windows of histories."""


class TabularGPT(StageModule):
    """`sizes`: number of codes of each modelled slot, in model order. `max_rows` > 1 or `histories` makes it
    a model of histories. `log_marginals` (V,) is where the head's bias starts: the model begins as the
    independent marginals. `stage`: which of a pipeline's model chunks it is.

    The initial weights follow from `seed` alone, whatever the layout.
    """

    def __init__(
        self,
        model: ModelConfig,
        precision: str,
        sizes: Sequence[int],
        groups: ProcessGroupCollection,
        *,
        log_marginals: Tensor | None = None,
        places: Places = (),
        histories: bool = False,
        max_rows: int = 1,
        seed: int = 0,
        stage: Stage = WHOLE,
    ) -> None:
        super().__init__(engine_block.transformer_config(model, precision), groups, stage)
        self.histories, self.max_rows = histories, max_rows
        self.sizes = [size + (histories and s == 0) for s, size in enumerate(sizes)]
        self.offsets = Slots(self.sizes).offsets
        curves = Curves(self.offsets, places)
        share = RowShare.of(curves.num_rows, groups.tp)
        self.slots, self.share = Slots(self.sizes, share), share
        self.sequence = SequenceShare(self.config, groups)
        hidden, vocab = model.hidden_size, self.offsets[-1]
        if stage.first or stage.last:
            self.embedding = share.parameter(curves.initial(hidden, seed))
            self.tie()
        for name, rows in self.tables(model).items():
            setattr(self, name, torch.nn.Parameter(torch.empty(rows, hidden)))
            draw_(getattr(self, name), name, seed, POSITION_STD, groups.tp)
        if stage.last:
            biases = torch.zeros(vocab) if log_marginals is None else log_marginals
            self.bias = share.parameter(torch.cat([biases, torch.zeros(curves.num_rows - vocab)]))
        self.blocks = engine_block.transformer_block(self.config, groups, seed=seed, stage=stage)
        self.shift_S1: Tensor
        self.own: Tensor
        self.wave: Tensor
        self.register_buffer("own", share.part(curves.own_V1), persistent=False)
        self.register_buffer("wave", share.part(curves.wave_VF), persistent=False)
        self.register_buffer("shift_S1", torch.tensor(self.offsets[:-1]).unsqueeze(1), persistent=False)

    @property
    def table(self) -> Tensor:
        """Rows of this rank's ids, as they are looked up and as the head uses them: see curves.py."""
        ids, waves = self.offsets[-1], self.wave.shape[1]
        if not waves:
            return self.embedding
        return self.embedding * self.own + self.wave @ self.share.whole_rows(self.embedding, ids, ids + waves)

    position: torch.nn.Parameter
    begin: torch.nn.Parameter
    row_position: torch.nn.Parameter

    def tables(self, model: ModelConfig) -> dict[str, int]:
        """Rows of each small table of hidden-sized vectors that this stage holds."""
        if not self.stage.first:
            return {}
        tables = {"position": len(self.sizes), "begin": 2 if self.histories else 1}
        return tables | ({"row_position": self.max_rows + 1} if self.histories else {})

    def shape(self, batch: Batch) -> tuple[int, int]:
        """(positions after padding, documents)."""
        if isinstance(batch, DocumentBatch):
            rows, slots, documents = batch.codes.shape
            return self.sequence.padded(rows * slots + 1), documents
        return self.sequence.padded(batch.shape[0]), batch.shape[1]

    def forward(self, batch: Batch, measure: str | None = None) -> Any:
        """Negative log-likelihood of the batch in nats: the sum, the sum by slot (S,), and its documents;
        with `measure`, what the method of that name gives instead. A stage before the last gives hidden
        states.

        Under tensor parallelism the loss is whole on each rank; under context parallelism each rank's is that
        of the positions it holds.
        """
        hidden_TBH = self._hidden(batch)
        if not self.stage.last:
            return hidden_TBH
        predictions = self._predictions(batch, self.sequence.leave(hidden_TBH))
        return self._outcome(batch, predictions, measure)

    def _outcome(
        self,
        batch: Batch,
        predictions: tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]],
        measure: str | None,
    ) -> Any:
        if measure is not None:
            return getattr(self, measure)(*predictions)
        targets, scored, hidden = predictions
        total, by_slot = SlotLoss.apply(self.table, self.bias, self.slots, targets, scored, *hidden)
        return total, by_slot, self.shape(batch)[1]

    @torch.no_grad()
    def nll(self, batch: Batch) -> list[Tensor]:
        """Negative log-likelihood in nats of each single prediction: S tensors, (B,) for rows."""
        targets, scored, hidden = self._predictions(batch, self.sequence.leave(self._hidden(batch)))
        losses = slot_nll(self.table, self.bias, self.slots, targets, *hidden)
        return losses if scored is None else [a * b for a, b in zip(losses, scored, strict=True)]

    def nats_by_slot(
        self, targets: Sequence[Tensor], scored: Sequence[Tensor] | None, hidden: Sequence[Tensor]
    ) -> Tensor:
        """Sums of a batch's predictions, float64 (S,); zero on all tensor-parallel ranks but the first."""
        _, by_slot = SlotLoss.apply(self.table, self.bias, self.slots, targets, scored, *hidden)
        return by_slot.double() * (self.groups.tp.rank() == 0)

    def counts(
        self, targets: Sequence[Tensor], scored: Sequence[Tensor] | None, hidden: Sequence[Tensor]
    ) -> Tensor:
        """How often each code is predicted and how often it occurs in a batch: float64 (2, V), of the codes
        that this rank holds.
        """
        return slot_counts(self.table, self.bias, self.slots, targets, scored, *hidden)

    def _hidden(self, batch: Batch) -> Tensor:
        x_TBH = None
        if self.stage.first:
            x_TBH = self._window_input(batch) if isinstance(batch, DocumentBatch) else self._row_input(batch)
            x_TBH = self.sequence.enter(x_TBH.to(self.config.params_dtype))
        return self.blocks(x_TBH, attention_mask=None)

    def _row_input(self, codes_SB: Tensor) -> Tensor:
        begin = self.begin[:1].expand(1, codes_SB.shape[1], -1)
        values = self.share.look_up(self.table, codes_SB[:-1] + self.shift_S1[:-1])
        return torch.cat([begin, values]) + self.position.unsqueeze(1)

    def _window_input(self, batch: DocumentBatch) -> Tensor:
        rows, slots, _count = batch.codes.shape
        begin_BH = self.begin[(~batch.begins).long()]
        values = self.share.look_up(self.table, (batch.codes + self.shift_S1).flatten(0, 1))
        place = (self.position.unsqueeze(0) + self.row_position[: rows + 1].unsqueeze(1)).flatten(0, 1)
        return torch.cat([begin_BH.unsqueeze(0), values]) + place[: rows * slots + 1].unsqueeze(1)

    def _predictions(
        self, batch: Batch, hidden_TBH: Tensor
    ) -> tuple[Sequence[Tensor], Sequence[Tensor] | None, Sequence[Tensor]]:
        """Targets, weights and hidden states of each slot's predictions at this rank's positions."""
        targets: list[Tensor]
        scored: list[Tensor] | None = None
        if isinstance(batch, DocumentBatch):
            targets, scored = self._window_targets(batch)
        elif self.sequence.parts == 1:
            return list(batch), None, list(hidden_TBH[: len(batch)])
        else:
            targets = list(batch.unsqueeze(1))
        slots = len(targets)
        if self.sequence.parts > 1:
            length = sum(len(target) for target in targets)
            local, nth = self.sequence.every(slots, length, hidden_TBH.device)
            targets = [target[n] for target, n in zip(targets, nth, strict=True)]
            scored = scored and [weight[n] for weight, n in zip(scored, nth, strict=True)]
            hidden = [hidden_TBH[found] for found in local]
        else:
            hidden = [hidden_TBH[s::slots][: len(target)] for s, target in enumerate(targets)]
        flat = [[x.flatten(0, 1) for x in parts] for parts in (targets, scored or [], hidden)]
        return flat[0], flat[1] if scored else None, flat[2]

    def _window_targets(self, batch: DocumentBatch) -> tuple[list[Tensor], list[Tensor]]:
        """S tensors (R, B), the first (R + 1, B): slot 0 is predicted once more than the others, after the
        last row, where the document may end.
        """
        codes_RSB = batch.codes
        rows, slots, _count = codes_RSB.shape
        last = torch.zeros_like(codes_RSB[:1, 0])
        row_R1 = torch.arange(rows + 1, device=codes_RSB.device).unsqueeze(1)
        ends_RB = (row_R1 == batch.lengths) & batch.ends
        first_RB = torch.cat([codes_RSB[:, 0], last]).masked_fill(ends_RB, self.sizes[0] - 1)
        scored_RB = batch.scored.float()
        first_scored_RB = torch.cat([scored_RB, last.float()]) + ends_RB.float()
        targets = [first_RB, *(codes_RSB[:, s] for s in range(1, slots))]
        return targets, [first_scored_RB, *[scored_RB] * (slots - 1)]
