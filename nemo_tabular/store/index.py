"""Lengths of documents come in; Megatron's `.idx` file (MMIDIDX, version 1) leaves, and is read as views.
One sequence is one document, so that stock Megatron never joins or cuts them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from nemo_tabular.errors import StoreError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
# Those of Megatron's codes that a store uses.
DTYPE_CODES: dict[int, np.dtype] = {4: np.dtype(np.int32), 8: np.dtype(np.uint16)}
HEADER = struct.Struct("<9sQBQQ")  # magic, version, dtype code, sequences, documents + 1


class Writable(Protocol):
    """What an index is written to."""

    def write(self, data: bytes) -> object:
        """Append bytes."""


@dataclass(frozen=True)
class Index:
    """Views on an `.idx` file: each document's length in tokens and its first byte in the `.bin`."""

    dtype: np.dtype
    lengths: np.ndarray
    pointers: np.ndarray


def write_index(
    file: Writable | BinaryIO, dtype: np.dtype, count: int, lengths: Callable[[], Iterable[np.ndarray]]
) -> None:
    """Write the index of `count` documents; `lengths` gives their lengths in chunks and is called twice.

    Nothing of the size of the table is held: the chunks are turned into pointers one after the other.
    """
    code = next(code for code, known in DTYPE_CODES.items() if known == dtype)
    file.write(HEADER.pack(MAGIC, VERSION, code, count, count + 1))
    for part in lengths():
        file.write(np.ascontiguousarray(part, dtype="<i4").data.tobytes())
    start = 0
    for part in lengths():
        ends = start + np.cumsum(part, dtype=np.int64) * dtype.itemsize
        file.write(np.concatenate([[start], ends[:-1]]).astype("<i8").tobytes())
        start = int(ends[-1])
    step = 1 << 20
    for first in range(0, count + 1, step):
        file.write(np.arange(first, min(first + step, count + 1), dtype="<i8").tobytes())


def read_index(path: Path, bin_bytes: int) -> Index:
    """Open an index as views. Raises StoreError where its head, its size and the `.bin`'s do not agree."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or head[:9] != MAGIC:
        raise StoreError(
            f"{path}: not a Megatron index (its first bytes are {head[:9]!r}): damaged; prepare again"
        )
    _, version, code, sequences, documents = HEADER.unpack(head)
    expected = HEADER.size + 12 * sequences + 8 * documents
    if version != VERSION or code not in DTYPE_CODES or documents != sequences + 1 or size != expected:
        raise StoreError(
            f"{path}: version {version}, token type {code}, {sequences} sequences, {documents} borders and "
            f"{size} bytes do not belong together: damaged; prepare again"
        )
    data = np.memmap(path, mode="r")
    lengths = np.frombuffer(data, "<i4", sequences, HEADER.size)
    pointers = np.frombuffer(data, "<i8", sequences, HEADER.size + 4 * sequences)
    dtype = DTYPE_CODES[code]
    end = int(pointers[-1]) + int(lengths[-1]) * dtype.itemsize if sequences else 0
    if end != bin_bytes:
        raise StoreError(
            f"{path.with_suffix('.bin')}: {bin_bytes} bytes, its index expects {end}: cut off; prepare again"
        )
    return Index(dtype, lengths, pointers)
