"""Row and document views of a token store come in; tensors of column-local codes leave, batch after batch.
The order depends on (seed, step) alone: not on ranks, workers or how often the run was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from nemo_tabular.errors import ConfigError
from nemo_tabular.orders import LAST, THEN, SlotOrders
from nemo_tabular.store import Documents, Windows
from nemo_tabular.tokenizer import PAD, TableTokenizer

# B rows or windows of a batch, R rows of the longest window, S slots of a row

TABLE_ITEMS = 1 << 16  # up to here a permutation is an exactly uniform shuffle, held as a table of 256 kB
MIX_CHUNK = 1 << 17  # small enough for a cache, large enough that the cycle walk's short tails cost little
ROUNDS = 5


class Permutation:
    """A pseudo-random bijection of 0..n-1, fixed by n and the seed, in memory that does not grow with n.

    Up to 65,536 items: a table, shuffled uniformly. Above: rounds of (add a key, multiply by an odd number,
    fold the high half into the low one), each a bijection of k-bit integers, and cycle walking (Black and
    Rogaway 2002) from 2**k down to n.
    """

    def __init__(self, n: int, seed: int | tuple[int, ...]) -> None:
        if n < 1:
            raise ConfigError(f"a permutation of {n} items: there is nothing to shuffle")
        self.n = n
        parts = (seed,) if isinstance(seed, int) else seed
        bits = np.random.Philox(np.random.SeedSequence([part & 0xFFFFFFFFFFFFFFFF for part in parts]))
        self._table = None
        if n <= TABLE_ITEMS:
            self._table = np.random.Generator(bits).permutation(np.arange(n, dtype=np.uint32))
            return
        self._bits = (n - 1).bit_length()
        self._dtype = np.dtype(np.uint32 if self._bits <= 32 else np.uint64)
        raw = bits.random_raw(2 * ROUNDS)
        self._mask = self._dtype.type((1 << self._bits) - 1)
        self._add = raw[:ROUNDS].astype(self._dtype)
        self._multiply = (raw[ROUNDS:] | np.uint64(1)).astype(self._dtype)
        # Half the bits or more: the well mixed high bits reach all of the badly mixed low ones.
        self._fold = self._dtype.type((self._bits + 1) // 2)

    def __call__(self, items: np.ndarray) -> np.ndarray:
        """int64 images of int64 items of any shape, each in 0..n-1."""
        items = np.asarray(items)
        if self._table is not None:
            return self._table[items].astype(np.int64)
        flat, out = items.reshape(-1), np.empty(items.size, np.int64)
        for start in range(0, flat.size, MIX_CHUNK):
            values = self._mix(flat[start : start + MIX_CHUNK].astype(self._dtype))
            # Whatever lands outside walks on along its cycle, which leads back inside.
            outside = np.flatnonzero(values >= self.n)
            while outside.size:
                walked = self._mix(values[outside])
                values[outside] = walked
                outside = outside[walked >= self.n]
            out[start : start + MIX_CHUNK] = values
        return out.reshape(items.shape)

    def _mix(self, values: np.ndarray) -> np.ndarray:
        high = np.empty_like(values)
        for add, multiply in zip(self._add, self._multiply, strict=True):
            values += add
            values *= multiply
            values &= self._mask
            np.right_shift(values, self._fold, out=high)
            values ^= high
        return values


@lru_cache(maxsize=64)
def _epoch(n: int, *seed: int) -> Permutation:
    return Permutation(n, seed)


def evenly(total: int, most: int, run: int = 64) -> np.ndarray:
    """int64: at most `most` of `total` item numbers, rising, in runs that are spread over all of them."""
    items = np.arange(min(total, most))
    gaps = max(1, (len(items) - 1) // run)
    return items + items // run * (total - len(items)) // gaps


class Blend:
    """Which items an epoch takes where tables have weights: as many as there are, so many of each table.

    `runs`: for each table the (first, count) runs of its items. A table's items are all taken before one is
    taken again, over the borders of epochs.
    """

    def __init__(
        self, runs: Sequence[Sequence[tuple[int, int]]], weights: Sequence[float], seed: int
    ) -> None:
        self.seed = seed
        self._items = [np.array(run, np.int64).reshape(-1, 2) for run in runs]
        self.sizes = [int(items[:, 1].sum()) for items in self._items]
        shares = np.cumsum(weights) / np.sum(weights)
        self._ends = np.rint(shares * sum(self.sizes)).astype(np.int64)

    def __call__(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """int64 item numbers at these places (0 .. number of items - 1) of an epoch."""
        out = np.empty(len(places), np.int64)
        table = np.searchsorted(self._ends, places, side="right")
        for t in np.unique(table).tolist():
            first = int(self._ends[t - 1]) if t else 0
            nth = places[table == t] - first + epoch * (int(self._ends[t]) - first)
            rounds, index = np.divmod(nth, self.sizes[t])
            for r in np.unique(rounds).tolist():
                index[rounds == r] = _epoch(self.sizes[t], self.seed, r, t)(index[rounds == r])
            out[table == t] = self._item(t, index)
        return out

    def _item(self, table: int, index: np.ndarray) -> np.ndarray:
        first, count = self._items[table].T
        before = np.cumsum(count) - count
        run = np.searchsorted(before, index, side="right") - 1
        return first[run] + index - before[run]


class Shuffle:
    """Endless item numbers: each item once an epoch, in an order of its own; batches cross epoch borders."""

    def __init__(self, num_items: int, seed: int, global_batch_size: int) -> None:
        if global_batch_size < 1:
            raise ConfigError(f"global_batch_size {global_batch_size}: it must be at least 1")
        if num_items < 1:
            raise ConfigError("the split is empty: give it a share in prepare's splits, or more rows")
        self.num_items, self.seed, self.global_batch_size = num_items, seed, global_batch_size
        self.position = 0
        """Items given so far by `next_batch`."""

    def take(self, position: int, count: int) -> np.ndarray:
        """int64 item numbers at positions position .. position+count-1 of the endless order."""
        out = np.empty(count, np.int64)
        done = 0
        while done < count:
            epoch, start = divmod(position + done, self.num_items)
            n = min(count - done, self.num_items - start)
            places = _epoch(self.num_items, self.seed, epoch)(np.arange(start, start + n))
            out[done : done + n] = self._items(epoch, places)
            done += n
        return out

    def _items(self, epoch: int, places: np.ndarray) -> np.ndarray:
        """The items at these places of an epoch."""
        return places

    def at(self, step: int, rank: int = 0, ranks: int = 1) -> np.ndarray:
        """int64 item numbers of a rank's slice of global batch `step` (from 0); stateless."""
        first, count = self.share(rank, ranks)
        return self.take(step * self.global_batch_size + first, count)

    def batch(self, items: np.ndarray) -> Any:
        """The batch that these items make."""
        raise NotImplementedError

    def batch_at(self, step: int, rank: int = 0, ranks: int = 1) -> Any:
        """A rank's slice of global batch `step` (from 0); stateless."""
        return self.batch(self.at(step, rank, ranks))

    def share(self, rank: int, ranks: int) -> tuple[int, int]:
        """First item and number of items of a data-parallel rank's slice of a global batch."""
        if self.global_batch_size % ranks:
            raise ConfigError(
                f"global_batch_size {self.global_batch_size} is no multiple of the {ranks} data ranks"
            )
        size = self.global_batch_size // ranks
        return rank * size, size

    def next_batch(self, rank: int = 0, ranks: int = 1) -> np.ndarray:
        """The rank's slice of the next global batch; moves the position on by a whole global batch."""
        first, count = self.share(rank, ranks)
        items = self.take(self.position + first, count)
        self.position += self.global_batch_size
        return items

    @property
    def epoch(self) -> float:
        """Epochs given so far."""
        return self.position / self.num_items

    def state_dict(self) -> dict[str, int]:
        """The position, and what it is a position in."""
        return {"position": self.position, "seed": self.seed, "num_items": self.num_items}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken, at any batch size. Raises ConfigError for other data."""
        for name in ("seed", "num_items"):
            if state[name] != getattr(self, name):
                raise ConfigError(
                    f"the data's position was saved with {name} {state[name]}, now {getattr(self, name)}: "
                    "resume with the same store and seed, or start a new run"
                )
        self.position = int(state["position"])


class RowBatches(Shuffle):
    """Batches of single rows, as codes in the model's order of slots."""

    def __init__(
        self,
        rows: np.ndarray,
        tokenizer: TableTokenizer,
        seed: int,
        global_batch_size: int,
        slot_order: np.ndarray | None = None,
        blend: Blend | None = None,
    ) -> None:
        """`rows`: `TokenStore.rows(split)`; `slot_order`: the table's slot at each place of the model's."""
        super().__init__(len(rows) if blend is None else sum(blend.sizes), seed, global_batch_size)
        self.rows, self.blend = rows, blend
        self.slot_order = np.arange(tokenizer.num_slots) if slot_order is None else np.asarray(slot_order)
        self._offsets = tokenizer.slot_offsets[self.slot_order]

    def _items(self, epoch: int, places: np.ndarray) -> np.ndarray:
        return places if self.blend is None else self.blend(epoch, places)

    def codes(self, items: np.ndarray) -> torch.Tensor:
        """Column-local codes of the rows, int64 [S, B], contiguous, slots in the model's order."""
        ids_BS = np.take(self.rows, items, axis=0)
        out_SB = np.empty((len(self.slot_order), len(items)), np.int64)
        np.subtract(ids_BS.T[self.slot_order], self._offsets[:, None], out=out_SB, dtype=np.int64)
        return torch.from_numpy(out_SB)

    def batch(self, items: np.ndarray) -> Any:
        """The codes of the rows."""
        return self.codes(items)

    def next_codes(self, rank: int = 0, ranks: int = 1) -> torch.Tensor:
        """Codes of the rank's slice of the next global batch."""
        return self.codes(self.next_batch(rank, ranks))

    def once(self, batch_size: int) -> Iterator[torch.Tensor]:
        """All rows once, in the store's order, for validation; the last batch may be short."""
        for start in range(0, len(self.rows), batch_size):
            yield self.codes(np.arange(start, min(start + batch_size, len(self.rows))))


@dataclass(frozen=True)
class SetBatch:
    """Rows as sets of columns, each in an order of its own."""

    codes: torch.Tensor
    """int64 [S, B]: column-local codes, slots in the model's order."""
    order: torch.Tensor
    """int64 [T, B]: the slot at each position, those of absent cells last; T <= S leaves out what no row
    scores."""
    scored: torch.Tensor | None
    """float32 [S, B]: 1 for slots that count in the loss, 0 for those of absent cells; None: all count."""


class SetBatches(RowBatches):
    """Batches of rows as sets: the order of a row's columns depends on (seed, position) alone."""

    def __init__(
        self,
        rows: np.ndarray,
        tokenizer: TableTokenizer,
        seed: int,
        global_batch_size: int,
        slot_order: np.ndarray,
        orders: SlotOrders,
        absent: np.ndarray,
        blend: Blend | None = None,
    ) -> None:
        """`absent` bool (S,): slots whose code 0 says that the cell is not there (first slots of columns with
        missing: absent)."""
        super().__init__(rows, tokenizer, seed, global_batch_size, slot_order, blend)
        self.orders, self._absent_slots = orders, np.flatnonzero(absent)

    def batch(self, items: np.ndarray) -> SetBatch:
        """The rows, each in the order that belongs to its number."""
        return self._set_batch(items, items)

    def batch_at(self, step: int, rank: int = 0, ranks: int = 1) -> SetBatch:
        """A rank's slice of a global batch: a row's order is another one each epoch."""
        first, count = self.share(rank, ranks)
        position = step * self.global_batch_size + first
        return self._set_batch(self.take(position, count), position + np.arange(count))

    def _set_batch(self, items: np.ndarray, numbers: np.ndarray) -> SetBatch:
        codes_SB = self.codes(items)
        if not len(self._absent_slots):
            return SetBatch(codes_SB, torch.from_numpy(self.orders(numbers)), None)
        owner_S = self.orders.owner
        groups_BK = np.full((len(items), int(owner_S[-1]) + 1), THEN)
        missing = codes_SB.numpy()[self._absent_slots] == 0
        groups_BK[:, owner_S[self._absent_slots]] = np.where(missing, LAST, THEN).T
        return set_batch(codes_SB, self.orders(numbers, groups_BK), groups_BK[:, owner_S].T == THEN)


def set_batch(codes_SB: torch.Tensor, order_SB: np.ndarray, scored_SB: np.ndarray) -> SetBatch:
    """A batch without the positions that no row needs: those after every row's last scored slot."""
    scored = np.take_along_axis(scored_SB, order_SB, 0).any(1)
    longest = int(np.flatnonzero(scored).max(initial=0)) + 1
    order = torch.from_numpy(np.ascontiguousarray(order_SB[:longest]))
    return SetBatch(codes_SB, order, torch.from_numpy(scored_SB.astype(np.float32)))


@dataclass(frozen=True)
class DocumentBatch:
    """Windows of documents, padded to the longest one of the batch."""

    codes: torch.Tensor
    """int64 [R, S, B]: column-local codes, slots in the model's order; 0 in rows that are padding."""
    ids: torch.Tensor
    """int64 [R, S, B]: the same as ids; PAD in rows that are padding."""
    lengths: torch.Tensor
    """int64 [B]: real rows of each window."""
    scored: torch.Tensor
    """bool [R, B]: rows that count in the loss: no padding, no context that an earlier window has scored."""
    begins: torch.Tensor
    """bool [B]: the window begins its document, so P(first slot | BOS) is trained here and nowhere else."""
    ends: torch.Tensor
    """bool [B]: the document ends with the window, so EOD is trained after its last row."""

    def trimmed(self) -> DocumentBatch:
        """Without the rows that are padding in every window: they cost as much as real ones."""
        longest = int(self.lengths.max())
        rows = {name: getattr(self, name)[:longest] for name in ("codes", "ids", "scored")}
        return replace(self, **rows)


class DocumentBatches(Shuffle):
    """Batches of windows of documents; each row is scored once an epoch."""

    def __init__(
        self,
        documents: Documents,
        tokenizer: TableTokenizer,
        seed: int,
        global_batch_size: int,
        *,
        max_rows: int,
        stride: int | None = None,
        slot_order: np.ndarray | None = None,
    ) -> None:
        """`documents`: `TokenStore.documents(split)`; `max_rows`, `stride`: see `Documents.windows`."""
        self.documents = documents
        self.windows: Windows = documents.windows(max_rows, stride)
        super().__init__(len(self.windows), seed, global_batch_size)
        self.slot_order = np.arange(tokenizer.num_slots) if slot_order is None else np.asarray(slot_order)
        self._offsets = tokenizer.slot_offsets[self.slot_order]

    def batch(self, items: np.ndarray) -> DocumentBatch:
        """The windows `items`, padded to the longest of them."""
        windows, documents = self.windows, self.documents
        rows_B, context_B = windows.rows[items], windows.context[items]
        longest = int(rows_B.max())
        row_RB = np.arange(longest)[:, None]
        real_RB = row_RB < rows_B
        first_B = (
            documents.starts[windows.document[items]] + 1 + windows.first_row[items] * documents.num_slots
        )
        # Padding reads the window's first row and is overwritten: one gather, no loop over windows.
        start_RB = first_B + np.where(real_RB, row_RB, 0) * documents.num_slots
        ids_RSB = np.take(documents.tokens, start_RB[:, None, :] + self.slot_order[:, None]).astype(np.int64)
        codes_RSB = np.where(real_RB[:, None, :], ids_RSB - self._offsets[:, None], 0)
        ids_RSB = np.where(real_RB[:, None, :], ids_RSB, PAD)
        return DocumentBatch(
            codes=torch.from_numpy(codes_RSB),
            ids=torch.from_numpy(ids_RSB),
            lengths=torch.from_numpy(rows_B),
            scored=torch.from_numpy(real_RB & (row_RB >= context_B)),
            begins=torch.from_numpy(windows.first_row[items] == 0),
            ends=torch.from_numpy(windows.last[items]),
        )

    def next_documents(self, rank: int = 0, ranks: int = 1) -> DocumentBatch:
        """The rank's slice of the next global batch."""
        return self.batch(self.next_batch(rank, ranks))

    def once(self, batch_size: int) -> Iterator[DocumentBatch]:
        """All windows once, in the store's order, for validation; the last batch may be short."""
        for start in range(0, len(self.windows), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self.windows))))


Batch = torch.Tensor | SetBatch | DocumentBatch
"""What a model's forward takes."""
Batches = RowBatches | SetBatches | DocumentBatches
"""Where a run's batches come from."""


def micro_batches(batch: Batch, size: int, *, by_length: bool = False) -> list[Batch]:
    """The batch in pieces of at most `size` rows or windows, which are every tensor's last dimension.

    `by_length`: windows of like lengths stand together, and each piece is as long as its own longest one;
    otherwise, as the stages of a pipeline need it, all pieces are as long as the batch.
    """
    if isinstance(batch, torch.Tensor):
        return list(batch.split(size, dim=-1))
    names = [name for name, part in vars(batch).items() if part is not None]
    parts = {name: getattr(batch, name) for name in names}
    if by_length and isinstance(batch, DocumentBatch):
        order = batch.lengths.argsort(stable=True)
        parts = {name: part.index_select(-1, order) for name, part in parts.items()}
    split = zip(*(part.split(size, dim=-1) for part in parts.values()), strict=True)
    pieces = [replace(batch, **dict(zip(names, piece, strict=True))) for piece in split]
    return [p.trimmed() if by_length and isinstance(p, DocumentBatch) else p for p in pieces]
