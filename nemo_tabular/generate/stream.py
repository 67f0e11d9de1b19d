"""A decoder, a tokenizer and a request come in; tables of finished rows leave, a piece at a time.
Memory does not grow with the rows: whoever writes the tables away can make a billion.

Shapes: N rows of a piece, K columns, S modelled slots in the model's order, G of them given, W slots of the
table.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from ..codecs import Codec, DenseCodec
from ..errors import CodecError, GenerationError, nearest
from ..models.order import RowPlan
from ..tokenizer import TableTokenizer
from ..uniforms import row_states, uniforms
from .request import GenerationRequest, OneCell, is_sequence
from .trie import RowDecoder

PIECE = 32_768  # rows of one table: their codes fit a core's cache
RESIDUAL_SLOT = 1 << 40  # the fine remainders draw from numbers of their own, beyond every modelled slot


class RowStream:
    """Finished rows of one model, in the table's own order of columns."""

    def __init__(self, decoder: RowDecoder, plan: RowPlan, tokenizer: TableTokenizer) -> None:
        if tuple(decoder.weights.sizes) != tuple(plan.sizes):
            raise GenerationError(
                f"model and tokenizer do not belong together: slots of sizes {list(decoder.weights.sizes)} "
                f"and {list(plan.sizes)}"
            )
        self.decoder, self.plan, self.tokenizer = decoder, plan, tokenizer

    def tables(self, request: GenerationRequest) -> Iterator[pa.Table]:
        """Rows first_row, ..., in tables of at most PIECE rows; at least one table, be it empty. Row i is the
        same in every request with its seed.

        Raises GenerationError for a given column that is unknown or does not lead, or a value it cannot hold.
        """
        given_GW, fixed_W = leading_cells(self.tokenizer, self.plan, request.given, request.unseen)
        modelled = self.plan.slots[: int(fixed_W[self.plan.slots].sum())]
        lead = given_GW[:, modelled]
        tiles = self.decoder.tiles(request.rows, request.seed, request.first_row, lead, request.sampling)
        row = request.first_row
        if not request.rows:
            yield self.tokenizer.decode_codes(np.zeros((0, self.tokenizer.num_slots), np.int32))
        for tile_NS in tiles:
            for start in range(0, len(tile_NS), PIECE):
                codes_NS = tile_NS[start : start + PIECE]
                states_N = row_states(request.seed, row, len(codes_NS))
                codes_NW = completed(codes_NS, states_N, self.plan, self.tokenizer)
                number_N = (row + np.arange(len(codes_NS))) % len(given_GW)
                codes_NW[:, fixed_W] = given_GW[number_N][:, fixed_W]
                yield self.tokenizer.decode_codes(codes_NW)
                row += len(codes_NS)


def leading_cells(
    tokenizer: TableTokenizer, plan: RowPlan, given: Mapping[str, Any], unseen: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """As `given_cells`; a GenerationError as well where the columns are not those that the model sees
    first."""
    cells = given_cells(tokenizer, given, unseen)
    if set(given) != set(plan.columns[: len(given)]):
        raise GenerationError(_not_leading(list(given), plan.columns))
    return cells


def given_cells(
    tokenizer: TableTokenizer, given: Mapping[str, Any], unseen: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Codes of given columns, int32 (lines, W), and which slots of the table they fix, bool (W,). `unseen`:
    what a value that training never saw is read as (nearest, other, ...).

    Raises GenerationError for a column that is unknown and for a value that it cannot hold.
    """
    names = tokenizer.columns
    for name in given:
        if name not in names:
            raise GenerationError(f"given: the table has no column {name!r}{nearest(name, list(names))}")
    lines = max((len(values) for values in given.values() if is_sequence(values)), default=1)
    codes_GW = np.zeros((lines, tokenizer.num_slots), np.int32)
    fixed_W = np.zeros(tokenizer.num_slots, bool)
    for name, values in given.items():
        slots = tokenizer.column_slots[name]
        codes_GW[:, slots] = given_codes(tokenizer.codecs[name], values, unseen)
        fixed_W[slots] = True
    return codes_GW, fixed_W


def given_dense(
    tokenizer: TableTokenizer, given: Mapping[str, Any], lines: int, unseen: str | None = None
) -> dict[str, np.ndarray]:
    """Cells of the dense columns, (lines, ...) each: those that are given, blanks for the others."""
    out = {}
    for name, codec in tokenizer.dense.items():
        if name not in given:
            out[name] = codec.blank(lines)
            continue
        with _as_given():
            cells = codec.padded(codec.cells(given_values(codec, given[name]), unseen=unseen))
        out[name] = np.repeat(cells, lines // len(cells), axis=0)
    return out


def given_values(codec: DenseCodec, values: Any) -> pa.Array:
    """Given cells of a dense column as Arrow values of the column's type: one, or one a line."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    if isinstance(values, pa.Array):
        return values
    listed = (
        list(values) if is_sequence(values) else [values.value if isinstance(values, OneCell) else values]
    )
    return pa.concat_arrays([codec.one(_missing_as_none(_plain(value), codec)) for value in listed])


def _missing_as_none(value: Any, codec: DenseCodec) -> Any:
    """A frame's missing array or text is NaN; a number may be one."""
    is_nan = isinstance(value, float) and value != value
    return None if is_nan and not pa.types.is_floating(codec.arrow_type) else value


@contextmanager
def _as_given() -> Iterator[None]:
    """What a codec refuses is an error of the request."""
    try:
        yield
    except (CodecError, TypeError) as error:  # TypeError: a list or dict where a value should be
        raise GenerationError(f"given: {error}") from error


def completed(
    codes_NS: np.ndarray,
    states_N: np.ndarray,
    plan: RowPlan,
    tokenizer: TableTokenizer,
    row_N: int | np.ndarray = 0,
) -> np.ndarray:
    """All slots of the table, int32 (N, W): the fine remainders of numbers drawn uniformly in their cells.

    `row_N` tells rows of equal states apart: those of one document.
    """
    codes_NW = np.zeros((len(codes_NS), tokenizer.num_slots), np.int32)
    codes_NW[:, plan.slots] = codes_NS
    if not tokenizer.residual.any():
        return codes_NW
    columns = len(tokenizer.column_slots)
    uniform_NK = np.zeros((len(codes_NS), columns))
    for k, slots in enumerate(tokenizer.column_slots.values()):
        if tokenizer.residual[slots].any():
            uniform_NK[:, k] = uniforms(states_N, RESIDUAL_SLOT + row_N * columns + k)
    return tokenizer.fill_residual(codes_NW, uniform_NK)


def given_codes(codec: Codec, values: Any, unseen: str | None = None) -> np.ndarray:
    """Codes of one value (slots,), or of a sequence (lines, slots); each distinct value is encoded once.

    Raises GenerationError for a value that the column cannot hold.
    """
    if isinstance(codec, DenseCodec):
        with _as_given():
            found = codec.encode(given_values(codec, values))
        return found if is_sequence(values) else found[0]
    if isinstance(values, (pa.Array, pa.ChunkedArray)):
        values = values.to_pylist()
    listed: Sequence[Any] = list(values) if is_sequence(values) else [values]
    place: dict[tuple[type, Any], int] = {}  # by type as well: 1 == True, but not in a column of text
    with _as_given():
        line_G = [place.setdefault((type(value), value), len(place)) for value in map(_plain, listed)]
        codes = np.stack([codec.codes_for(value, unseen) for _, value in place])
    return codes[line_G] if is_sequence(values) else codes[0]


def _plain(value: Any) -> Any:
    """A Python value of a numpy or pandas one; pandas' missing values are None."""
    if isinstance(value, np.generic):
        value = value.item()
    return None if type(value).__name__ in ("NAType", "NaTType") else value


def _not_leading(given: Sequence[str], columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:6]) + (", ..." if len(columns) > 6 else "")
    late = [name for name in given if name not in columns[: len(given)]]
    return (
        f"given: {', '.join(map(repr, late))} cannot be given: a row is made left to right, others come "
        f"first (the model's order is {shown}; what is given must be the start of it). Train with "
        f"model.condition_on=[{', '.join(given)}], or use a model that generates in any order (the CGM)"
    )
