"""The folder of a finished store comes in; memory-mapped views of its rows and documents leave.
Nothing is copied and nothing written; what does not fit the manifest is refused with the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nemo_tabular.errors import ConfigError, StoreError, nearest
from nemo_tabular.schema import Schema
from nemo_tabular.store.cells import StoredCells
from nemo_tabular.store.index import read_index
from nemo_tabular.store.manifest import Manifest, check_files, load_manifest
from nemo_tabular.tokenizer import NUM_SPECIAL, TableTokenizer

# D documents, W windows, S slots of a row

TOKENIZER = "tokenizer.json"
COUNTS = "counts.npy"


@dataclass(frozen=True)
class Windows:
    """Runs of rows of documents, in order. Every row and every end is scored in exactly one window."""

    document: np.ndarray
    """int64 (W,)"""
    first_row: np.ndarray
    """int64 (W,): first row of the window in its document; the document begins here where it is 0."""
    rows: np.ndarray
    """int64 (W,): rows, those of the context included."""
    context: np.ndarray
    """int64 (W,): leading rows that are seen again and not scored."""
    last: np.ndarray
    """bool (W,): the document ends with this window, so EOD is scored here, if need be alone."""

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True)
class Documents:
    """The documents of one split: BOS, rows of S slots, EOD, one after the other."""

    tokens: np.ndarray
    """Memory map of all ids."""
    starts: np.ndarray
    """int64 (D,): position of each document's BOS in `tokens`."""
    rows: np.ndarray
    """int64 (D,): rows of each document."""
    num_slots: int

    def __len__(self) -> int:
        return len(self.starts)

    def document(self, d: int, first_row: int = 0, rows: int | None = None) -> np.ndarray:
        """Ids (rows, S) of a document, or of a run of its rows; a view."""
        rows = int(self.rows[d]) - first_row if rows is None else rows
        start = int(self.starts[d]) + 1 + first_row * self.num_slots
        return self.tokens[start : start + rows * self.num_slots].reshape(rows, self.num_slots)

    def windows(self, max_rows: int, stride: int | None = None) -> Windows:
        """Cut documents of `max_rows` rows or more into overlapping windows that start `stride` rows apart.

        The `max_rows - stride` rows that a continuing window repeats are its context. A full window is always
        continued, if only to score the document's end: so generation, which cannot know whether another row
        follows, does just the same. `stride` is less than `max_rows` (default: three quarters): P(first slot
        | BOS) belongs to documents' beginnings alone, so a continuing window needs a row to continue from.
        Raises ConfigError otherwise.
        """
        stride = max(1, max_rows * 3 // 4) if stride is None else stride
        if max_rows < 1 or stride < 1 or (stride >= max_rows and (self.rows >= max_rows).any()):
            raise ConfigError(
                f"stride {stride} with max_rows {max_rows}: it must be at least 1 and less than max_rows, "
                "so that a window that continues a document has a row of context"
            )
        per_document = 1 + np.maximum(-(-(self.rows + 1 - max_rows) // stride), 0)
        document = np.repeat(np.arange(len(self), dtype=np.int64), per_document)
        first_of = np.cumsum(per_document) - per_document
        nth = np.arange(len(document), dtype=np.int64) - first_of[document]
        first_row = nth * stride
        rows = np.minimum(self.rows[document] - first_row, max_rows)
        context = np.where(nth > 0, max_rows - stride, 0)
        return Windows(document, first_row, rows, context, nth == per_document[document] - 1)


@dataclass(frozen=True)
class TokenStore:
    """A finished store: manifest, tokenizer, and its splits as memory maps."""

    path: Path
    manifest: Manifest
    tokenizer: TableTokenizer

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> TokenStore:
        """Open the store at `path`. Raises StoreError naming the file that is missing, cut off or changed.

        `verify` reads every byte against its sha256 (about a second a gigabyte); else only sizes are checked.
        """
        path = Path(path)
        manifest = load_manifest(path)
        tokenizer = TableTokenizer.load(path / TOKENIZER)
        if tokenizer.fingerprint() != manifest.tokenizer:
            raise StoreError(
                f"{path / TOKENIZER} belongs to another store: its fingerprint is "
                f"{tokenizer.fingerprint()[:12]}, the ids were written with {manifest.tokenizer[:12]}"
            )
        check_files(path, manifest, contents=verify)
        return cls(path, manifest, tokenizer)

    @property
    def schema(self) -> Schema:
        """The schema the table was read with."""
        return self.tokenizer.schema

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that hold something."""
        return tuple(name for name, size in self.manifest.splits.items() if size.documents)

    def fingerprint(self) -> str:
        """Hex sha256 over every file: the same table, schema, seed and version give the same."""
        return self.manifest.fingerprint()

    def require(self, tokenizer: TableTokenizer) -> None:
        """Raise StoreError unless the store's ids are this tokenizer's."""
        if tokenizer.fingerprint() != self.manifest.tokenizer:
            raise StoreError(
                f"{self.path} was written by another tokenizer ({self.manifest.tokenizer[:12]}) than the one "
                f"in hand ({tokenizer.fingerprint()[:12]}): use the model's store, or prepare "
                "this table again with the model's tokenizer: prepare(..., tokenizer=...)"
            )

    def rows(self, split: str) -> np.ndarray:
        """Ids (rows, S) of a store in row mode: a view on the file. Raises StoreError in document mode."""
        if self.manifest.mode != "rows":
            raise StoreError(f"{self.path} holds documents of many rows: use .documents({split!r})")
        size = self.manifest.splits[self._known(split)]
        width = self.manifest.num_slots + 2
        if not size.rows:
            return np.empty((0, self.manifest.num_slots), self.manifest.dtype)
        tokens = np.memmap(self.path / f"{split}.bin", self.manifest.dtype, "r", shape=(size.rows, width))
        return tokens[:, 1:-1]

    def documents(self, split: str) -> Documents:
        """The documents of a split, in either mode."""
        size = self.manifest.splits[self._known(split)]
        if not size.documents:
            nothing = np.empty(0, np.int64)
            return Documents(np.empty(0, self.manifest.dtype), nothing, nothing, self.manifest.num_slots)
        data = self.path / f"{split}.bin"
        index = read_index(data.with_suffix(".idx"), data.stat().st_size)
        starts = index.pointers // index.dtype.itemsize
        rows = (index.lengths.astype(np.int64) - 2) // self.manifest.num_slots
        return Documents(np.memmap(data, index.dtype, "r"), starts, rows, self.manifest.num_slots)

    def cells(self, *splits: str) -> dict[str, StoredCells]:
        """The cells of each dense column, of these splits one after another."""
        sizes = [(name, self.manifest.splits[self._known(name)].rows) for name in splits]
        columns = self.tokenizer.columns
        return {
            name: StoredCells(self.path, sizes, columns.index(name), codec)
            for name, codec in self.tokenizer.dense.items()
        }

    @cached_property
    def marginal_counts(self) -> list[np.ndarray]:
        """For each slot the int64 count of each of its codes in the training rows."""
        counts = np.load(self.path / COUNTS, allow_pickle=False)
        return np.split(counts[NUM_SPECIAL:], np.cumsum(self.tokenizer.slot_sizes)[:-1])

    def _known(self, split: str) -> str:
        if split not in self.manifest.splits:
            names = list(self.manifest.splits)
            raise StoreError(f"{self.path} has no split {split!r}{nearest(split, names)}; it has {names}")
        return split
