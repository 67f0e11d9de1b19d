"""A model of histories and a request come in; documents leave, each begun afresh or continued from rows that
are given. Document i depends on (seed, i) and its own history only: its draws are numbered by row and slot.

Documents are decoded side by side in the lanes of a batch. All lanes work at the same slot, each in a row of
its own; a lane whose document is finished takes the next one at the following row. Rows that are known are
read, not drawn: those of a given history, and those that are read again when a window is full. Then a new
window begins, as in training, with the last `context_rows` rows, and the document goes on from them.

Rows have an order: the codes of the slots that say when a row is (`rising`) are drawn among those that make
it no earlier than the row before. Training rows are in order: what is not drawn is what the model got wrong.

Shapes: L lanes in use, B lanes, S slots of a row, G of them given, R rows of a window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..errors import GenerationError
from ..models.weights import DecoderWeights
from ..uniforms import row_states, uniforms
from .compiled import CompiledSteps
from .constraints import leading_codes, masked_bias
from .lanes import LaneStep, TorchSteps
from .request import Sampling
from .trie import compiled_library

CACHE_BYTES = 1 << 28  # keys and values of all lanes
CUDA_CACHE_BYTES = 1 << 33
LARGEST_BATCH = 128
CUDA_LARGEST_BATCH = 1024
FIRST_ROWS = 64  # rows that a document has room for at first
AHEAD = 8  # batches of finished documents that may wait for a long one before them


@dataclass(frozen=True)
class Document:
    """One finished document."""

    number: int
    rows: np.ndarray
    """int32 (rows, S): the new rows, without the history they continue; codes in the model's order of
    slots."""
    ended: bool
    """Whether the model ended it, and not the limit of rows."""


class DocumentDecoder:
    """Draws documents of many rows. `dtype`: of the network's arithmetic.

    `context_rows`: rows that a window repeats when it continues a document, as in training. None: training
    saw no document longer than a window, so none is continued: a full window ends it. `rising`: slots, from
    left to right, whose codes taken together never fall from one row to the next.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        dtype: torch.dtype = torch.float32,
        *,
        context_rows: int | None = None,
        rising: Sequence[int] = (),
        device: torch.device | str = "cpu",
        backend: str = "auto",
        batch: int | None = None,
    ) -> None:
        if not weights.histories:
            raise GenerationError("this model makes single rows: decode it with RowDecoder")
        if context_rows is not None and not 0 < context_rows < weights.max_rows:
            raise GenerationError(
                f"context_rows is {context_rows}, expected at least 1, below a window's {weights.max_rows}"
            )
        self.weights, self.context_rows, self.rising = weights, context_rows, frozenset(rising)
        self._bias_V = weights.bias.detach().float().cpu().numpy()
        self._steps = _steps(weights, dtype, torch.device(device), backend, batch)
        self.backend = "torch" if isinstance(self._steps, TorchSteps) else "compiled"

    def sample(
        self,
        documents: int,
        seed: int,
        first_document: int = 0,
        *,
        max_rows: int,
        histories: Sequence[np.ndarray] | None = None,
        given: np.ndarray | None = None,
        ends: bool = True,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> Iterator[Document]:
        """Documents first_document, ..., in order, of at most `max_rows` new rows each.

        `histories`: codes (rows, S) that documents continue, document i the i % n-th of them; one of no rows
        begins afresh. `given`: codes (n, G) of the leading slots in every row of document i, of line i % n;
        they stand there wherever the model has another row follow. `ends=False`: documents do not end before
        `max_rows`, as for forecasts of a fixed horizon. `allowed`: for each slot a bool array of its codes
        (the end not among them), or None. At least one row is drawn where there is none yet. Raises
        GenerationError for histories and given codes that are not the slots'.
        """
        if max_rows < 1:
            raise GenerationError(f"max_rows is {max_rows}, expected at least 1")
        known = [self._checked(i, rows) for i, rows in enumerate(histories or [])]
        self._steps.begin(sampling, self._bias(allowed))
        lanes = _Lanes(self.weights, self._steps.batch, max_rows)
        nothing = self._checked(0, np.empty((0, self.weights.slots)))
        lead_nG = leading_codes(given, [self.weights.sizes[0] - 1, *self.weights.sizes[1:]])
        upcoming = due = first_document
        finished: dict[int, Document] = {}
        while due < first_document + documents:
            last = min(first_document + documents, due + AHEAD * self._steps.batch)
            for lane in np.flatnonzero(lanes.number < 0)[: last - upcoming]:
                lanes.take(lane, upcoming, seed, *(known[upcoming % len(known)] if known else nothing))
                upcoming += 1
            self._row(lanes, ends, lead_nG)
            finished |= {document.number: document for document in lanes.close(self.context_rows)}
            while due in finished:
                yield finished.pop(due)
                due += 1

    def _row(self, lanes: "_Lanes", ends: bool, lead_nG: np.ndarray) -> None:
        """Read or draw the next row of every document in the lanes."""
        use_L = np.flatnonzero(lanes.number >= 0)
        offsets, end = self.weights.offsets, self.weights.sizes[0] - 1
        lanes.make_room(int(lanes.at[use_L].max()) + 1)
        lanes.level[:] = lanes.at > 0
        for slot in range(self.weights.slots):
            at_L = lanes.at[use_L]
            known_L = at_L < lanes.length[use_L]
            new_L = at_L - lanes.history[use_L]  # draws are numbered from the first new row
            draw_L = np.where(known_L, 0, new_L * self.weights.slots + slot)
            step = LaneStep(
                lane=use_L.astype(np.int32),
                id=lanes.id[use_L],
                place=(at_L - lanes.start[use_L]).astype(np.int32),
                position=lanes.position[use_L],
                endless=(((lanes.length[use_L] == 0) | (not ends)) & (slot == 0)).astype(np.uint8),
                least=lanes.least(use_L, slot) if slot in self.rising else np.zeros(len(use_L), np.int32),
                uniform=uniforms(lanes.state[use_L], draw_L),
                drawn=not known_L.all(),
            )
            code_L = np.where(known_L, lanes.codes[use_L, at_L, slot], self._steps.step(slot, step))
            if slot == 0:
                over_L = ~known_L & (code_L == end)
                lanes.ended[use_L[over_L]] = True
                use_L, at_L, code_L = use_L[~over_L], at_L[~over_L], code_L[~over_L]
                known_L = known_L[~over_L]
            if slot < lead_nG.shape[1]:
                code_L = np.where(known_L, code_L, lead_nG[lanes.number[use_L] % len(lead_nG), slot])
            lanes.codes[use_L, at_L, slot] = code_L
            if slot in self.rising:
                lanes.level[use_L] &= code_L == lanes.codes[use_L, at_L - 1, slot]
            lanes.id[use_L] = 2 + offsets[slot] + code_L
            lanes.position[use_L] += 1
        lanes.at[use_L] += 1
        lanes.length[use_L] = np.maximum(lanes.length[use_L], lanes.at[use_L])

    def _checked(self, number: int, rows: np.ndarray) -> tuple[np.ndarray, bool]:
        """The part of a history that a window is to hold, int32, and whether more came before it."""
        rows, window = np.asarray(rows), self.weights.max_rows
        if rows.ndim != 2 or rows.shape[1] != self.weights.slots:
            raise GenerationError(
                f"history {number}: codes of shape {rows.shape}, expected (rows, {self.weights.slots})"
            )
        if len(rows) >= window and self.context_rows is None:
            raise GenerationError(
                f"history {number} has {len(rows)} rows, the model's window {window}, and training saw no "
                "longer document. Give the last rows of it only, or train with longer documents"
            )
        if len(rows) == 0:
            return np.empty((0, self.weights.slots), np.int32), False
        codes = leading_codes(rows, [self.weights.sizes[0] - 1, *self.weights.sizes[1:]])
        return (codes, False) if len(rows) < window else (codes[-(self.context_rows or 0) :], True)

    def _bias(self, allowed: Sequence[np.ndarray | None] | None) -> np.ndarray:
        if allowed is not None and allowed[0] is not None:
            allowed = [np.append(allowed[0], True), *allowed[1:]]  # documents may always end
        return masked_bias(self._bias_V, allowed, self.weights.sizes)


class _Lanes:
    """The documents in the making, one a lane; arrays (B,), number -1 where a lane is free."""

    def __init__(self, weights: DecoderWeights, batch: int, max_rows: int) -> None:
        self.window, self.max_rows = weights.max_rows, max_rows
        self.number = np.full(batch, -1, np.int64)
        self.state = np.zeros(batch, np.uint64)
        self.history, self.length, self.start, self.at = np.zeros((4, batch), np.int64)
        self.id, self.position = np.zeros((2, batch), np.int32)
        self.ended, self.level = np.zeros((2, batch), bool)
        """`level`: the row in hand is so far no later than the one before it."""
        self.codes = np.zeros((batch, FIRST_ROWS, weights.slots), np.int32)

    def make_room(self, rows: int) -> None:
        """Codes of so many rows a document; their number is not known before."""
        if rows > self.codes.shape[1]:
            more = max(rows, 2 * self.codes.shape[1]) - self.codes.shape[1]
            self.codes = np.pad(self.codes, ((0, 0), (0, more), (0, 0)))

    def least(self, use_L: np.ndarray, slot: int) -> np.ndarray:
        """int32 (L,): the lowest code that makes the row in hand no earlier than the one before it."""
        return np.where(self.level[use_L], self.codes[use_L, self.at[use_L] - 1, slot], 0)

    def take(self, lane: int, number: int, seed: int, history: np.ndarray, continues: bool) -> None:
        """Begin a document, with the rows that are known of it; `continues`: not from its first."""
        rows = len(history)
        self.make_room(rows)
        self.number[lane], self.state[lane] = number, row_states(seed, number, 1)[0]
        self.history[lane] = self.length[lane] = rows
        self.codes[lane, :rows] = history
        self.start[lane] = self.at[lane] = self.position[lane] = 0
        self.id[lane] = int(continues)
        self.ended[lane] = False

    def close(self, context_rows: int | None) -> list[Document]:
        """Give finished documents away, and begin the next window of those that filled theirs."""
        new = self.length - self.history
        full = (self.number >= 0) & (self.at - self.start == self.window)
        if context_rows is None:
            self.ended |= full
        over = (self.number >= 0) & (self.ended | (new >= self.max_rows))
        on = full & ~over
        self.start[on] = self.at[on] = self.at[on] - (context_rows or 0)
        self.id[on], self.position[on] = 1, 0
        done = []
        for lane in np.flatnonzero(over):
            rows = self.codes[lane, self.history[lane] : self.length[lane]].copy()
            done.append(Document(int(self.number[lane]), rows, bool(self.ended[lane])))
        self.number[over] = -1
        return done


def _steps(
    weights: DecoderWeights, dtype: torch.dtype, device: torch.device, backend: str, batch: int | None
) -> CompiledSteps | TorchSteps:
    """As for rows: compiled on CPUs where it can be, else torch. As many lanes as the cache's memory
    allows."""
    cuda = device.type == "cuda"
    positions = weights.max_rows * weights.slots + 1
    document = 2 * weights.layers * positions * weights.hidden * dtype.itemsize
    lanes = (CUDA_CACHE_BYTES if cuda else CACHE_BYTES) // document
    batch = batch or int(min(max(lanes, 1), CUDA_LARGEST_BATCH if cuda else LARGEST_BATCH))
    found = compiled_library(weights, dtype, device, backend)
    if found is not None:
        return CompiledSteps(found, weights, dtype, batch)
    return TorchSteps(weights, dtype, device, batch)
