"""The bytes of a text file: decompressed, decoded from any declared encoding to UTF-8, its quotes counted.

Enters a path and an encoding; leaves a file object for the parser, or an error that says what the bytes are.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path
from typing import IO

import pyarrow as pa

from nemo_tabular.errors import TabularError

_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


class EncodingError(TabularError):
    """The bytes of a file are not of the declared encoding."""


class ByteSource(io.RawIOBase):
    """Read-only file object of UTF-8 bytes; after its end, `quotes` is how many `"` the file holds."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__()
        self.path = path
        self.quotes = 0
        self.ended = False
        self._start = True
        self._decoder = None if is_utf8(encoding) else _decoder(encoding)
        self._encoding = encoding
        try:
            self._raw: IO[bytes] = pa.input_stream(str(path), compression="detect")
        except OSError as e:
            raise TabularError(f"cannot read {path}: {e}") from None

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        """The next bytes (a few more than `size` after decoding), empty at the end."""
        out = b""
        while not out and not self.ended:
            raw = self._read_raw(size)
            self.ended = not raw
            out = self._decode(raw)
        if self._start:
            out = out.removeprefix(codecs.BOM_UTF8)
            self._start = False
        self.quotes += out.count(b'"')
        return out

    def _read_raw(self, size: int) -> bytes:
        try:
            return self._raw.read(size) if size > 0 else self._raw.read()
        except OSError as e:
            raise TabularError(f"{self.path} is damaged or not whole: {e}") from None

    def _decode(self, raw: bytes) -> bytes:
        if self._decoder is None:
            return raw
        try:
            return self._decoder.decode(raw, final=not raw).encode("utf-8")
        except UnicodeError as e:
            raise EncodingError(
                f"{self.path} is not {self._encoding}: {e}; declare its encoding with encoding="
            ) from None


def is_utf8(encoding: str) -> bool:
    """Whether bytes of that encoding are UTF-8 as they are; EncodingError for an unknown name."""
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii")
    except LookupError:
        raise EncodingError(
            f"encoding {encoding!r} is unknown; use a name such as utf-8, latin-1, cp1252, utf-16"
        ) from None


def refuse_other_encodings(head: bytes, source: str) -> None:
    """EncodingError when the first bytes, read as UTF-8, are plainly UTF-16."""
    bom = next((name for mark, name in _BOMS.items() if head.startswith(mark)), None)
    if bom == "utf-16" or 4 * head.count(b"\x00") > len(head):
        raise EncodingError(
            f"{source} is UTF-16, not UTF-8 (it begins with {head[:4].hex(' ')}); "
            'declare it: encoding="utf-16" (command line: --encoding utf-16)'
        )


def first_bad_byte(path: Path) -> tuple[int, int] | None:
    """(offset, value) of the first byte that is not UTF-8, by a slow pass that only an error pays for."""
    decoder, done = _decoder("utf-8"), 0
    with pa.input_stream(str(path), compression="detect") as raw:
        while chunk := raw.read(1 << 20):
            kept = len(decoder.getstate()[0])
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as e:
                return done - kept + e.start, e.object[e.start]
            done += len(chunk)
    return None


def _decoder(encoding: str) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(encoding)(errors="strict")
