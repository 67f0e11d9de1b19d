"""The verbs `generate` and `impute`: a trained model enters; rows leave, or cells that were missing."""

from __future__ import annotations

import argparse

from .common import Verbs, add_table_options, add_unseen, add_verb, open_source


def add_generate(verbs: Verbs) -> None:
    verb = add_verb(verbs, "generate", "write synthetic rows from a trained model", generate)
    verb.add_argument("run", metavar="RUN", help="folder of a run")
    verb.add_argument("--rows", type=int, metavar="N", help="how many")
    verb.add_argument(
        "--documents", type=int, metavar="N", help="how many histories, of a model trained with group_by"
    )
    verb.add_argument(
        "--max-rows",
        type=int,
        metavar="N",
        help="cut a history off after so many rows (default: the longest in training)",
    )
    verb.add_argument("--seed", type=int, default=0, help="the same seed gives the same rows (default: 0)")
    verb.add_argument(
        "--given",
        action="append",
        default=[],
        metavar="COLUMN=VALUE|FILE",
        help="fix columns (of a gpt: leading ones): to one value each (repeat it), or to the rows of a file",
    )
    verb.add_argument(
        "--history",
        metavar="FILE",
        help="histories to go on from, in turn; only the new rows are written",
    )
    verb.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: likelier rows; above 1: rarer ones (1)"
    )
    verb.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="only the K likeliest tokens of a slot (0: all)"
    )
    verb.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="only the likeliest tokens that hold probability P (1)",
    )
    verb.add_argument(
        "--order", metavar="ORDER", help="of columns, for a cgm: random or fixed (default: as it was trained)"
    )
    add_unseen(verb, "a given value")
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help="CSV (.gz) or Parquet to write")


def generate(arguments: argparse.Namespace) -> None:
    from ..engine.ranks import place
    from ..synthesizer import Synthesizer

    rows = Synthesizer.load(arguments.run).write(
        arguments.out,
        arguments.rows,
        num_documents=arguments.documents,
        max_rows=arguments.max_rows,
        given=arguments.given,
        history=arguments.history,
        seed=arguments.seed,
        temperature=arguments.temperature,
        top_k=arguments.top_k,
        top_p=arguments.top_p,
        order=arguments.order,
        unseen=arguments.unseen,
    )
    if place().rank == 0:
        print(f"{arguments.out}: {rows:,} rows")


def add_impute(verbs: Verbs) -> None:
    verb = add_verb(verbs, "impute", "fill the missing cells of a table with a trained cgm", impute)
    verb.add_argument("run", metavar="RUN", help="folder of a run whose model.kind is cgm")
    add_table_options(verb)
    verb.add_argument("--seed", type=int, default=0, help="the same seed gives the same cells (default: 0)")
    add_unseen(verb, "a value")
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help="CSV (.gz) or Parquet to write")


def impute(arguments: argparse.Namespace) -> None:
    from ..synthesizer import Synthesizer

    rows, cells = Synthesizer.load(arguments.run).write_imputed(
        arguments.out, open_source(arguments), seed=arguments.seed, unseen=arguments.unseen
    )
    print(f"{arguments.out}: {rows:,} rows, {cells:,} cells filled")
