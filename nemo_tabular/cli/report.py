"""The verb `evaluate`: real and synthetic tables enter; a report leaves."""

from __future__ import annotations

import argparse

from .common import Verbs, add_verb


def add_evaluate(verbs: Verbs) -> None:
    verb = add_verb(verbs, "evaluate", "score a synthetic table against the real one", evaluate)
    verb.add_argument("--train", required=True, metavar="FILE", help="the real rows the model was trained on")
    verb.add_argument("--test", required=True, metavar="FILE", help="real rows that it has not seen")
    verb.add_argument("--synthetic", required=True, metavar="FILE", help="the rows to judge")
    verb.add_argument(
        "--target", metavar="COLUMN", help="column to predict, for train-on-synthetic-test-on-real"
    )
    verb.add_argument(
        "--schema", metavar="FILE", help="YAML that says the kinds of the columns (default: inferred)"
    )
    verb.add_argument(
        "--scores", action="append", metavar="NAME", help="an area or a single score (default: all)"
    )
    verb.add_argument("--seed", type=int, default=0, help="of the samples and the folds (default: 0)")
    verb.add_argument(
        "--model", metavar="RUN", help="the run or saved model: adds membership inference by its likelihood"
    )
    verb.add_argument(
        "-o",
        "--out",
        metavar="FOLDER|FILE.json",
        help="folder for report.html, report.json and plots/*.png; or the JSON alone",
    )


def evaluate(arguments: argparse.Namespace) -> None:
    from ..evaluate import evaluate, report_place
    from ..schema import Schema
    from ..synthesizer import Synthesizer

    place = report_place(arguments.out) if arguments.out else None
    report = evaluate(
        arguments.train,
        arguments.test,
        arguments.synthetic,
        target=arguments.target,
        schema=Schema.from_yaml(arguments.schema) if arguments.schema else None,
        seed=arguments.seed,
        scores=arguments.scores,
        model=Synthesizer.load(arguments.model) if arguments.model else None,
    )
    print(report)
    if place and place.suffix.lower() == ".json":
        report.to_json(place)
    elif place:
        report.save(place)
        print(f"{place / 'report.html'}: open it in a browser; report.json and plots/ lie beside it")
