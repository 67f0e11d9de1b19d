"""CSV files (RFC 4180; plain, gz, zst), streamed as text and cast to a schema.

Enters a path; leaves record batches of a few megabytes, bad rows quarantined with their row number.
"""

from __future__ import annotations

import csv
import io
import re
from bisect import insort
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as arrow_csv

from nemo_tabular.errors import TabularError
from nemo_tabular.readers.badrows import BadRow, BadRows, shown
from nemo_tabular.readers.bytesource import (
    ByteSource,
    EncodingError,
    first_bad_byte,
    is_utf8,
    refuse_other_encodings,
)
from nemo_tabular.readers.cast import DICTIONARY, cast_batch, require_columns, wants_dictionary
from nemo_tabular.schema.column import Schema, refuse_duplicates

BLOCK_BYTES = 2 << 20  # measured: larger ones cost cache misses and memory, smaller ones calls per column
HEAD_BYTES = 1 << 18
DELIMITERS = ",;\t|"


class CsvError(TabularError):
    """A CSV file that is not well formed as a whole."""


class CsvTable:
    """A CSV file as a re-iterable source of record batches."""

    untyped = True

    def __init__(
        self,
        path: str | Path,
        *,
        max_bad_rows: int = 0,
        quarantine: str | Path | None = None,
        encoding: str = "utf-8",
        delimiter: str | None = None,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.path = Path(path)
        self.source = self.path.name
        self.bad_rows = 0
        self._limit = max_bad_rows
        self._quarantine = quarantine_path(self.path, quarantine)
        self._encoding = encoding
        self._block_bytes = block_bytes
        head = self._head()
        self.delimiter = delimiter or guess_delimiter(head)
        self.column_names = self._header(head)

    def batches(self, schema: Schema | None = None, *, dictionary: bool = False) -> Iterator[pa.RecordBatch]:
        """Record batches: typed as the schema says, or all strings without one.

        With `dictionary`, strings that repeat (all strings without a schema, categories with one) come
        dictionary-encoded, which costs the parser nothing and saves hashing them later.
        """
        bad = BadRows(self.source, self._limit, self._quarantine)
        for batch, numbers in self._texts(self._text_types(schema, dictionary)):
            structural = numbers.take_bad(numbers.of(batch.num_rows - 1) if batch.num_rows else None)
            if schema is not None:
                batch, misfits = cast_batch(
                    batch, schema, dictionary=dictionary, number=numbers.of, most=max(bad.room, 1)
                )
                structural += misfits
            if structural:
                self.bad_rows = bad.count + len(structural)
                bad.add(structural, self._refuse_unclosed_quote)
            if batch.num_rows:
                yield batch
        self.bad_rows = bad.count

    def _text_types(self, schema: Schema | None, dictionary: bool) -> dict[str, pa.DataType]:
        if schema is None:
            return dict.fromkeys(self.column_names, DICTIONARY if dictionary else pa.string())
        require_columns(schema, self.column_names, self.source)
        return {
            c.name: DICTIONARY if dictionary and wants_dictionary(c) else pa.string() for c in schema.columns
        }

    def _texts(self, types: dict[str, pa.DataType]) -> Iterator[tuple[pa.RecordBatch, RowNumbers]]:
        """Batches of text with the numbers of their rows; ends with a check of the quotes."""
        numbers = RowNumbers()
        with ByteSource(self.path, self._encoding) as stream:
            self._stream = stream
            try:
                reader = arrow_csv.open_csv(
                    stream,
                    read_options=arrow_csv.ReadOptions(use_threads=False, block_size=self._block_bytes),
                    parse_options=self._parse_options(numbers),
                    convert_options=_convert_options(types),
                )
                for batch in reader:
                    yield batch, numbers
                    numbers.advance(batch.num_rows)
            except pa.ArrowInvalid as e:
                raise self._explained(str(e)) from None
            if numbers.bad:
                yield _no_rows(types), numbers
            self._refuse_unclosed_quote()

    def _parse_options(self, numbers: RowNumbers) -> arrow_csv.ParseOptions:
        return arrow_csv.ParseOptions(
            delimiter=self.delimiter,
            newlines_in_values=True,
            # a blank line of a table of one column is a missing value
            ignore_empty_lines=len(self.column_names) > 1,
            invalid_row_handler=numbers.refuse,
        )

    def _head(self) -> str:
        with ByteSource(self.path, self._encoding) as stream:
            if is_utf8(self._encoding):
                with pa.input_stream(str(self.path), compression="detect") as raw:
                    refuse_other_encodings(raw.read(1000), self.source)
            head = stream.read(HEAD_BYTES)
        try:
            return head.decode("utf-8")
        except UnicodeDecodeError as e:
            if e.start < head.find(b"\n"):
                raise self._not_utf8("the header") from None
            return head.decode("utf-8", errors="replace")

    def _header(self, head: str) -> list[str]:
        if not head.strip():
            raise CsvError(f"{self.source} is empty; a table needs a header and at least one row")
        lines = csv.reader(io.StringIO(head), delimiter=self.delimiter)
        names = next(line for line in lines if line)
        if next((line for line in lines if line or len(names) == 1), None) is None:
            raise CsvError(
                f"{self.source} has a header ({_count(len(names), 'column')}) but no rows; add rows"
            )
        refuse_duplicates(names, self.source)
        return names

    def _explained(self, message: str) -> TabularError:
        """The parser's error in words that say where, what and what to do."""
        row = re.search(r"Row #(\d+)", message)
        if "invalid UTF8" in message:
            return self._not_utf8(f"row {int(row.group(1)) - 1:,}" if row else "a row")
        if "straddling" in message:
            try:
                self._find_unclosed_quote()
            except CsvError as e:
                return e
            return CsvError(
                f"{self.source} holds a row of more than {self._block_bytes:,} bytes; raise block_bytes"
            )
        return CsvError(f"{self.source}: {message}")

    def _not_utf8(self, where: str) -> EncodingError:
        bad = first_bad_byte(self.path)
        what = f"byte 0x{bad[1]:02x} (at offset {bad[0]:,})" if bad else "a byte"
        return EncodingError(
            f"{where} of {self.source}: {what} is not UTF-8; if the file is Latin-1, declare it: "
            'encoding="latin-1" (command line: --encoding latin-1)'
        )

    def _refuse_unclosed_quote(self) -> None:
        # A well-formed file holds an even number of quotes; an odd one may also be `5" pipe` in a bare field.
        if self._stream.ended and self._stream.quotes % 2:
            self._find_unclosed_quote()

    def _find_unclosed_quote(self) -> None:
        """CsvError naming the row whose quote is never closed; a slow pass that only a suspicion pays for."""
        with ByteSource(self.path, self._encoding) as stream:
            row, line = -1, 0
            try:
                rows = csv.reader(_lines(stream), delimiter=self.delimiter, strict=True)
                for _ in rows:
                    row, line = row + 1, rows.line_num
            except csv.Error as e:
                if "end of data" in str(e) or "field limit" in str(e):
                    raise CsvError(
                        f"row {row + 1:,} of {self.source} (line {line + 1:,}): a quote is opened and never "
                        "closed; close it, or double the quotes inside of quoted text"
                    ) from None


class RowNumbers:
    """Numbers of the data rows, from 1, bad ones counted: what a person sees when counting in an editor."""

    def __init__(self) -> None:
        self.bad: list[BadRow] = []
        self._dropped: list[int] = []
        self._before = 0

    def refuse(self, row: arrow_csv.InvalidRow) -> str:
        """Called by the parser for a row with too few or too many fields (it counts the header as row 1)."""
        insort(self._dropped, row.number - 1)
        extra = ""
        if row.actual_columns > row.expected_columns:
            fields = next(csv.reader([row.text]), [])
            extra = f" (extra: {shown(', '.join(fields[row.expected_columns :]))})"
        reason = (
            f"{row.actual_columns} fields where the header has {row.expected_columns}{extra}; quoted wrongly?"
        )
        self.bad.append(BadRow(row.number - 1, reason, row.text))
        return "skip"

    def take_bad(self, last: int | None) -> list[BadRow]:
        """The refused rows up to number `last` (None: all) not yet taken; the parser reads ahead."""
        bad = [r for r in self.bad if last is None or r.number <= last]
        self.bad = self.bad[len(bad) :]
        return bad

    def advance(self, rows: int) -> None:
        self._before += rows

    def of(self, position: int) -> int:
        """The row number of a position in the batch in hand."""
        number = self._before + position + 1
        for dropped in self._dropped:
            if dropped > number:
                break
            number += 1
        return number


def _lines(stream: ByteSource) -> Iterator[str]:
    """The lines of a stream, each with its end, whatever bytes they hold."""
    rest = b""
    while chunk := stream.read(1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.decode("utf-8", errors="replace") + "\n"
    if rest:
        yield rest.decode("utf-8", errors="replace")


def guess_delimiter(head: str) -> str:
    """The delimiter that splits the first lines into the same number of fields; a comma if none does."""
    lines = head.splitlines()[:20]
    lines = lines[:-1] if len(lines) > 1 and len(head) > HEAD_BYTES // 2 else lines
    best, most = ",", 1
    for delimiter in DELIMITERS:
        counts = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        first = next((len(row) for row in csv.reader(lines[:1], delimiter=delimiter)), 1)
        if (counts == {first} or delimiter == ",") and first > most:
            best, most = delimiter, first
    return best


def quarantine_path(path: Path, given: str | Path | None) -> Path:
    """Where bad rows go: as given, or NAME.quarantine.csv beside the file (else in the current folder)."""
    import os

    if given is not None:
        return Path(given)
    name = path.name.split(".")[0] + ".quarantine.csv"
    return path.parent / name if os.access(path.parent, os.W_OK) else Path(name)


def _convert_options(types: dict[str, pa.DataType]) -> arrow_csv.ConvertOptions:
    return arrow_csv.ConvertOptions(
        column_types=types,
        include_columns=list(types),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,  # "" in quotes is an empty text, an empty field is missing
    )


def _no_rows(types: dict[str, pa.DataType]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], t) for t in types.values()], names=list(types))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("s" if n != 1 else "")
