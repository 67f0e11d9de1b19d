"""A NeMo column-coder config and the table it was written for come in; a Schema with the same coders leaves.
`args: code_len, base, transform` become options of the digits codec; it rounds where NeMo's coder cuts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from nemo_tabular.errors import ConfigError, nearest
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema

KINDS = {"category": ("category", None), "int": ("integer", "int64"), "float": ("float", "double")}
TRANSFORMS = ("quantile", "yeo-johnson", "robust")
ARGUMENTS = ("code_len", "base", "fillall", "hasnan", "transform", "start_id", "col_name")
STRUCTURE = "table_structure"  # the key of NeMo's own example, beside table_csv_file and tokenizer_file


def schema_from_nemo(
    config: str | Path | Mapping[str, Any] | Sequence[Mapping[str, Any]], table: Any, **inference: Any
) -> Schema:
    """The schema that codes `table` as NeMo's config says.

    `config`: the list given to NeMo's `ColumnCodes.get_column_codes`, a mapping with that list under
    `table_structure`, or a YAML file with either. `table`: anything `open_table` takes, or a reader.
    `inference`: group_by and order_by. As in NeMo, columns that the config leaves out are left out, and the
    config's order is the order of a row. `fillall` and `start_id` mean nothing here: every digit has an id.
    Raises ConfigError naming the column and key at fault.
    """
    columns = [_column(entry, number) for number, entry in enumerate(_entries(config), 1)]
    reader = table if hasattr(table, "batches") else open_table(table)
    names = [name for name, _ in columns]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"the NeMo config has column {name!r} twice")
        if name not in reader.column_names:
            hint = nearest(name, reader.column_names)
            raise ConfigError(f"the NeMo config has column {name!r}, {reader.source} has not{hint}")
    drop = [name for name in reader.column_names if name not in names]
    found = infer_schema(reader, drop=drop, overrides=dict(columns), **inference)
    return Schema(tuple(found.column(name) for name in names), found.group_by, found.order_by, found.rows)


def _entries(config: Any) -> list[Mapping[str, Any]]:
    if isinstance(config, str | Path):
        try:
            config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"{config}: no YAML that can be read: {error}") from error
    if isinstance(config, Mapping) or hasattr(config, "keys"):
        if STRUCTURE not in config:
            raise ConfigError(f"the NeMo config has no list {STRUCTURE!r} of columns; it has {list(config)}")
        config = config[STRUCTURE]
    if isinstance(config, bytes) or not hasattr(config, "__iter__"):
        raise ConfigError(f"the NeMo config is a {type(config).__name__}; expected a list of columns")
    return list(config)


def _column(entry: Any, number: int) -> tuple[str, dict[str, Any]]:
    """Name, and what the config says of the column in the schema's words."""
    if not hasattr(entry, "keys") or "name" not in entry or "code_type" not in entry:
        raise ConfigError(f"column {number} of the NeMo config needs a name and a code_type, got {entry!r}")
    name, code_type, args = str(entry["name"]), entry["code_type"], dict(entry.get("args") or {})
    where = f"column {name!r} of the NeMo config"
    if code_type not in KINDS:
        raise ConfigError(f"{where}: code_type {code_type!r}; NeMo has {', '.join(KINDS)}")
    for key in args:
        if key not in ARGUMENTS:
            raise ConfigError(f"{where}: unknown argument {key!r}{nearest(str(key), list(ARGUMENTS))}")
    kind, type_name = KINDS[code_type]
    why = f"NeMo's config: code_type {code_type}"
    if type_name is None:
        return name, {"kind": kind, "codec": "category", "why": why}
    options = {
        "base": _whole(where, args, "base", 2, 100),
        "code_len": _whole(where, args, "code_len", 1, None),
    }
    if code_type == "float":
        options["transform"] = args.get("transform", "quantile")
        if options["transform"] not in TRANSFORMS:
            raise ConfigError(
                f"{where}: transform {options['transform']!r}; NeMo has {', '.join(TRANSFORMS)}"
            )
    found = {"kind": kind, "type": type_name, "codec": "digits", "options": options, "why": why}
    return name, found | {"nullable": bool(args.get("hasnan", True))}


def _whole(where: str, args: Mapping[str, Any], key: str, least: int, default: int | None) -> Any:
    value = args.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{where}: {key} must be a whole number from {least}, got {value!r}")
    return value
