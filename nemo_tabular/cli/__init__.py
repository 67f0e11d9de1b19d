"""A command line enters; the package's own functions are called with it, and what they made is printed.
Parse, call, print: whatever decides anything lives behind the functions that the verbs import.

Each verb imports what it needs only when it runs, so that `nemo-tabular --help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .. import __version__
from . import cluster, report, rows, series, tables, training
from .common import reported

EXAMPLE = """\
from a table to a synthetic one:
  nemo-tabular schema   adult.csv -o adult.schema.yaml
  nemo-tabular prepare  adult.csv --schema adult.schema.yaml -o data/adult
  nemo-tabular train    conf/gpt_adult.yaml data.store=data/adult run.dir=runs/adult
  nemo-tabular generate runs/adult --rows 32561 --seed 1 -o synthetic.csv
  nemo-tabular evaluate --train adult_train.csv --test adult_test.csv \\
                        --synthetic synthetic.csv --target income -o report
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, 2 for an error the user can mend, 130 after Ctrl-C.

    An error of our own making keeps its traceback: it is a bug, and the traceback is the report.
    """
    arguments = parse(argv)
    return reported(arguments.verb, lambda: arguments.call(arguments))


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; settings (`section.name=value`) may stand after options too, which argparse alone
    does not allow.
    """
    parser = make_parser()
    arguments, rest = parser.parse_known_args(argv)
    stray = [text for text in rest if text.startswith("-") or "=" not in text]
    if rest and (stray or not hasattr(arguments, "overrides")):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        arguments.overrides = [*arguments.overrides, *rest]
    return arguments


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nemo-tabular",
        description="Generative transformers for tables.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for add in (
        tables.add_schema,
        tables.add_prepare,
        training.add_plan,
        training.add_train,
        rows.add_generate,
        rows.add_impute,
        report.add_evaluate,
        cluster.add_submit,
        cluster.add_preflight,
        series.add_forecast,
        series.add_backtest,
        series.add_pretrain,
    ):
        add(verbs)
    return parser
