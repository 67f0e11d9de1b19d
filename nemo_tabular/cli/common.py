"""What the verbs share: their options for tables and recipes, their exit codes, their log lines."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from ..errors import TabularError

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for a program that Ctrl-C ended

Verbs = argparse._SubParsersAction  # argparse gives its verbs no public type


def add_verb(verbs: Verbs, name: str, help: str, call: Callable[..., None]) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)
    verb.set_defaults(call=call)
    return verb


def add_table_options(verb: argparse.ArgumentParser, flag: str | None = None) -> None:
    """What is to be said about reading a table, the same for every verb that reads one: the table comes
    first, or after `flag`.
    """
    named: dict[str, Any] = {"dest": "table", "required": True} if flag else {}
    verb.add_argument(
        flag or "table",
        metavar="TABLE",
        help="CSV (.gz, .zst), TSV, Parquet or Arrow: a file, a folder or a glob",
        **named,
    )
    verb.add_argument(
        "--delimiter", type=separator, metavar="CHAR", help="field separator of a CSV (default: by its name)"
    )
    verb.add_argument("--encoding", default="utf-8", help="of a CSV (default: utf-8)")
    verb.add_argument(
        "--max-bad-rows",
        type=int,
        default=0,
        metavar="N",
        help="go on while at most N rows are unreadable (0)",
    )
    verb.add_argument(
        "--quarantine", metavar="FILE", help="where unreadable rows go (default: beside the table)"
    )


def add_unseen(verb: argparse.ArgumentParser, what: str) -> None:
    verb.add_argument(
        "--unseen",
        metavar="POLICY",
        help=f"what {what} that training never saw is read as: nearest, other, clip (default: an error)",
    )


def add_recipe(verb: argparse.ArgumentParser) -> None:
    """A configuration, the same for every verb that reads one."""
    verb.add_argument("config", metavar="CONFIG", help="YAML recipe, e.g. conf/gpt_laptop.yaml")
    verb.add_argument(
        "overrides",
        nargs="*",
        metavar="SECTION.NAME=VALUE",
        help="settings over the recipe, e.g. model.num_layers=4",
    )


def separator(text: str) -> str:
    """The character that separates fields; no shell makes it easy to type a tab."""
    return "\t" if text == "\\t" else text


def open_source(arguments: argparse.Namespace) -> Any:
    from ..readers import open_table

    return open_table(
        arguments.table,
        max_bad_rows=arguments.max_bad_rows,
        quarantine=arguments.quarantine,
        encoding=arguments.encoding,
        delimiter=arguments.delimiter,
    )


def show_progress() -> None:
    """Our own log lines go to stderr as they are; those of other packages stay as quiet as they were."""
    import logging

    log = logging.getLogger("nemo_tabular")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False


def reported(verb: str, call: Callable[[], None]) -> int:
    """Call, and turn what a user can mend into one line and an exit code."""
    try:
        call()
        sys.stdout.flush()
    except TabularError as error:
        print(f"nemo-tabular {verb}: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt as interrupt:
        print(": ".join([f"nemo-tabular {verb}: interrupted", *interrupt.args]), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `nemo-tabular schema x.csv | head`: the reader has seen enough. Python would complain once more
        # when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        # A full disk, a missing folder, a file that may not be read: the machine's state, not a bug.
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"nemo-tabular {verb}: {where}{error.strerror or error}", file=sys.stderr)
        return USER_ERROR
    return 0
