"""A table of any size comes in; a finished token store leaves, or an error and nothing at all.
Everything is written in a folder beside the target, flushed, and renamed: half a store never has its name.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs import CODECS
from nemo_tabular.errors import ConfigError, StoreError
from nemo_tabular.profile import profile, splitmix64
from nemo_tabular.readers import Spool, TableReader, open_table
from nemo_tabular.schema import Schema, following, infer_schema
from nemo_tabular.store.cells import CellWriter
from nemo_tabular.store.files import SplitWriter
from nemo_tabular.store.groups import DocumentOrder, group_starts, row_hash
from nemo_tabular.store.manifest import NAME, FileStamp, Manifest, SplitSize, file_sha256
from nemo_tabular.store.view import COUNTS, TOKENIZER, TokenStore
from nemo_tabular.tokenizer import CHUNK_ROWS, TableTokenizer

SPLITS = ("train", "validation", "test")
SPOOL_BYTES = (
    256 << 20
)  # of a typed table that is kept in memory between its two readings; the rest is on disk
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


def prepare(
    source: Any,
    out: str | Path,
    *,
    schema: Schema | None = None,
    tokenizer: TableTokenizer | None = None,
    extend: TableTokenizer | None = None,
    splits: Sequence[float] = (0.95, 0.05),
    seed: int = 0,
    unseen: str | None = None,
    overwrite: bool = False,
    **reading: Any,
) -> TokenStore:
    """Write the table `source` (see `open_table`, which also takes `reading`) as a token store at `out`.

    Without a `tokenizer` one is fitted to the whole table, without a `schema` that is inferred first. With
    `extend`, the tokenizer of a model to go on from, columns that it knows are read and written as there, and
    it is extended by the values and columns that this table adds. Row
    mode if the schema has neither group_by nor order_by; else the rows of one group, in order, are a
    document, and all rows are one document if there is only order_by. The columns of group_by are not
    written: they only say where documents end.

    `splits` are the shares of train, validation and test. Which one a document goes to depends on `seed` and
    its row number (row mode) or its group's values, and on nothing else; the first row always trains.
    Memory is bounded by a batch in row mode, by the largest group in document mode. Raises SchemaError and
    CodecError for the table, StoreError where the store cannot be written; `out` is untouched then.
    """
    fractions = check_splits(splits)
    out = Path(out)
    check_target(out, overwrite)
    reader = open_table(source, **reading)
    if (
        tokenizer is not None
        and schema is not None
        and schema.fingerprint() != tokenizer.schema.fingerprint()
    ):
        raise ConfigError("schema and tokenizer do not belong together: give one of them")
    if tokenizer is not None and extend is not None:
        raise ConfigError("tokenizer writes the table as it is, extend goes on from it: give one of them")
    if extend is not None:
        schema = following(reader, extend.schema, schema)
    schema = tokenizer.schema if tokenizer is not None else schema or infer_schema(reader)
    with building(out, overwrite) as folder:
        build = _Build(folder, reader, schema, fractions, seed, unseen)
        build.run(tokenizer, extend)
    return TokenStore.open(out, verify=False)


class _Build:
    """One run of `prepare` in its temporary folder."""

    def __init__(
        self,
        folder: Path,
        reader: TableReader,
        schema: Schema,
        fractions: list[float],
        seed: int,
        unseen: str | None,
    ) -> None:
        self.folder, self.reader, self.schema = folder, reader, schema
        self.fractions, self.seed, self.unseen = fractions, seed, unseen
        self.by_group = bool(schema.group_by or schema.order_by)
        dense = [column.name for column in schema.coded if column.feature]
        if self.by_group and dense:
            raise ConfigError(
                f"columns {', '.join(dense)} have a feature, which only models of single rows know; "
                "histories (group_by, order_by) are for tokens: leave the columns out, or prepare without "
                "group_by"
            )
        self.first: np.uint64 | None = np.uint64(0)  # key of the document of the table's first row

    def run(self, tokenizer: TableTokenizer | None, extend: TableTokenizer | None) -> None:
        """Read, fit (or extend) if there is no tokenizer, write every file."""
        if tokenizer is not None and not self.by_group:
            self.write(tokenizer, self.reader.batches(self.schema, dictionary=True))
            return
        # The table is needed twice, to fit or to see its order, then to write: parse it once, into a spool.
        order = DocumentOrder(self.schema) if self.by_group else None
        with Spool(self.folder, memory_bytes=SPOOL_BYTES) as spool:
            batches = spool.tee(self.reader.batches(self.schema, dictionary=True))
            batches = order.watch(batches) if order else batches
            if tokenizer is None:
                coded = [column.name for column in self.schema.coded]
                counting = {name for name, codec in CODECS.items() if not codec.sampled}
                counted = [column.name for column in self.schema.coded if column.codec in counting]
                found = profile((b.select(coded) for b in batches), unsampled=counted)
                fit = TableTokenizer.fit if extend is None else extend.extended
                tokenizer = fit(self.schema, found)
            else:
                deque(batches, maxlen=0)
            batches = spool.batches()
            if order:
                batches, self.first = order.arrange(batches, self.folder), order.first
            self.write(tokenizer, batches)

    def write(self, tokenizer: TableTokenizer, batches: Iterable[pa.RecordBatch]) -> None:
        """Encode the batches into the splits, then write tokenizer, counts and manifest."""
        names = [name for name, fraction in zip(SPLITS, self.fractions, strict=True) if fraction > 0]
        writers = {
            name: SplitWriter(self.folder, name, tokenizer.dtype, tokenizer.num_slots, tokenizer.vocab_size)
            for name in names
        }
        self.cells = {
            name: {
                column: CellWriter(self.folder, name, tokenizer.columns.index(column), codec)
                for column, codec in tokenizer.dense.items()
            }
            for name in names
        }
        beside = [cells for columns in self.cells.values() for cells in columns.values()]
        every: list[SplitWriter | CellWriter] = [*writers.values(), *beside]
        try:
            self.encode(tokenizer, batches, [writers.get(name) for name in SPLITS])
            files = {name: stamp for writer in every for name, stamp in writer.finish().items()}
        except BaseException:
            for writer in every:
                writer.abandon()
            raise
        self.finish(tokenizer, writers, files)

    def encode(
        self, tokenizer: TableTokenizer, batches: Iterable[pa.RecordBatch], writers: list[SplitWriter | None]
    ) -> None:
        """Encode the batches and give each row to its split's writer."""
        row, previous = 0, None
        for batch in small_batches(batches):
            ids = tokenizer.encode(batch, unseen=self.unseen)
            dense = tokenizer.encode_dense(batch, unseen=self.unseen)
            if self.by_group:
                keys = row_hash(batch, self.schema.group_by)
                starts, previous = group_starts(keys, previous), keys[-1]
            else:
                keys = np.arange(row, row + len(ids), dtype=np.uint64)
            row += len(ids)
            split = self.splits_of(keys)
            for i, writer in enumerate(writers):
                mine = np.flatnonzero(split == i)
                if writer is None or not mine.size:
                    continue
                if self.by_group:
                    writer.add(ids[mine], starts[mine])
                else:
                    writer.add_rows(ids, mine)
                    for column, cells in dense.items():
                        self.cells[writer.name][column].add(cells, mine)
        if not row:
            raise StoreError(f"{self.reader.source} has no rows: there is nothing to prepare")

    def finish(
        self, tokenizer: TableTokenizer, writers: dict[str, SplitWriter], files: dict[str, FileStamp]
    ) -> None:
        """Write the small files; the manifest, which makes the folder a store, last."""
        tokenizer.save(self.folder / TOKENIZER)
        np.save(self.folder / COUNTS, writers[SPLITS[0]].counts)
        for name in (TOKENIZER, COUNTS):
            path = self.folder / name
            files[name] = FileStamp(path.stat().st_size, file_sha256(path))
        asked = dict(zip(SPLITS, self.fractions, strict=True))
        Manifest(
            mode="documents" if self.by_group else "rows",
            dtype=str(tokenizer.dtype),
            num_slots=tokenizer.num_slots,
            vocab_size=tokenizer.vocab_size,
            seed=self.seed,
            source=self.reader.source,
            bad_rows=self.reader.bad_rows,
            schema=self.schema.fingerprint(),
            tokenizer=tokenizer.fingerprint(),
            splits={name: SplitSize(asked[name], w.documents, w.rows) for name, w in writers.items()},
            files=files,
            tables=self.tables(list(writers)),
        ).save(self.folder)

    def tables(self, splits: list[str]) -> dict[str, dict[str, int]]:
        """Of a union of tables: how many rows of each are in each split."""
        found: dict[str, dict[str, int]] = {}
        rows, first = getattr(self.reader, "rows", {}), 0
        for name, count in {} if self.by_group or len(rows) < 2 else rows.items():
            counts = np.zeros(len(SPLITS), np.int64)
            for start in range(first, first + count, CHUNK_ROWS):
                keys = np.arange(start, min(start + CHUNK_ROWS, first + count), dtype=np.uint64)
                counts += np.bincount(self.splits_of(keys), minlength=len(SPLITS))
            found[name] = {split: int(counts[SPLITS.index(split)]) for split in splits}
            first += count
        return found

    def splits_of(self, keys: np.ndarray) -> np.ndarray:
        """int8 (rows,): the split of each row; the first document always trains."""
        split = split_of(keys, self.seed, self.fractions)
        split[keys == self.first] = 0
        return split


def split_of(keys: np.ndarray, seed: int, fractions: Sequence[float]) -> np.ndarray:
    """int8 (rows,): the split of each key, a hash of key and seed cut at the cumulative fractions."""
    uniform = (splitmix64(seed, keys) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    split = np.zeros(len(keys), np.int8)
    for end in np.cumsum(fractions)[:-1]:
        split += uniform >= end
    return split


def small_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches cut to at most CHUNK_ROWS rows: memory is then bounded by the width of a row."""
    for batch in batches:
        for start in range(0, batch.num_rows, CHUNK_ROWS):
            yield batch.slice(start, CHUNK_ROWS)


def check_splits(splits: Sequence[float]) -> list[float]:
    """Shares of train, validation and test. Raises ConfigError unless they are shares, and sum to 1."""
    shares = [float(s) for s in splits]
    if not 1 <= len(shares) <= 3 or min(shares) < 0 or shares[0] <= 0 or not abs(sum(shares) - 1) <= 1e-9:
        raise ConfigError(
            f"splits {tuple(splits)}: give the shares of train, validation and test, such as "
            "(0.9, 0.05, 0.05); they sum to 1, and train's is above 0"
        )
    return shares + [0.0] * (3 - len(shares))


# --- the folder: whole or not at all ---


def check_target(out: Path, overwrite: bool) -> None:
    """Raise StoreError where writing to `out` would destroy something that was not asked for."""
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists() and not overwrite:
        raise StoreError(f"{out} exists and is not empty: choose another name, or say overwrite")
    if out.exists() and not (out / NAME).is_file():
        raise StoreError(
            f"{out} is not a token store (it has no {NAME}), so it is not overwritten: remove it yourself"
        )


@contextmanager
def building(out: Path, overwrite: bool) -> Iterator[Path]:
    """A new folder beside `out` that becomes `out` at the end, or is removed with all in it on an error."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{out.name}.tmp-", dir=out.parent))
    except OSError as error:
        raise StoreError(f"{out} cannot be made: {error.strerror}") from error
    try:
        yield folder
        flush_folder(folder)
        put_in_place(folder, out)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise StoreError(
            f"{out} could not be written: {error.strerror or error}. Nothing was left behind and the source "
            "is untouched; free some space or choose another disk"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, out: Path) -> None:
    """Rename the finished folder to its name, moving an old store out of the way first."""
    old = None
    if out.exists():
        old = out.with_name(f"{folder.name}.old")
        os.rename(out, old)
    os.chmod(folder, 0o777 & ~_umask())  # mkdtemp makes it the owner's alone
    try:
        os.rename(folder, out)
    except OSError:
        if old is not None:
            os.rename(old, out)
        raise
    flush_folder(out.parent)
    if old is not None:
        shutil.rmtree(old)


def flush_folder(folder: Path) -> None:
    """Flush a folder's names to the disk, so that a rename outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
