"""A pickled NeMo tokenizer comes in; one that gives the same ids for a text, and the same text back, leaves.
It is saved as JSON, so that the pickle is needed once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nemo_tabular.errors import CodecError, StoreError
from nemo_tabular.nemo_import.codes import Code, code_from_json, code_from_record
from nemo_tabular.nemo_import.unpickle import Record, unpickle
from nemo_tabular.tokenizer import read_json, write_json

FORMAT = "nemo_tabular.nemo_tokenizer"
VERSION = 1
END_OF_TEXT = "<|endoftext|>"
NEW_LINE = "\n"


@dataclass(frozen=True)
class NeMoTokenizer:
    """NeMo's TabularTokenizer: rows of text with a delimiter <-> ids, columns in a fixed order."""

    codes: tuple[Code, ...]
    special: Mapping[str, int]
    """Ids of `<|endoftext|>` and of the new line, after those of the columns."""
    delimiter: str = ","

    @property
    def vocab_size(self) -> int:
        """All ids, the special ones included."""
        return max(self.special.values()) + 1

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns, in the order of a row."""
        return tuple(code.name for code in self.codes)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Ids of a cell, for each column."""
        return tuple(code.code_len for code in self.codes)

    # --- text -> ids ---

    def text_to_ids(self, text: str) -> list[int]:
        """Ids of a text. A first row with fewer fields is taken for the end of a row, as NeMo does."""
        tokens = self._tokens(text)
        column = -tokens.index(NEW_LINE) if NEW_LINE in tokens else 0
        cells: list[tuple[int, str]] = []  # (column, text), or (-1, special token)
        for token in tokens:
            cells.append((-1, token) if token in self.special else (column % len(self.codes), token))
            column += token not in self.special
        tables = self._per_column(cells, lambda code, texts: code.encode(texts))
        out: list[int] = []
        for column, token in cells:
            out.extend(tables[column][token] if column >= 0 else (self.special[token],))
        return out

    def _tokens(self, text: str) -> list[str]:
        tokens: list[str] = []
        rows = text.split(NEW_LINE)
        for number, row in enumerate(rows):
            if not row:
                continue
            for field in row.split(self.delimiter):
                before, *after = field.split(END_OF_TEXT)
                if not after:
                    tokens.append(field.strip())
                elif len(after) == 1:
                    parts = (before, END_OF_TEXT, after[0])
                    tokens += [part.strip() for part in parts if part]
                else:
                    raise CodecError(f"row {number}: two {END_OF_TEXT} in one field {field!r}")
            if number != len(rows) - 1:
                tokens.append(NEW_LINE)
        return tokens

    def _per_column(self, cells: Sequence[tuple[int, Any]], work: Callable[[Any, set], dict]) -> list[dict]:
        """Each column's distinct cells worked on at once."""
        distinct: list[set] = [set() for _ in self.codes]
        for column, cell in cells:
            if column >= 0:
                distinct[column].add(cell)
        return [work(code, found) for code, found in zip(self.codes, distinct, strict=True)]

    # --- ids -> text ---

    def ids_to_text(self, ids: Sequence[int]) -> str:
        """Text of ids. Those that start amid a row are aligned by the first end of a row, as NeMo does."""
        cells = self._cells([int(i) for i in ids])
        tables = self._per_column(cells, lambda code, found: code.decode(found))
        out: list[str] = []
        after_cell = False
        for column, cell in cells:
            if column < 0:
                out.append(cell)
            else:
                out.append((self.delimiter if after_cell else "") + tables[column][cell])
            after_cell = column >= 0
        return "".join(out)

    def _cells(self, ids: list[int]) -> list[tuple[int, Any]]:
        """(column, ids of the cell), or (-1, special token), in order; a cell cut at its start is dropped."""
        names = {token: name for name, token in self.special.items()}
        column_of = [k for k, size in enumerate(self.sizes) for _ in range(size)]
        first = next((place for place, token in enumerate(ids) if token in names), 0)
        place = -first % len(column_of)
        cells: list[tuple[int, Any]] = []
        cell: list[int] = []
        current = -1
        for token in ids:
            if token in names:
                cells.append((-1, names[token]))
                continue
            column = column_of[place % len(column_of)]
            cell = [*cell, token] if column == current and len(cell) < self.sizes[column] else [token]
            current = column
            if len(cell) == self.sizes[column]:
                cells.append((column, tuple(cell)))
            place += 1
        return cells

    # --- files ---

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "delimiter": self.delimiter,
            "special": dict(self.special),
        }
        return head | {"columns": [code.to_json() for code in self.codes]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> NeMoTokenizer:
        """The inverse of `to_json`. Raises StoreError where it is not such a tokenizer's."""
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise StoreError(f"not an imported NeMo tokenizer: format {content.get('format')!r}")
        try:
            codes = tuple(code_from_json(column) for column in content["columns"])
            return cls(codes, dict(content["special"]), content["delimiter"])
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"a damaged NeMo tokenizer: {type(error).__name__} {error}") from error

    def save(self, path: str | Path) -> None:
        """Write JSON; whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> NeMoTokenizer:
        """Read what `save` wrote; a pickle is refused (see `load_nemo_tokenizer`)."""
        return cls.from_json(read_json(path))


def load_nemo_tokenizer(path: str | Path, delimiter: str | None = None) -> NeMoTokenizer:
    """Import a pickle of NeMo's ColumnCodes (its `tokenizer_file`) or TabularTokenizer.

    `delimiter`: as given to NeMo's TabularTokenizer (","), which a pickle of ColumnCodes lacks. Raises
    StoreError naming the file, and any class or function in it that is not admitted.
    """
    state = unpickle(path)
    special = None
    if state.kind == "TabularTokenizer":
        special = dict(state.get("special_tokens"))
        delimiter = delimiter or state.get("delimiter")
        state = state.get("code_column")
    codes = _codes(state, str(path))
    end = codes[-1].end_id
    return NeMoTokenizer(codes, special or {END_OF_TEXT: end, NEW_LINE: end + 1}, delimiter or ",")


def _codes(state: Record, path: str) -> tuple[Code, ...]:
    columns, records = state.get("columns"), state.get("column_codes")
    if len(set(columns)) < len(columns):
        raise StoreError(
            f"{path}: NeMo's tokenizer has two columns of one name in {columns}; it decodes only the last"
        )
    return tuple(code_from_record(name, records[name]) for name in columns)
