"""What a writer knows at its end comes in; `manifest.json` leaves, the one file that makes a folder a store.
It holds the size and sha256 of every other file, and its own, so that damage is an error, not a surprise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nemo_tabular.errors import StoreError
from nemo_tabular.tokenizer import read_json, sha256_of, write_json

FORMAT = "nemo_tabular.store"
VERSION = 1
NAME = "manifest.json"
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class SplitSize:
    """How much of the table one split holds."""

    fraction: float
    """The share that was asked for."""
    documents: int
    """Documents in the split; a row is one in row mode."""
    rows: int
    """Rows in the split."""


@dataclass(frozen=True)
class FileStamp:
    """What a file was when the store was finished."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`."""

    mode: str
    """`rows`: a document is one row; `documents`: the rows of one group, in order."""
    dtype: str
    """Type of the ids in the `.bin` files: uint16 or int32."""
    num_slots: int
    """Tokens of a row, without BOS and EOD."""
    vocab_size: int
    seed: int
    """Of the split."""
    source: str
    """What the table was called; for people, nothing depends on it."""
    bad_rows: int
    """Rows of the source that were put in quarantine."""
    schema: str
    """Fingerprint of the schema."""
    tokenizer: str
    """Fingerprint of the tokenizer."""
    splits: Mapping[str, SplitSize]
    files: Mapping[str, FileStamp]
    tables: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of a union of tables in row mode: rows of each in each split, in the store's order; else empty."""

    def fingerprint(self) -> str:
        """Hex sha256 of all this, and so of every file's contents; the source's name does not count."""
        content = asdict(self)
        del content["source"]
        if not self.tables:
            del content["tables"]
        return sha256_of({"format": FORMAT, "version": VERSION, **content})

    def save(self, folder: Path) -> None:
        """Write `manifest.json`: the last act of a writer."""
        write_json(
            folder / NAME,
            {"format": FORMAT, "version": VERSION, **asdict(self), "sha256": self.fingerprint()},
        )


def load_manifest(folder: Path) -> Manifest:
    """Read and check `manifest.json`. Raises StoreError naming the file."""
    path = folder / NAME
    if not folder.is_dir():
        raise StoreError(f"{folder}: no such folder; `nemo-tabular prepare` makes a store")
    if not path.exists():
        raise StoreError(
            f"{folder} is not a store, or was interrupted while it was made: it has no {NAME}; prepare again"
        )
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise StoreError(
            f"{path}: format {content.get('format')!r}, version {content.get('version')!r}; this version "
            f"of nemo_tabular reads {FORMAT!r}, version {VERSION}"
        )
    stamp = content.pop("sha256", None)
    manifest = _parse(content, path)
    if manifest.fingerprint() != stamp:
        raise StoreError(
            f"{path} was changed after the store was finished (its sha256 differs): prepare again"
        )
    return manifest


def _parse(content: dict[str, Any], path: Path) -> Manifest:
    fields = {key: value for key, value in content.items() if key not in ("format", "version")}
    try:
        fields["splits"] = {name: SplitSize(**size) for name, size in fields["splits"].items()}
        fields["files"] = {name: FileStamp(**stamp) for name, stamp in fields["files"].items()}
        return Manifest(**fields)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path} is damaged ({error}): prepare again") from error


def check_files(folder: Path, manifest: Manifest, *, contents: bool) -> None:
    """Every file has its size and, if `contents`, its sha256. Raises StoreError naming the file."""
    for name, stamp in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise StoreError(f"{path} is missing: copy the whole folder, or prepare again")
        size = path.stat().st_size
        if size != stamp.bytes:
            raise StoreError(
                f"{path}: {size} bytes, {stamp.bytes} when it was finished: cut off or changed; prepare again"
            )
        if contents and file_sha256(path) != stamp.sha256:
            raise StoreError(
                f"{path} was changed after the store was finished (its sha256 differs); prepare again"
            )


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(READ_BYTES):
            digest.update(data)
    return digest.hexdigest()
