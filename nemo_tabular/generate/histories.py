"""A decoder of documents, a tokenizer and a request come in; tables of whole histories leave, a piece at a
time. Memory does not grow with the documents, and the keys that tell them apart are running numbers.

Shapes: D documents of a piece, N their rows, S modelled slots in the model's order, G lines of given values,
W slots of the table.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from ..errors import GenerationError
from ..models.order import RowPlan
from ..readers import open_table
from ..schema import Column
from ..store import row_hash
from ..tokenizer import TableTokenizer
from ..uniforms import row_states
from .documents import Document, DocumentDecoder
from .request import HistoryRequest
from .stream import PIECE, completed, leading_cells

TEXT_KEY = "synthetic-{:06d}"


class HistoryStream:
    """Whole documents of one model as rows of a table, its columns in the table's own order."""

    def __init__(
        self, decoder: DocumentDecoder, plan: RowPlan, tokenizer: TableTokenizer, longest_document: int
    ) -> None:
        """`longest_document`: rows after which a document is cut off unless the request says otherwise."""
        sizes = [size + (slot == 0) for slot, size in enumerate(plan.sizes)]  # documents may end at slot 0
        if list(decoder.weights.sizes) != sizes:
            raise GenerationError(
                f"model and tokenizer do not belong together: slots of sizes {list(decoder.weights.sizes)} "
                f"and {sizes}"
            )
        self.decoder, self.plan, self.tokenizer = decoder, plan, tokenizer
        self.longest_document = longest_document

    def tables(self, request: HistoryRequest) -> Iterator[pa.Table]:
        """Documents first_document, ..., whole ones in every table, about PIECE rows each; at least one
        table, be it empty. Document i has the key i + 1, or "synthetic-000001" and so on where the table's is
        text, and is the same in every request with its seed and max_rows.

        Raises GenerationError for several documents of a table that has no key to tell them apart, and for
        given columns that do not lead; TabularError for a history that has no rows, or others than the
        table's.
        """
        if request.documents > 1 and not self.tokenizer.schema.group_by:
            raise GenerationError(
                f"{request.documents} documents: this table has no group_by, so nothing would tell one from "
                "the next. Ask for one at a time: documents 0, 1, ... with first_document"
            )
        limit = self.longest_document if request.max_rows is None else request.max_rows
        known = None if request.history is None else self._known(request.history, request.unseen)
        given_GW, fixed_W = leading_cells(self.tokenizer, self.plan, request.given, request.unseen)
        made = self.decoder.sample(
            request.documents,
            request.seed,
            request.first_document,
            max_rows=limit,
            histories=known,
            given=given_GW[:, self.plan.slots[: int(fixed_W[self.plan.slots].sum())]],
            sampling=request.sampling,
        )
        piece: list[Document] = []
        rows = 0
        for document in made:
            piece.append(document)
            rows += len(document.rows)
            if rows >= PIECE:
                yield self._table(piece, request.seed, given_GW, fixed_W)
                piece, rows = [], 0
        if piece or not request.documents:
            yield self._table(piece, request.seed, given_GW, fixed_W)

    def _known(self, source: Any, unseen: str | None) -> list[np.ndarray]:
        """Codes (rows, S) of each history of a table, in the order in which their keys first appear."""
        schema = self.tokenizer.schema
        table = pa.Table.from_batches(list(open_table(source).batches(schema))).combine_chunks()
        keys = row_hash(table.to_batches()[0], schema.group_by)
        _, first, group = np.unique(keys, return_index=True, return_inverse=True)
        group = np.argsort(np.argsort(first))[group]
        order = pa.table({"group": group} | {f"by {name}": table[name] for name in schema.order_by})
        place = pc.sort_indices(order, [(name, "ascending") for name in order.column_names]).to_numpy()
        codes = self.tokenizer.encode_codes(table, unseen)[place][:, self.plan.slots]
        return np.split(codes, np.cumsum(np.bincount(group))[:-1])

    def _table(
        self, documents: list[Document], seed: int, given_GW: np.ndarray, fixed_W: np.ndarray
    ) -> pa.Table:
        length_D = np.array([len(document.rows) for document in documents], np.int64)
        number_D = np.array([document.number for document in documents], np.int64)
        first_number = documents[0].number if documents else 0
        state_D = row_states(seed, first_number, len(documents))
        row_N = np.arange(length_D.sum()) - np.repeat(np.cumsum(length_D) - length_D, length_D)
        nothing = np.empty((0, len(self.plan.slots)), np.int32)
        codes_NS = np.concatenate([document.rows for document in documents] or [nothing])
        codes_NW = completed(codes_NS, np.repeat(state_D, length_D), self.plan, self.tokenizer, row_N)
        line_N = np.repeat(np.arange(len(documents)), length_D)
        codes_NW[:, fixed_W] = given_GW[number_D[line_N] % len(given_GW)][:, fixed_W]
        rows = self.tokenizer.decode_codes(codes_NW)
        schema = self.tokenizer.schema
        keys = {name: numbered(schema.column(name), number_D + 1) for name in schema.group_by}
        return pa.table({n: keys[n].take(line_N) if n in keys else rows[n] for n in schema.names})


def numbered(column: Column, number_D: np.ndarray) -> pa.Array:
    """Keys of the documents of these numbers: numbers where the column holds numbers, else texts.

    Raises GenerationError where the column's type has no room for a number.
    """
    wanted = column.arrow
    if not (pat.is_integer(wanted) or pat.is_floating(wanted) or pat.is_decimal(wanted)):
        return pa.array([TEXT_KEY.format(number) for number in number_D.tolist()], pa.string())
    try:
        if pat.is_decimal(wanted):  # Arrow casts no int64 to a decimal that could not hold every int64
            return pa.array([Decimal(number) for number in number_D.tolist()], wanted)
        return pa.array(number_D, pa.int64()).cast(wanted)
    except pa.ArrowInvalid:
        raise GenerationError(
            f"column {column.name!r} is {wanted}, which cannot hold document number {number_D[-1]:,}; "
            "ask for fewer documents, or train with a wider type of this key"
        ) from None
