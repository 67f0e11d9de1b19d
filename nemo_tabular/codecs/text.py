"""Strings enter; one code a utf-8 byte leaves, each position a slot with the bytes that may stand there.

Short text has every byte at every position; codes of fixed form (ZIP, account, plate) only those seen at the
position, so that a generated code has the right length and form, leading zeros included.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from nemo_tabular.codecs.base import Codec, Slot, check_options
from nemo_tabular.errors import CodecError

if TYPE_CHECKING:
    from nemo_tabular.profile import ColumnProfile
    from nemo_tabular.schema import Column

END = 256
"""Symbol after the last byte; bytes are symbols 0 .. 255."""
ALL_BYTES = (END, *range(256))
POLICIES = ("error", "truncate", "missing")
CLASSES = (b"0123456789", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
MAX_SHOWN = 60
"""Characters of a value that an error quotes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextCodec(Codec):
    """One slot a byte; after the end of the text every slot is END.

    Codes of a slot: missing (first slot only, if nullable), then the slot's alphabet in order, END first.
    Options: `max_bytes` (default: the longest seen), `form` (bytes | code; default by the column's kind),
    `unseen` (error | truncate | missing): what a text gets that is too long or has a byte that cannot stand
    there; truncate cuts at a character's border, and works for `form: bytes`.
    """

    codec: ClassVar[str] = "text"
    by_value: ClassVar[bool] = True

    alphabets: tuple[tuple[int, ...], ...]
    """Symbols of each slot, END first where the text may be over; rising otherwise."""
    unseen: str = "error"

    @classmethod
    def fit(cls, column: Column, profile: ColumnProfile) -> TextCodec:
        """CodecError if the options contradict each other."""
        options = check_options(column, ("max_bytes", "form", "unseen"))
        form = options.get("form", "code" if column.kind == "code" else "bytes")
        unseen = options.get("unseen", "error")
        if unseen not in POLICIES or form not in ("bytes", "code"):
            raise CodecError(
                f"column {column.name!r}: unseen is one of {', '.join(POLICIES)}, form is bytes or code"
            )
        if form == "code" and unseen == "truncate":
            raise CodecError(
                f"column {column.name!r}: a code of fixed form cannot be truncated; set unseen: missing"
            )
        longest = int(options.get("max_bytes") or profile.max_bytes or 1)
        alphabets = (ALL_BYTES,) * longest if form == "bytes" else _alphabets(profile)
        nullable = column.nullable or unseen == "missing"
        return cls(
            name=column.name,
            type=column.type,
            nullable=nullable,
            format=column.format,
            alphabets=alphabets,
            unseen=unseen,
        )

    def extended(self, column: Column, profile: ColumnProfile) -> Self:
        """With a slot for each further byte, and the bytes that the other table adds to each position."""
        both = zip_longest(self.alphabets, self.fit(column, profile).alphabets, fillvalue=(END,))
        alphabets = tuple(_in_order({*ours, *theirs}) for ours, theirs in both)
        return replace(super().extended(column, profile), alphabets=alphabets)

    def _meanings(self) -> dict[str, list[Hashable]]:
        return {f"byte {k}": list(alphabet) for k, alphabet in enumerate(self.alphabets)}

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """One a byte of the longest text."""
        return tuple(Slot(len(a) + (self.nullable if k == 0 else 0)) for k, a in enumerate(self.alphabets))

    @cached_property
    def _code_of_symbol(self) -> np.ndarray:
        """int32 (257, slots): the code of each symbol, -1 where it cannot stand."""
        table = np.full((END + 1, len(self.alphabets)), -1, np.int32)
        for k, alphabet in enumerate(self.alphabets):
            table[list(alphabet), k] = np.arange(len(alphabet)) + (self.nullable if k == 0 else 0)
        return table

    @cached_property
    def _symbol_of_code(self) -> np.ndarray:
        """int16 (codes, slots); missing reads as END."""
        table = np.full((max(s.size for s in self.slots), len(self.alphabets)), END, np.int16)
        for k, alphabet in enumerate(self.alphabets):
            first = int(self.nullable) if k == 0 else 0
            table[first : first + len(alphabet), k] = alphabet
        return table

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        policy = self._policy(policy, self.unseen, POLICIES)
        missing = self._null_rows(array)
        lengths, data = _bytes_of(array)
        symbols, too_long = self._symbols(lengths, data)
        for k in range(codes.shape[1]):
            np.take(self._code_of_symbol[:, k], symbols[:, k], out=codes[:, k], mode="clip")
        bad: np.ndarray = np.any(codes < 0, axis=1)
        bad = bad if policy == "truncate" else bad | too_long
        if missing is not None:
            bad &= ~missing
        if bad.any() and not (policy == "missing" and self.nullable):
            self._refuse(array, bad, too_long)
        gone = bad if missing is None else bad | missing
        if gone.any():
            codes[gone] = self._code_of_symbol[END].clip(0)
            codes[gone, 0] = 0

    def _symbols(self, lengths: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """int16 (rows, slots) of symbols, cut at a character's border, and the mask of what had to be cut."""
        width = len(self.alphabets)
        symbols = np.full((len(lengths), width + 1), END, np.int16)
        kept = np.minimum(lengths, width + 1)
        source = data if kept.sum() == len(data) else data[_ragged(lengths, kept)]
        symbols[np.arange(width + 1) < kept[:, None]] = source
        too_long = lengths > width
        if too_long.any():
            rows = np.flatnonzero(too_long)
            self._cut(symbols, rows)
        return symbols[:, :width], too_long

    def _cut(self, symbols: np.ndarray, rows: np.ndarray) -> None:
        """Take back the bytes of a character that does not fit whole (three continuation bytes at most)."""
        width = len(self.alphabets)
        part = symbols[rows]
        inside = (part[:, width] >= 0x80) & (part[:, width] < 0xC0)
        for k in range(width - 1, max(width - 4, -1), -1):
            continuation = (part[:, k] >= 0x80) & (part[:, k] < 0xC0)
            part[inside, k] = END
            inside &= continuation
        symbols[rows] = part

    def _refuse(self, array: pa.Array, bad: np.ndarray, too_long: np.ndarray) -> None:
        row = int(np.flatnonzero(bad)[0])
        value = array[row].as_py()
        shown = repr(value if len(value) <= MAX_SHOWN else value[:MAX_SHOWN] + "...")
        if too_long[row]:
            what = f"is {len(value.encode()):,} bytes long, the slots hold {len(self.alphabets)}"
            advice = "refit, or set max_bytes, or unseen: truncate"
        else:
            what, advice = "has a character where none like it was seen at fit", "refit, or set form: bytes"
        raise CodecError(
            f"column {self.name!r}: {shown} {what} ({int(bad.sum()):,} of {len(array):,} values); {advice}"
        )

    def _decode(self, codes: np.ndarray) -> pa.Array:
        symbols = np.empty(codes.shape, np.int16)
        for k in range(codes.shape[1]):
            symbols[:, k] = self._symbol_of_code[:, k].take(codes[:, k], mode="clip")
        open_ = np.logical_and.accumulate(symbols != END, axis=1)
        lengths = open_.sum(axis=1)
        data, lengths = _valid_utf8(symbols[open_].astype(np.uint8), lengths)
        missing = codes[:, 0] == 0 if self.nullable else None
        return _strings(data, lengths, missing).cast(self.arrow_type)

    def _params(self) -> dict[str, Any]:
        # All bytes at every position is the common case, and 257 numbers a slot would say nothing.
        alphabets = [None if a == ALL_BYTES else list(a) for a in self.alphabets]
        return {"alphabets": alphabets, "unseen": self.unseen}

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> TextCodec:
        alphabets = tuple(ALL_BYTES if a is None else tuple(a) for a in params["alphabets"])
        return cls(**books, **(params | {"alphabets": alphabets}))


def _alphabets(profile: ColumnProfile) -> tuple[tuple[int, ...], ...]:
    """Symbols seen at each position; from a sample, the whole class (digits, letters) of each."""
    if profile.distinct is not None:
        values, complete = pa.array([v for v in profile.distinct if v is not None], pa.string()), True
    else:
        sample = profile.sample.cast(pa.string()).drop_null()
        values, complete = sample, len(profile.sample) == profile.rows
    lengths, data = _bytes_of(values)
    width = max(1, int(profile.max_bytes or 1))
    symbols = np.full((len(lengths), width), END, np.int16)
    symbols[np.arange(width) < lengths[:, None]] = data
    out = []
    for k in range(width):
        seen = set(np.unique(symbols[:, k]).tolist()) or {END}
        if not complete:
            seen |= {b for members in CLASSES if seen & set(members) for b in members}
        out.append(_in_order(seen))
    return tuple(out)


def _in_order(symbols: set[int]) -> tuple[int, ...]:
    """After an end there can only be ends, so wherever one text may be over, END comes first."""
    return (*([END] if END in symbols else []), *sorted(symbols - {END}))


def _bytes_of(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Length of each text in bytes (0 where missing) and all bytes in order."""
    plain = array if pa.types.is_string(array.type) else array.cast(pa.string())
    if plain.null_count:
        plain = plain.fill_null("")
    if not len(plain):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = plain.buffers()
    ends = np.frombuffer(offsets, np.int32, count=plain.offset + len(plain) + 1)[plain.offset :]
    everything = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
    return np.diff(ends).astype(np.int64), everything[ends[0] : ends[-1]]


def _ragged(lengths: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Indices of the first `kept` bytes of each text within all bytes."""
    starts = np.cumsum(lengths) - lengths
    inner = np.arange(int(kept.sum())) - np.repeat(np.cumsum(kept) - kept, kept)
    return np.repeat(starts, kept) + inner


def _valid_utf8(data: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes with every invalid sequence replaced by U+FFFD, row by row, and the new lengths."""
    if not (data >= 0x80).any():
        return data, lengths
    # A NUL after each row keeps sequences from running over the border; it is ASCII, so it ends them.
    rows = np.repeat(np.arange(len(lengths)), lengths)
    joined = np.zeros(len(data) + len(lengths), np.uint8)
    joined[np.arange(len(data)) + rows] = data
    fixed = np.frombuffer(joined.tobytes().decode("utf-8", "replace").encode(), np.uint8)
    nuls_inside = np.bincount(rows[data == 0], minlength=len(lengths))
    borders = np.flatnonzero(fixed == 0)[np.cumsum(nuls_inside + 1) - 1]
    keep = np.ones(len(fixed), bool)
    keep[borders] = False
    return fixed[keep], np.diff(borders, prepend=-1) - 1


def _strings(data: np.ndarray, lengths: np.ndarray, missing: np.ndarray | None) -> pa.Array:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    valid = (
        None
        if missing is None or not missing.any()
        else pa.py_buffer(np.packbits(~missing, bitorder="little"))
    )
    return pa.Array.from_buffers(
        pa.string(), len(lengths), [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    )
