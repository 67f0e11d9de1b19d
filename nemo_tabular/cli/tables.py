"""The verbs `schema` and `prepare`: a table enters; its schema, or its store, leaves."""

from __future__ import annotations

import argparse
from typing import Any

from .common import Verbs, add_table_options, add_verb, open_source


def add_schema(verbs: Verbs) -> None:
    verb = add_verb(verbs, "schema", "read a whole table and write how its columns are understood", schema)
    add_table_options(verb)
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help="YAML to write, read and edit")
    verb.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="leave a column out")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        type=setting,
        metavar="COLUMN.KEY=VALUE",
        help="say it instead of having it inferred: zip.kind=code, day.format=%%d/%%m/%%Y, "
        "'price.options={base: 100, code_len: 3}'",
    )
    verb.add_argument("--group-by", action="append", default=[], metavar="COLUMN", help="a document a value")
    verb.add_argument("--order-by", action="append", default=[], metavar="COLUMN", help="order within it")


def setting(text: str) -> tuple[str, str, Any]:
    """`day.format=%d/%m/%Y` -> ("day", "format", "%d/%m/%Y"). The column's name may itself hold dots."""
    name, equals, value = text.partition("=")
    column, dot, key = name.rpartition(".")
    if not (equals and dot and column and key):
        raise argparse.ArgumentTypeError(f"{text!r}: write it as COLUMN.KEY=VALUE, such as zip.kind=code")
    # Only these need YAML's types; a date format or a currency sign is not YAML.
    if value.startswith(("{", "[")) or value in ("true", "false"):
        import yaml

        try:
            return column, key, yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {value} is not YAML: {error}") from None
    return column, key, value


def schema(arguments: argparse.Namespace) -> None:
    from ..schema import infer_schema

    overrides: dict[str, dict[str, Any]] = {}
    for column, key, value in arguments.set:
        overrides.setdefault(column, {})[key] = value
    found = infer_schema(
        open_source(arguments),
        group_by=arguments.group_by,
        order_by=arguments.order_by,
        drop=arguments.drop,
        overrides=overrides,
    )
    found.to_yaml(arguments.out)
    print(
        f"{arguments.out}: {len(found.columns)} columns, from {found.rows:,} rows; read it, edit it, prepare"
    )


def add_prepare(verbs: Verbs) -> None:
    verb = add_verb(verbs, "prepare", "write a table as tokens: a store to train on", prepare)
    add_table_options(verb)
    verb.add_argument("--schema", metavar="FILE", help="YAML that `schema` wrote (default: inferred)")
    verb.add_argument(
        "--extend",
        metavar="RUN|STORE",
        help="for fine-tuning this run: with its tokenizer, extended by new values and columns",
    )
    verb.add_argument("-o", "--out", required=True, metavar="FOLDER", help="the store to write")
    verb.add_argument(
        "--splits",
        type=shares,
        default=(0.95, 0.05),
        metavar="A,B[,C]",
        help="shares of training, validation and test documents (default: 0.95,0.05)",
    )
    verb.add_argument("--seed", type=int, default=0, help="which documents go to which split (default: 0)")
    verb.add_argument("--overwrite", action="store_true", help="replace a store that is already there")


def prepare(arguments: argparse.Namespace) -> None:
    from ..schema import Schema
    from ..store import prepare
    from ..tokenizer import TableTokenizer

    store = prepare(
        open_source(arguments),
        arguments.out,
        schema=Schema.from_yaml(arguments.schema) if arguments.schema else None,
        extend=TableTokenizer.load(arguments.extend) if arguments.extend else None,
        splits=arguments.splits,
        seed=arguments.seed,
        overwrite=arguments.overwrite,
    )
    sizes = ", ".join(f"{size.rows:,} {name}" for name, size in store.manifest.splits.items())
    tokens = f"{store.tokenizer.num_slots} tokens a row, {store.tokenizer.vocab_size:,} ids"
    print(f"{arguments.out}: {sizes} rows; {tokens}; {store.manifest.bad_rows:,} bad rows left out")


def shares(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: numbers with commas between them, e.g. 0.9,0.05,0.05"
        ) from None
