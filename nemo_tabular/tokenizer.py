"""A table and its fitted codecs come in; ids of one vocabulary leave, so many slots a row, and come back.
Each slot owns its ids, so the position says which are possible; saved as JSON, known by its fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat

from nemo_tabular.codecs import Codec, codec_from_json, fit_codec
from nemo_tabular.errors import CodecError, SchemaError, StoreError, TabularError, nearest
from nemo_tabular.profile import profile
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Column, Schema, infer_schema

if TYPE_CHECKING:
    from nemo_tabular.profile import TableProfile

# B rows, K columns, S slots of a row, V ids

PAD, BOS, EOD = 0, 1, 2
NUM_SPECIAL = 3
CHUNK_ROWS = 32_768  # the int32 codes of a few columns of so many rows still fit a core's cache
TURN_ROWS = 4_096  # rows turned into columns at a time: all slots of so many rows fit it
FILE = "tokenizer.json"
FORMAT = "nemo_tabular.tokenizer"
VERSION = 1


@dataclass(frozen=True)
class TableTokenizer:
    """Who owns which ids, and rows <-> ids: PAD 0, BOS 1, EOD 2, then each slot's, in the schema's order.

    The columns of `group_by` have no ids: they say which document a row belongs to, and no more.
    """

    schema: Schema
    codecs: Mapping[str, Codec]
    """One for each coded column."""

    @classmethod
    def fit(cls, schema: Schema, profile: TableProfile) -> TableTokenizer:
        """Fit one codec a column to the statistics of the whole table."""
        missing = [column.name for column in schema.coded if column.name not in profile.columns]
        if missing:
            raise SchemaError(f"the profile lacks the schema's columns {missing}: profile the same table")
        return cls(schema, {c.name: fit_codec(c, profile.columns[c.name]) for c in schema.coded})

    @classmethod
    def of(cls, table: Any, schema: Schema | None = None, **reading: Any) -> TableTokenizer:
        """Fit to a table, which `open_table` takes with `reading`; without a schema that is inferred first.

        Raises SchemaError and CodecError for the table.
        """
        reader = open_table(table, **reading)
        schema = schema or infer_schema(reader)
        coded = [column.name for column in schema.coded]
        return cls.fit(schema, profile(batch.select(coded) for batch in reader.batches(schema)))

    def extended(self, schema: Schema, profile: TableProfile) -> TableTokenizer:
        """The tokenizer of another table that goes on from this one: columns that both know keep their
        codecs, made to hold the other table's values too; the others' are fitted. `schema`: see `following`.

        Codes and ids may move; what they mean is said by the codecs' `meanings`. Raises CodecError that lists
        each column whose values the codec cannot be made to hold.
        """
        codecs, wrong = {}, []
        for column in schema.coded:
            known, found = self.codecs.get(column.name), profile.columns[column.name]
            try:
                codecs[column.name] = (
                    known.extended(column, found) if known is not None else fit_codec(column, found)
                )
            except CodecError as error:
                wrong.append(str(error))
        if wrong:
            raise CodecError("the table does not go on from the model's:\n  " + "\n  ".join(wrong))
        return TableTokenizer(schema, codecs)

    # --- who owns which ids ---

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The coded columns, in the schema's order: all but those of `group_by`."""
        return tuple(column.name for column in self.schema.coded)

    @cached_property
    def slot_sizes(self) -> np.ndarray:
        """int64 (slots,): codes of each slot."""
        sizes = [slot.size for name in self.columns for slot in self.codecs[name].slots]
        return np.array(sizes, dtype=np.int64)

    @cached_property
    def slot_offsets(self) -> np.ndarray:
        """int64 (slots,): id of each slot's code 0."""
        return NUM_SPECIAL + np.concatenate([[0], np.cumsum(self.slot_sizes)[:-1]]).astype(np.int64)

    @cached_property
    def residual(self) -> np.ndarray:
        """bool (slots,): those with a number's fine remainder, uniform in its cell, outside the network."""
        residual = [slot.residual for name in self.columns for slot in self.codecs[name].slots]
        return np.array(residual, dtype=bool)

    @cached_property
    def column_slots(self) -> dict[str, slice]:
        """The slots of each column, as a slice of the row."""
        ends = np.cumsum([len(self.codecs[name].slots) for name in self.columns]).tolist()
        starts = [0, *ends[:-1]]
        return {name: slice(a, b) for name, a, b in zip(self.columns, starts, ends, strict=True)}

    @cached_property
    def slot_names(self) -> tuple[tuple[str, int], ...]:
        """Column and place in it, from 0, of each slot: the columns of a frame of ids or codes."""
        return tuple((name, k) for name, s in self.column_slots.items() for k in range(s.stop - s.start))

    @property
    def num_slots(self) -> int:
        """Tokens of one row, without BOS and EOD."""
        return len(self.slot_sizes)

    @cached_property
    def vocab_size(self) -> int:
        """All ids, the special ones included."""
        return NUM_SPECIAL + int(self.slot_sizes.sum())

    @cached_property
    def dtype(self) -> np.dtype:
        """What ids are stored as: uint16 while they fit, else int32 (the two that Megatron's index knows)."""
        return np.dtype(np.uint16 if self.vocab_size <= 65_536 else np.int32)

    def allowed(self, slot: int) -> range:
        """The ids that may stand at a slot; no other slot has any of them."""
        start = int(self.slot_offsets[slot])
        return range(start, start + int(self.slot_sizes[slot]))

    # --- rows <-> ids ---

    def encode(self, table: Any, unseen: str | None = None) -> np.ndarray:
        """Ids of shape (rows, slots). `table`: an Arrow table or batch, or a pandas or polars frame, with all
        columns of the schema.

        `unseen` overrides the columns' own policy for values that the codecs never saw. Raises SchemaError
        that lists each column that is missing, unknown or of another type; CodecError names column and value.
        """
        return self._encode(table, unseen, self.dtype, self.slot_offsets)

    def encode_codes(self, table: Any, unseen: str | None = None) -> np.ndarray:
        """As `encode`, but column-local codes: int32 (rows, slots)."""
        return self._encode(table, unseen, np.dtype(np.int32), np.zeros_like(self.slot_offsets))

    def _encode(self, table: Any, unseen: str | None, dtype: np.dtype, offsets: np.ndarray) -> np.ndarray:
        table = conform(table, self.schema).select(list(self.columns))
        out_BS = np.empty((table.num_rows, self.num_slots), dtype)
        start = 0
        for batch in table.to_batches(max_chunksize=CHUNK_ROWS):
            # Column by column into memory of its own, then turned: five times faster than in strides.
            columns_SB = np.empty((self.num_slots, batch.num_rows), dtype)
            for name, values in zip(self.columns, batch.columns, strict=True):
                slots = self.column_slots[name]
                codes = self.codecs[name].encode(values, unseen=unseen)
                # The ids fit the output's type by its choice, so the wrap-around of "unsafe" cannot happen.
                first = offsets[slots].astype(np.int32)[:, None]
                np.add(codes.T, first, out=columns_SB[slots], casting="unsafe")
            out_BS[start : start + batch.num_rows] = columns_SB.T
            start += batch.num_rows
        return out_BS

    def encode_cells(
        self, table: Any, columns: Sequence[str], unseen: str | None = None, *, lacking: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Codes of these columns, int32 (rows, slots), 0 in all others, and which of their cells are missing,
        bool (rows, columns of the tokenizer); cells of other columns are not looked at.

        `lacking`: columns that the table does not have are missing in every row, and so may be cells of
        columns that had no missing ones at fit; else both are errors. Raises as `encode` does.
        """
        table = as_arrow(table)
        others = [n for n in self.schema.names if n in table.column_names and n not in columns]
        there = [n for n in columns if n in table.column_names or not lacking]
        wanted = Schema(tuple(column for column in self.schema.columns if column.name in there))
        table = conform(table.drop_columns(others), wanted)
        codes_BS = np.zeros((table.num_rows, self.num_slots), np.int32)
        missing_BK = np.zeros((table.num_rows, len(self.columns)), bool)
        for k, name in enumerate(self.columns):
            if name not in there:
                missing_BK[:, k] = name in columns
                continue
            values, codec = table.column(name).combine_chunks(), self.codecs[name]
            missing_BK[:, k] = values.is_null().to_numpy(zero_copy_only=False)
            if lacking and not codec.nullable and missing_BK[:, k].any():
                rows = ~missing_BK[:, k]
                codes_BS[rows, self.column_slots[name]] = codec.encode(
                    values.filter(pa.array(rows)), unseen=unseen
                )
            else:
                codes_BS[:, self.column_slots[name]] = codec.encode(values, unseen=unseen)
        return codes_BS, missing_BK

    def codes(self, ids: np.ndarray) -> np.ndarray:
        """Ids (rows, slots) -> column-local codes, int32. Raises CodecError at the first id out of place."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or ids.shape[1] != self.num_slots or ids.dtype.kind not in "iu":
            raise CodecError(
                f"ids are {ids.dtype} of shape {ids.shape}; expected integers of shape "
                f"(rows, {self.num_slots}): {self.num_slots} slots a row, without BOS and EOD"
            )
        # Columns contiguous, as the codecs read them; 64 bits only where ids come in them.
        out_BS = np.empty(ids.shape, np.int32, order="F")
        wide = np.int64 if ids.dtype.itemsize * 8 > 32 or ids.dtype == np.uint32 else np.int32
        unsigned = np.dtype(wide).str.replace("i", "u")
        offsets, sizes = self.slot_offsets.astype(wide), self.slot_sizes.astype(unsigned)
        for start in range(0, len(ids), TURN_ROWS):
            part = ids[start : start + TURN_ROWS]
            codes = np.subtract(part, offsets, dtype=wide, casting="unsafe")
            # One comparison instead of two: a negative code is huge when read as unsigned.
            bad = codes.view(unsigned) >= sizes
            if bad.any():
                row, slot = np.argwhere(bad)[0].tolist()
                raise CodecError(self._out_of_place(start + row, slot, int(part[row, slot])))
            out_BS[start : start + TURN_ROWS] = codes
        return out_BS

    def _out_of_place(self, row: int, slot: int, token: int) -> str:
        def owner(s: int) -> str:
            name = next(n for n, slots in self.column_slots.items() if slots.start <= s < slots.stop)
            return f"slot {s - self.column_slots[name].start} of column {name!r}"

        allowed = self.allowed(slot)
        if token in range(NUM_SPECIAL):
            whose = ("PAD", "BOS", "EOD")[token]
        elif NUM_SPECIAL <= token < self.vocab_size:
            whose = "an id of " + owner(int(np.searchsorted(self.slot_offsets, token, side="right")) - 1)
        else:
            whose = f"outside the vocabulary of {self.vocab_size}"
        return (
            f"row {row}, {owner(slot)} (slot {slot} of the row): id {token} is {whose}; allowed there are "
            f"{allowed.start} to {allowed.stop - 1}. Another tokenizer's ids, or do they start mid-row?"
        )

    def decode(self, ids: np.ndarray) -> pa.Table:
        """Ids (rows, slots) -> the coded columns, typed as in the schema. Raises as `codes` does."""
        return self.decode_codes(self.codes(ids))

    def decode_codes(self, codes: np.ndarray) -> pa.Table:
        """Column-local codes (rows, slots), each within its slot's size -> the coded columns."""
        starts = range(0, max(len(codes), 1), CHUNK_ROWS)
        columns = [
            pa.chunked_array([self.codecs[name].decode(codes[s : s + CHUNK_ROWS, slots]) for s in starts])
            for name, slots in self.column_slots.items()
        ]
        return pa.table(columns, names=list(self.columns))

    # --- the fine remainders of numbers ---

    def widths(self, codes: np.ndarray) -> np.ndarray:
        """int64 (rows, columns): grid points in the cell that the modelled slots name; 1 if exact."""
        out_BK = np.empty((len(codes), len(self.column_slots)), np.int64)
        for k, (name, slots) in enumerate(self.column_slots.items()):
            out_BK[:, k] = self.codecs[name].widths(codes[:, slots])
        return out_BK

    def fill_residual(self, codes: np.ndarray, uniforms: np.ndarray) -> np.ndarray:
        """The codes, residual slots drawn uniformly in the cell; `uniforms` float64 (rows, columns)."""
        out_BS = np.array(codes, dtype=np.int32)
        for k, (name, slots) in enumerate(self.column_slots.items()):
            if self.residual[slots].any():
                out_BS[:, slots] = self.codecs[name].fill_residual(out_BS[:, slots], uniforms[:, k])
        return out_BS

    # --- JSON ---

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain JSON types."""
        codecs = [self.codecs[name].to_json() for name in self.columns]
        return {"format": FORMAT, "version": VERSION, "schema": self.schema.to_dict(), "codecs": codecs}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> TableTokenizer:
        """The inverse of `to_json`. Raises StoreError where it is not a tokenizer's."""
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise StoreError(
                f"not a tokenizer of version {VERSION}: format {content.get('format')!r}, "
                f"version {content.get('version')!r}"
            )
        try:
            schema = Schema.from_dict(content["schema"])
            fitted = [codec_from_json(part) for part in content["codecs"]]
        except (KeyError, TypeError, AttributeError, TabularError) as error:
            raise StoreError(f"a damaged tokenizer: {type(error).__name__} {error}") from error
        codecs = {codec.name: codec for codec in fitted}
        coded = [column.name for column in schema.coded]
        if list(codecs) != coded:
            raise StoreError(f"a damaged tokenizer: codecs {list(codecs)} for columns {coded}")
        return cls(schema, codecs)

    def save(self, path: str | Path) -> None:
        """Write JSON; whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> TableTokenizer:
        """Read what `save` wrote, or the tokenizer of a run, a saved model or a store, given its folder.

        Raises StoreError for a pickle, broken JSON, another kind of file, or a folder without one.
        """
        if Path(path).is_dir():
            places = [Path(path, "model", FILE), Path(path, FILE)]
            found = next((place for place in places if place.is_file()), None)
            if found is None:
                raise StoreError(
                    f"{path} holds no {FILE}: name the folder of a finished run, a saved model, or a store"
                )
            path = found
        try:
            return cls.from_json(read_json(path))
        except StoreError as error:
            raise error if str(path) in str(error) else StoreError(f"{path}: {error}") from error

    @cached_property
    def _fingerprint(self) -> str:
        content = self.to_json()
        return sha256_of(
            {"schema": self.schema.fingerprint(), "codecs": content["codecs"], "version": VERSION}
        )

    def fingerprint(self) -> str:
        """Hex sha256 of all that decides ids: two tokenizers with the same one are the same function."""
        return self._fingerprint


# --- a table against its schema ---


def conform(table: Any, schema: Schema) -> pa.Table:
    """`table` as an Arrow table with the schema's columns, in its order and types; no cast loses anything.

    Raises SchemaError with one line for each missing, unknown or wrongly typed column.
    """
    table = as_arrow(table)
    if table.column_names == list(schema.names) and all(map(_fits, schema.columns, table.schema.types)):
        return table
    if len(set(table.column_names)) < len(table.column_names):
        twice = sorted({n for n in table.column_names if table.column_names.count(n) > 1})
        raise SchemaError(f"the table has columns {twice} more than once: rename them")
    wrong = [f"column {c.name!r} is missing" for c in schema.columns if c.name not in table.column_names]
    wrong += [
        f"column {name!r} is not in the schema{nearest(name, list(schema.names))}"
        for name in table.column_names
        if name not in schema.names
    ]
    columns = []
    for column in schema.columns:
        if column.name in table.column_names:
            values = table.column(column.name)
            if not _fits(column, values.type):
                values, problem = lossless(values, column.arrow)
                wrong += (
                    [f"column {column.name!r} is {problem}, the schema says {column.type}"] if problem else []
                )
            columns.append(values)
    if wrong:
        raise SchemaError("the table does not fit the schema:\n  " + "\n  ".join(wrong))
    return pa.table(columns, names=list(schema.names))


def _fits(column: Column, kind: pa.DataType) -> bool:
    # The words of a dictionary are a category's own form: its codec takes them as they are.
    return str(kind.value_type if pat.is_dictionary(kind) else kind) == column.type


def as_arrow(table: Any) -> pa.Table:
    """An Arrow table of an Arrow table or batch, a pandas frame (its index left out), or a polars frame."""
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if type(table).__module__.split(".")[0] == "pandas" and hasattr(table, "columns"):
        return pa.Table.from_pandas(table, preserve_index=False)
    if hasattr(table, "to_arrow"):
        return table.to_arrow()
    raise SchemaError(
        f"{type(table).__name__} is not a table: give an Arrow table or batch, a pandas or polars frame"
    )


def lossless(values: pa.ChunkedArray, wanted: pa.DataType) -> tuple[pa.ChunkedArray, str]:
    """The values cast to the wanted type and "", or the values as they are and what they are instead."""

    def family(t: pa.DataType) -> str:
        if pat.is_dictionary(t):
            return family(t.value_type)
        groups = {
            "null": pat.is_null,
            "text": lambda t: pat.is_string(t) or pat.is_large_string(t) or pat.is_string_view(t),
            "number": lambda t: pat.is_integer(t) or pat.is_floating(t) or pat.is_decimal(t),
            "day": lambda t: pat.is_date(t) or (pat.is_timestamp(t) and t.tz is None),
            "time": pat.is_time,
        }
        return next((name for name, test in groups.items() if test(t)), str(t))

    has, wants = family(values.type), family(wanted)
    if pat.is_timestamp(values.type) and pat.is_timestamp(wanted) and values.type.tz and wanted.tz:
        has = wants  # both are instants: only the zone they are shown in differs
    if has not in (wants, "null"):
        return values, str(values.type)
    try:
        if pat.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        return values.cast(wanted), ""
    except pa.ArrowInvalid as error:
        return values, f"{values.type} that does not fit ({error})"


# --- JSON files ---


def canonical(content: Any) -> bytes:
    """The one spelling of a JSON value that fingerprints are taken of."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sha256_of(content: Any) -> str:
    """Hex sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(content)).hexdigest()


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write JSON beside `path`, flush it to the disk, rename: whole or not at all."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}; nothing was left there") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object of a file. Raises StoreError for what is not one, a pickle named as such, unread."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    if data[:1] == b"\x80" or (data[:1] in (b"(", b"c") and data[-1:] == b"."):
        raise StoreError(
            f"{path} is a pickle, not JSON. A pickle can run any code, so none is loaded here; a pickled "
            "NeMo tokenizer is imported with nemo_tabular.nemo_import.load_nemo_tokenizer"
        )
    if data[:2] == b"PK":
        raise StoreError(f"{path} is a ZIP archive (saved by torch?), not JSON")
    try:
        content = json.loads(data.decode("utf-8"))
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}): damaged or cut off?") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content
