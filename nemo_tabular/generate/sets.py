"""A CGM and a request come in; tables of finished rows leave, or a table with its missing cells filled.

A chunk of rows has one order of columns, in which the CGM is a GPT of rows: the decoder of rows makes it.
The order depends on (seed, number of the chunk) alone, so rows are the same however they are asked for; many
orders are better than one, whose errors every row would share.

Shapes: N rows of a piece, K columns, S modelled slots in the plan's order, W slots of the table, V ids.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import GenerationError
from ..models.saved import SavedModel
from ..orders import FIRST, THEN, SlotOrders
from ..tokenizer import TableTokenizer, as_arrow
from ..uniforms import row_states, states_of
from .cells import CellDecoder, rows_of
from .request import GenerationRequest, Sampling
from .stream import PIECE, completed, given_cells, given_dense
from .trie import RowDecoder, placement

CHUNK = 512  # rows of one order; row i belongs to chunk i // CHUNK
SMALL_TILE = 64
"""Rows with large dense cells that are made together; with small ones, as many as a chunk. Always the whole
tile, whatever is asked of it: a number that a network draws depends in its last bits on how many rows it
computes at a time."""
LARGE_CELL = 8  # numbers
PIECE_NUMBERS = 1 << 23  # of the cells of a finished table
IMPUTATION = 1 << 48  # distance between the numbers of a row in two imputations


class SetStream:
    """Rows of one CGM, given any of their cells."""

    def __init__(self, model: SavedModel) -> None:
        self.plan, self.tokenizer, self.weights = model.plan, model.tokenizer, model.set_weights()
        self.owner_S = self.plan.column_of_slot(self.tokenizer)
        self.order = model.config.order
        self.bias_V = self.weights.base.bias.numpy()
        cells = [codec.numbers_of_a_cell for codec in self.tokenizer.dense.values()]
        self.tile = CHUNK if max(cells, default=0) < LARGE_CELL else SMALL_TILE
        fitting = PIECE_NUMBERS // max(cells, default=1) // self.tile * self.tile
        self.piece = min(PIECE, max(self.tile, fitting))
        self._last: tuple[tuple[int, ...], RowDecoder] | None = None

    def tables(self, request: GenerationRequest) -> Iterator[pa.Table]:
        """Rows first_row, ..., in tables of at most `piece` rows; at least one table, be it empty.

        Raises GenerationError for a given column that is unknown, a value it cannot hold, and where every
        column is given.
        """
        given_GW, fixed_W = self._given(request.given, request.unseen)
        known = given_dense(self.tokenizer, request.given, len(given_GW), request.unseen)
        if not request.rows:
            yield self.tokenizer.decode_codes(np.zeros((0, self.tokenizer.num_slots), np.int32))
        for row in range(request.first_row, request.first_row + request.rows, self.piece):
            rows = min(self.piece, request.first_row + request.rows - row)
            codes_NS, dense = self._rows(request, row, rows, given_GW, fixed_W, known)
            states_N = row_states(request.seed, row, rows)
            codes_NW = completed(codes_NS, states_N, self.plan, self.tokenizer)
            codes_NW[:, fixed_W] = given_GW[(row + np.arange(rows)) % len(given_GW)][:, fixed_W]
            yield self.tokenizer.decode_codes(codes_NW, dense)

    def _given(self, given: Mapping[str, Any], unseen: str | None) -> tuple[np.ndarray, np.ndarray]:
        codes_GW, fixed_W = given_cells(self.tokenizer, given, unseen)
        if fixed_W.all():
            raise GenerationError(
                "given: every column is given, so nothing is left to draw; give fewer, or ask for log_prob"
            )
        for name in given:
            first = self.tokenizer.column_slots[name].start
            absent = self.tokenizer.schema.column(name).missing == "absent"
            if absent and self.tokenizer.codecs[name].nullable and (codes_GW[:, first] == 0).any():
                raise GenerationError(
                    f"given: column {name!r} is missing, and its missing cells are absent, so it cannot be a "
                    "condition: leave it out, or use impute for rows that differ in what they have"
                )
        return codes_GW, fixed_W

    def _fixed_share(self, request: GenerationRequest) -> float:
        """A model that has seen a share of its rows in one order knows that order best, but is no longer in
        it where other columns are given first."""
        own = self.order == "fixed" or (self.order == "mixed" and not request.given)
        return float(own if request.order is None else request.order == "fixed")

    def _rows(
        self,
        request: GenerationRequest,
        first: int,
        rows: int,
        given_GW: np.ndarray,
        fixed_W: np.ndarray,
        known: Mapping[str, np.ndarray],
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Codes (N, S) of rows first, ..., first + rows - 1, and the cells of their dense columns; `known`:
        the given ones."""
        out_NS = np.empty((rows, len(self.owner_S)), np.int32)
        fixed_S = fixed_W[self.plan.slots]
        chunks = np.arange(first // CHUNK, (first + rows - 1) // CHUNK + 1)
        group_K = np.full(self.owner_S[-1] + 1, THEN)
        group_K[self.owner_S[fixed_S]] = FIRST
        orders = SlotOrders(self.owner_S, self._fixed_share(request), request.seed)
        order_SC = orders(chunks, np.tile(group_K, (len(chunks), 1)))
        if self.weights.features is not None:
            parts = []
            for start in range(first // self.tile * self.tile, first + rows, self.tile):
                order_S = order_SC[:, start // CHUNK - chunks[0]]
                given = given_GW[:, self.plan.slots[order_S[: fixed_S.sum()]]]
                parts.append(self._filled(order_S, start, self.tile, given, request, known))
            here = slice(first % self.tile, first % self.tile + rows)
            codes_NS = np.concatenate([codes for codes, _ in parts])[here]
            return codes_NS, {name: rows_of([cells[name] for _, cells in parts])[here] for name in known}
        # neighbours of equal orders are made together: they share prefixes, and a decoder
        changed = np.flatnonzero((order_SC[:, 1:] != order_SC[:, :-1]).any(0)) + 1
        for begin, end in pairwise([0, *changed.tolist(), len(chunks)]):
            order_S = order_SC[:, begin]
            low = max(first, int(chunks[begin]) * CHUNK)
            high = min(first + rows, (int(chunks[end - 1]) + 1) * CHUNK)
            given = given_GW[:, self.plan.slots[order_S[: fixed_S.sum()]]]
            out_NS[low - first : high - first, order_S] = self._chunk(
                order_S, low, high - low, given, request
            )
        return out_NS, {}

    def _chunk(
        self, order_S: np.ndarray, first: int, rows: int, given_GL: np.ndarray, request: GenerationRequest
    ) -> np.ndarray:
        """Codes of rows of one order, slots in that order."""
        if self.weights.cross is None:
            decoder = self._decoder(tuple(order_S.tolist()))
            return np.concatenate(list(decoder.tiles(rows, request.seed, first, given_GL, request.sampling)))
        return self._filled(order_S, first, rows, given_GL, request, {})[0][:, order_S]

    def _filled(
        self,
        order_S: np.ndarray,
        first: int,
        rows: int,
        given_GL: np.ndarray,
        request: GenerationRequest,
        known: Mapping[str, np.ndarray],
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Codes of rows of one order, slots in the plan's, and the cells of their dense columns."""
        codes_NS = np.zeros((rows, len(order_S)), np.int64)
        lead, line_N = given_GL.shape[1], (first + np.arange(rows)) % len(given_GL)
        codes_NS[:, order_S[:lead]] = given_GL[line_N]
        return CellDecoder(self.weights).fill(
            codes_NS,
            np.repeat(order_S[:, None], rows, 1),
            np.full(rows, lead),
            row_states(request.seed, first, rows),
            self.bias_V,
            request.sampling,
            {name: cells[line_N] for name, cells in known.items()},
        )

    def impute(
        self,
        table: Any,
        seed: int = 0,
        imputation: int = 0,
        first_row: int = 0,
        unseen: str | None = None,
    ) -> pa.Table:
        """The table with each missing cell drawn given the cells of its row that are there.

        Row first_row + i depends on (seed, imputation, its number) and its own cells only. Columns of the
        schema that the table lacks are missing in every row. `unseen`: what a value that training never saw
        is read as ("nearest", "other", ...). Raises SchemaError and CodecError for what cannot be read.
        """
        names, table = self.tokenizer.columns, as_arrow(table)
        codes_NW, missing_NK = self.tokenizer.encode_cells(table, names, unseen, lacking=True)
        dense = self.tokenizer.read_dense(table, names, unseen)
        numbers_N = np.arange(len(codes_NW), dtype=np.uint64) + np.uint64(imputation * IMPUTATION + first_row)
        rows = np.flatnonzero(missing_NK.any(1))
        if not len(rows):
            return table
        codes_NW, missing_NK, numbers_N = codes_NW[rows], missing_NK[rows], numbers_N[rows]
        order = [names.index(name) for name in self.plan.columns]
        missing_plan = missing_NK[:, order]
        order_SN = SlotOrders(self.owner_S, float(self.order == "fixed"), seed)(
            numbers_N, np.where(missing_plan, THEN, FIRST)
        )
        known_N = (~missing_plan[:, self.owner_S]).sum(1)
        states_N = states_of(seed, numbers_N)
        codes_NS, cells = CellDecoder(self.weights).fill(
            codes_NW[:, self.plan.slots],
            order_SN,
            known_N,
            states_N,
            self._never_missing(),
            Sampling(),
            {name: known[rows] for name, known in dense.items()},
        )
        codes_NW = completed(codes_NS, states_N, self.plan, self.tokenizer)
        return _filled(table, self.tokenizer.decode_codes(codes_NW, cells), rows, self.tokenizer)

    def _decoder(self, order: tuple[int, ...]) -> RowDecoder:
        """The decoder of rows in this order; the last one is kept, for pieces of one order."""
        if self._last is None or self._last[0] != order:
            weights = self.weights.ordered(order)
            dtype, device = placement(weights.hidden)
            self._last = order, RowDecoder(weights, dtype, device=device)
        return self._last[1]

    def _never_missing(self) -> np.ndarray:
        """The bias with minus infinity at the codes that mean missing, where there are others."""
        bias_V, offsets = self.bias_V.copy(), self.weights.base.offsets
        for column in self.tokenizer.schema.coded:
            first = self.tokenizer.column_slots[column.name].start
            if self.tokenizer.codecs[column.name].nullable and self.tokenizer.slot_sizes[first] > 1:
                bias_V[offsets[int(np.flatnonzero(self.plan.slots == first)[0])]] = -np.inf
        return bias_V


def _filled(table: pa.Table, drawn: pa.Table, rows: np.ndarray, tokenizer: TableTokenizer) -> pa.Table:
    """`table` with its missing cells from `drawn`, whose row r is the table's row rows[r]."""
    place = np.zeros(len(table), np.int64)
    place[rows] = np.arange(len(rows))
    index = pa.array(place)
    columns: dict[str, pa.ChunkedArray] = {}
    for column in tokenizer.schema.columns:
        new = drawn.column(column.name)
        if column.name not in table.column_names:
            columns[column.name] = new.take(index)
        elif table.column(column.name).null_count:
            old = table.column(column.name)
            columns[column.name] = _first_there(old, new, index)
        else:
            columns[column.name] = table.column(column.name)
    return pa.table(columns)


def _first_there(old: pa.ChunkedArray, new: pa.ChunkedArray, index: pa.Array) -> pa.ChunkedArray:
    """`old`, and where it is missing `new` at `index`."""
    old = old.cast(new.type)
    if not pa.types.is_nested(new.type):
        return pc.coalesce(old, new.take(index))
    both = pa.chunked_array([*old.chunks, *new.chunks], new.type)  # Arrow chooses between no nested values
    place = pc.if_else(old.is_valid(), pa.array(np.arange(len(old))), pc.add(index, len(old)))
    return both.take(place)
