"""What a table's columns hold and how they become tokens, as values that never change.

Enters a dictionary or a YAML file that a person may have edited; leaves a checked Schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from nemo_tabular.errors import SchemaError, nearest
from nemo_tabular.schema.types import arrow_type

DEFAULT_TYPES = {
    "category": "string",
    "boolean": "bool",
    "integer": "int64",
    "decimal": "double",
    "float": "double",
    "date": "date32[day]",
    "time": "time64[us]",
    "timestamp": "timestamp[us]",
    "code": "string",
    "text": "string",
    "vector": "list<item: double>",
    "series": "list<item: double>",
    "image": "list<item: uint8>",
}
KINDS = tuple(DEFAULT_TYPES)
CODECS = ("category", "values", "digits", "calendar", "epoch", "text", "real", "bytes", "array")
ARRAYS = ("vector", "series", "image")
"""Kinds whose cells are arrays of numbers; each has a column type of its own name."""
DENSE_CODEC = {
    **dict.fromkeys(("integer", "decimal", "float"), "real"),
    **dict.fromkeys(("text", "code", "category"), "bytes"),
    **dict.fromkeys(ARRAYS, "array"),
}
"""How the cells of a kind are laid out for a column type that reads them as they are, not as tokens."""
HEADING = """\
# What each column holds, and how it becomes tokens. Edit it freely: every key but `name`, `kind` and
# `codec` may be left out. `why` says what the inference saw; nothing reads it.
"""


@dataclass(frozen=True)
class Column:
    """One column of a table. Frozen: a change is a new Column (`dataclasses.replace`)."""

    name: str
    kind: str
    """category | boolean | integer | decimal | float | date | time | timestamp | code | text | vector |
    series | image"""
    type: str
    """Arrow type as Arrow prints it: `int64`, `double`, `string`, `timestamp[us, tz=Europe/Paris]`, ..."""
    codec: str
    """category | values | digits | calendar | epoch | text: how values become tokens; real | bytes | array:
    how cells are laid out for a `feature`"""
    nullable: bool = True
    """Whether a value may be missing; a missing value in a column that says false is a bad row."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the codec, where they differ from its defaults."""
    why: str = ""
    """One line for the reader of the YAML: the evidence for this kind and codec."""
    missing: str = "value"
    """value: missing is a token like any other; absent: a missing cell is left out (CGM)."""
    missing_values: tuple[str, ...] = ("",)
    """Texts of a CSV that mean missing; the first is the one that is written back."""
    format: str | None = None
    """How text shows the value: strptime format of dates and times, "No/Yes" (false/true) of booleans."""
    decimal: str = "."
    """Decimal mark of numbers in text."""
    thousands: str = ""
    """Mark between groups of three digits of numbers in text."""
    feature: str = ""
    """Column type of the cgm that reads and writes the cells as they are: mixture, text, vector, series,
    image or one of your own (docs/features.md); empty: cells are tokens."""
    shape: tuple[int, ...] = ()
    """Of each cell's array, such as [8, 8]; empty for lists of one dimension that differ in length."""
    prefix: str = ""
    """Text in front of every number, such as a currency sign."""
    suffix: str = ""
    """Text behind every number, such as a per-cent sign."""

    def __post_init__(self) -> None:
        where = f"column {self.name!r}"
        _check_member(where, "kind", self.kind, KINDS)
        _check_member(where, "codec", self.codec, CODECS)
        self._check_dense(where)
        _check_member(where, "missing", self.missing, ("value", "absent"))
        arrow_type(self.type, where)
        if not isinstance(self.options, Mapping):
            raise SchemaError(f"{where}: options must be a mapping of option to value, got {self.options!r}")
        object.__setattr__(self, "missing_values", _texts(where, self.missing_values))

    def _check_dense(self, where: str) -> None:
        """A feature says how its cells are laid out, so `feature: mixture` is all there is to add to a
        column."""
        if self.kind in ARRAYS and not self.feature:
            object.__setattr__(self, "feature", self.kind)
        if self.feature:
            if self.kind not in DENSE_CODEC:
                raise SchemaError(
                    f"{where}: no feature reads cells of kind {self.kind}; leave feature out, or choose "
                    f"among the kinds {', '.join(DENSE_CODEC)}"
                )
            object.__setattr__(self, "codec", DENSE_CODEC[self.kind])
        elif self.codec in DENSE_CODEC.values():
            raise SchemaError(f"{where}: codec {self.codec} needs a feature that reads its cells")
        try:
            shape = tuple(int(size) for size in self.shape)
        except (TypeError, ValueError):
            shape = (0,)
        if any(size < 1 for size in shape):
            raise SchemaError(f"{where}: shape must be a list of sizes such as [8, 8], got {self.shape!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type that `type` names."""
        return arrow_type(self.type, f"column {self.name!r}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without those that equal their default; the inverse of `from_dict`."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in ("name", "kind", "type", "codec", "nullable") or value != _default(f):
                out[f.name] = list(value) if isinstance(value, tuple) else value
        if "options" in out:
            out["options"] = dict(self.options)
        if self.kind in ARRAYS and self.feature == self.kind:
            del out["feature"]  # it follows from the kind, and changes with it
        return out

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Column:
        """A checked Column; an unknown key, kind, codec or type is a SchemaError that names the nearest."""
        if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
            raise SchemaError(
                f"a column of a schema needs a name that is text (quote it if need be), got {given!r}"
            )
        where = f"column {given['name']!r}"
        known = [f.name for f in fields(cls)]
        for key in given:
            if key not in known:
                raise SchemaError(
                    f"{where}: unknown key {key!r}{nearest(str(key), known)}; known: {', '.join(known)}"
                )
        dense = bool(given.get("feature")) or given.get("kind") in ARRAYS
        for key in ("kind", *(() if dense else ("codec",))):
            if key not in given:
                raise SchemaError(
                    f"{where}: needs a {key}, one of {', '.join(KINDS if key == 'kind' else CODECS)}"
                )
        values = dict(given)
        _check_member(where, "kind", values["kind"], KINDS)
        values.setdefault("codec", DENSE_CODEC.get(values["kind"], ""))
        values.setdefault("type", DEFAULT_TYPES[values["kind"]])
        if not isinstance(values.get("nullable", True), bool):
            raise SchemaError(f"{where}: nullable must be true or false, got {values['nullable']!r}")
        return cls(**values)


@dataclass(frozen=True)
class Schema:
    """The columns of a table, in its order, and which of them make documents of many rows."""

    columns: tuple[Column, ...]
    group_by: tuple[str, ...] = ()
    """Rows with equal values of these columns are one document; empty: a document is one row. They are keys,
    such as a customer's number: no model learns them, and generated documents are numbered anew.
    """
    order_by: tuple[str, ...] = ()
    """Columns that order the rows of a document."""
    rows: int | None = None
    """Rows of the table that the schema was inferred from; for the reader only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "group_by", _texts("group_by", self.group_by))
        object.__setattr__(self, "order_by", _texts("order_by", self.order_by))
        if not self.columns:
            raise SchemaError("a schema needs at least one column")
        refuse_duplicates(self.names, "the schema")
        for name in (*self.group_by, *self.order_by):
            self.column(name)
        if not self.coded:
            raise SchemaError(
                f"group_by {list(self.group_by)} leaves no other column: these say which rows belong "
                "together, and are not learnt themselves; group by fewer, or keep a column more"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def coded(self) -> tuple[Column, ...]:
        """The columns that become tokens: all but the keys of `group_by`."""
        return tuple(c for c in self.columns if c.name not in self.group_by)

    def column(self, name: str) -> Column:
        """The column of that name, else a SchemaError with the nearest name."""
        for c in self.columns:
            if c.name == name:
                return c
        raise SchemaError(
            f"column {name!r} is not in the schema{nearest(name, self.names)}; it has {_some(self.names)}"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "group_by": list(self.group_by),
            "order_by": list(self.order_by),
            "columns": [c.to_dict() for c in self.columns],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Schema:
        known = ["rows", "group_by", "order_by", "columns"]
        if not isinstance(given, Mapping) or not isinstance(given.get("columns"), list):
            raise SchemaError("a schema is a mapping with a list called columns")
        for key in given:
            if key not in known:
                raise SchemaError(f"unknown key {key!r} in the schema{nearest(str(key), known)}")
        return cls(
            columns=tuple(Column.from_dict(c) for c in given["columns"]),
            group_by=given.get("group_by") or (),
            order_by=given.get("order_by") or (),
            rows=given.get("rows"),
        )

    def fingerprint(self) -> str:
        """sha256 (hex) of everything that changes what the tokens mean: all but `why` and `rows`."""
        canonical = self.to_dict()
        del canonical["rows"]
        for c in canonical["columns"]:
            c.pop("why", None)
        text = json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def to_yaml(self, path: str | Path) -> None:
        """Write the schema as YAML, for a person to read and edit."""
        import yaml

        plain = self.to_dict()
        plain = {k: v for k, v in plain.items() if k == "columns" or v}
        text = yaml.dump(plain, Dumper=_dumper(), sort_keys=False, allow_unicode=True, width=1000)
        try:
            Path(path).write_text(HEADING + text.replace("\n- name:", "\n\n- name:"), encoding="utf-8")
        except OSError as e:
            raise SchemaError(f"cannot write the schema {path}: {e.strerror}") from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Schema:
        """Read what `to_yaml` wrote or a person edited; every SchemaError names the file."""
        import yaml

        data = _read_bytes(Path(path))
        if data[:1] == b"\x80":
            raise SchemaError(f"{path} is a pickle, not YAML; write a schema with `nemo-tabular schema`")
        try:
            return cls.from_dict(yaml.safe_load(data.decode("utf-8")))
        except (UnicodeDecodeError, yaml.YAMLError) as e:
            raise SchemaError(f"{path} is not YAML: {e}") from None
        except SchemaError as e:
            raise SchemaError(f"{path}: {e}") from None


def refuse_duplicates(names: Iterable[str], where: str) -> None:
    """Raise a SchemaError when a name occurs twice."""
    seen: dict[str, int] = {}
    for i, name in enumerate(names, 1):
        if name in seen:
            raise SchemaError(
                f"{where} has two columns called {name!r} (columns {seen[name]} and {i}); rename one"
            )
        seen[name] = i


def _dumper() -> type:
    """YAML's safe dumper, which writes texts with an apostrophe in double quotes instead of doubling it."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    def text(dumper: Any, value: str) -> Any:
        style = '"' if "'" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise SchemaError(f"cannot read the schema {path}: {e.strerror}") from None


def _check_member(where: str, what: str, value: object, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SchemaError(
            f"{where}: {what} {value!r} is not known{nearest(str(value), known)}; it is one of "
            f"{', '.join(known)}"
        )


def _texts(where: str, value: object) -> tuple[str, ...]:
    """A tuple of texts from YAML's list or a lone text."""
    items = (
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list | tuple) else (value,)
    )
    for item in items:
        if not isinstance(item, str):
            raise SchemaError(f"{where}: {item!r} is not text; put it in quotes")
    return items


def _default(f: Any) -> Any:
    return f.default_factory() if f.default is MISSING else f.default


def _some(names: tuple[str, ...], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
