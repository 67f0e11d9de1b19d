"""A command line enters; the package's own functions are called with it, and what they made is printed.
Parse, call, print: whatever decides anything lives behind the functions that the verbs import.

Each verb imports what it needs only when it runs, so that `nemo-tabular --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import __version__
from .errors import ConfigError, TabularError

if TYPE_CHECKING:
    from .config import Config

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, what a shell reports for a program that Ctrl-C ended

EXAMPLE = """\
from a table to a synthetic one:
  nemo-tabular schema   adult.csv -o adult.schema.yaml
  nemo-tabular prepare  adult.csv --schema adult.schema.yaml -o data/adult
  nemo-tabular train    conf/gpt_adult.yaml data.store=data/adult run.dir=runs/adult
  nemo-tabular generate runs/adult --rows 32561 --seed 1 -o synthetic.csv
  nemo-tabular evaluate --train adult_train.csv --test adult_test.csv \\
                        --synthetic synthetic.csv --target income -o report
"""

Verbs = argparse._SubParsersAction  # argparse gives its verbs no public type


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0, 2 for an error the user can mend, 130 after Ctrl-C.

    An error of our own making keeps its traceback: it is a bug, and the traceback is the report.
    """
    arguments = parse(argv)
    return reported(arguments.verb, lambda: arguments.call(arguments))


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
    from .cli_forecast import add_backtest, add_forecast, add_pretrain  # which is built on this file

    for add in (
        add_schema,
        add_prepare,
        add_plan,
        add_train,
        add_generate,
        add_impute,
        add_evaluate,
        add_submit,
        add_preflight,
        add_forecast,
        add_backtest,
        add_pretrain,
    ):
        add(verbs)
    return parser


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


def separator(text: str) -> str:
    """The character that separates fields; no shell makes it easy to type a tab."""
    return "\t" if text == "\\t" else text


def open_source(arguments: argparse.Namespace) -> Any:
    from .readers import open_table

    return open_table(
        arguments.table,
        max_bad_rows=arguments.max_bad_rows,
        quarantine=arguments.quarantine,
        encoding=arguments.encoding,
        delimiter=arguments.delimiter,
    )


# ---- schema ----


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
    from .schema import infer_schema

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


# ---- prepare ----


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
    from .schema import Schema
    from .store import prepare
    from .tokenizer import TableTokenizer

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


# ---- plan ----


def add_plan(verbs: Verbs) -> None:
    verb = add_verb(verbs, "plan", "say what a run needs of memory and time, without a GPU", plan)
    add_recipe(verb)
    verb.add_argument("--gpus", type=int, metavar="N", help="how many (default: as many as hold one model)")
    verb.add_argument("--gpu-memory", type=float, default=80, metavar="GB", help="GiB of one GPU (80)")
    verb.add_argument("--gpus-per-node", type=int, default=8, metavar="N", help="joined by NVLink (8)")
    verb.add_argument(
        "--gpu-tflops", type=float, metavar="F", help="peak of one GPU (default: an H100's, 989 in bf16)"
    )
    verb.add_argument("--mfu", type=float, default=0.4, metavar="F", help="share of the peak reached (0.4)")
    group = verb.add_argument_group("the table, where data.store names none yet")
    group.add_argument("--slots", type=int, default=32, metavar="N", help="tokens of a row (32)")
    group.add_argument("--vocab-size", type=int, default=8192, metavar="N", help="ids of all slots (8192)")
    group.add_argument("--rows", type=int, metavar="N", help="training rows (default: 20 tokens a parameter)")
    group.add_argument(
        "--histories", action="store_true", help="windows of data.max_rows rows, not single rows"
    )
    verb.add_argument("--json", action="store_true", help="the same as JSON")


def plan(arguments: argparse.Namespace) -> None:
    import json

    from .config import load_config
    from .plan import Cluster, as_json, as_text, assumed, estimate, fitting, of_store, one_model

    config = load_config(arguments.config, arguments.overrides)
    if config.data.store is not None:
        work = of_store(config)
    else:
        work = assumed(config, arguments.slots, arguments.vocab_size, arguments.histories, arguments.rows)
    cluster = Cluster(
        arguments.gpus if arguments.gpus is not None else one_model(config),
        arguments.gpu_memory,
        teraflops=arguments.gpu_tflops,
        mfu=arguments.mfu,
        gpus_per_node=arguments.gpus_per_node,
    )
    made, others = estimate(config, work, cluster), fitting(config, work, cluster)
    if arguments.json:
        print(json.dumps(as_json(made, others), indent=1))
    else:
        print(as_text(made, others, arguments.config))
    made.require_fit()


def add_recipe(verb: argparse.ArgumentParser) -> None:
    """A configuration, the same for every verb that reads one."""
    verb.add_argument("config", metavar="CONFIG", help="YAML recipe, e.g. conf/gpt_laptop.yaml")
    verb.add_argument(
        "overrides",
        nargs="*",
        metavar="SECTION.NAME=VALUE",
        help="settings over the recipe, e.g. model.num_layers=4",
    )


# ---- train ----


def add_train(verbs: Verbs) -> None:
    verb = add_verb(verbs, "train", "train a model on a store, or go on where an earlier run stopped", train)
    add_recipe(verb)
    verb.add_argument(
        "--ranks",
        type=int,
        metavar="N",
        help="processes of this machine that train together (default: this one, or torchrun's, or srun's)",
    )


def train(arguments: argparse.Namespace) -> None:
    from .config import load_config
    from .engine.local import run_ranks

    config = load_config(arguments.config, arguments.overrides)
    if config.run.dir is None:
        raise ConfigError("run.dir is not set: name the folder for the trained model (run.dir=runs/NAME)")
    show_progress()
    if arguments.ranks is None:
        train_rank(config)
    elif code := run_ranks(arguments.ranks, lambda: reported(arguments.verb, lambda: train_rank(config))):
        sys.exit(code)


def train_rank(config: Config) -> None:
    """The part of one process."""
    import random

    import numpy as np

    from .engine.ranks import place
    from .train.run import train

    # nothing of ours draws from these; whatever does is repeatable, and checkpoints carry it on
    random.seed(config.run.seed)
    np.random.seed(config.run.seed % 2**32)
    result = train(config)
    if place().rank:
        return  # rank 0 speaks for all
    if result.finished:
        unit = "history" if result.model is not None and result.model.histories else "row"
        print(f"{config.run.dir}: {result.steps:,} steps, validation {result.best_nll:.4f} nats a {unit}")
    else:
        print(f"{config.run.dir}: stopped at step {result.steps:,}; the same command goes on from there")


def show_progress() -> None:
    """Our own log lines go to stderr as they are; those of other packages stay as quiet as they were."""
    import logging

    log = logging.getLogger("nemo_tabular")
    if not log.handlers:
        log.addHandler(logging.StreamHandler())
        log.setLevel(logging.INFO)
        log.propagate = False


# ---- generate ----


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
    from .engine.ranks import place
    from .synthesizer import Synthesizer

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


# ---- impute ----


def add_impute(verbs: Verbs) -> None:
    verb = add_verb(verbs, "impute", "fill the missing cells of a table with a trained cgm", impute)
    verb.add_argument("run", metavar="RUN", help="folder of a run whose model.kind is cgm")
    add_table_options(verb)
    verb.add_argument("--seed", type=int, default=0, help="the same seed gives the same cells (default: 0)")
    add_unseen(verb, "a value")
    verb.add_argument("-o", "--out", required=True, metavar="FILE", help="CSV (.gz) or Parquet to write")


def impute(arguments: argparse.Namespace) -> None:
    from .synthesizer import Synthesizer

    rows, cells = Synthesizer.load(arguments.run).write_imputed(
        arguments.out, open_source(arguments), seed=arguments.seed, unseen=arguments.unseen
    )
    print(f"{arguments.out}: {rows:,} rows, {cells:,} cells filled")


# ---- evaluate ----


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
    from .evaluate import evaluate, report_place
    from .schema import Schema
    from .synthesizer import Synthesizer

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


# ---- submit ----


def add_submit(verbs: Verbs) -> None:
    verb = add_verb(
        verbs, "submit", "train on a SLURM cluster: write one sbatch script and submit it", submit
    )
    add_recipe(verb)
    verb.add_argument(
        "--check", action="store_true", help="CONFIG is an sbatch script: only look for faults in it"
    )
    verb.add_argument("--dry-run", action="store_true", help="only print what would be submitted")
    asked = verb.add_argument_group("what is asked of the cluster")
    asked.add_argument("--nodes", type=int, default=1, metavar="N", help="(1)")
    asked.add_argument(
        "--time", metavar="HH:MM:SS", help="of one start; the job goes back to the queue until done"
    )
    asked.add_argument(
        "--tasks-per-node", type=int, metavar="N", help="ranks (default: a GPU each; 1 without GPUs)"
    )
    asked.add_argument("--gpus-per-node", type=int, metavar="N", help="(none)")
    asked.add_argument("--cpus-per-task", type=int, metavar="N", help="(the cluster's default)")
    asked.add_argument("--partition", metavar="NAME")
    asked.add_argument("--account", metavar="NAME")
    asked.add_argument("--container-image", metavar="IMAGE", help="for pyxis and enroot")
    asked.add_argument("--container-mounts", metavar="HOST:CONTAINER,...", help="(the folders in use)")
    asked.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="any other, e.g. --sbatch=--qos=long"
    )
    asked.add_argument("--job-name", metavar="NAME", help="(the recipe's)")
    asked.add_argument(
        "--save-seconds", type=int, default=300, metavar="N", help="to save before the time is up (300)"
    )
    asked.add_argument("--max-restarts", type=int, default=50, metavar="N", help="then give up (50)")
    chain = verb.add_argument_group(
        "the whole chain: prepare, train, generate, evaluate, each after the one before"
    )
    chain.add_argument("--chain", metavar="TABLE", help="the table to prepare as data.store")
    chain.add_argument("--rows", type=int, metavar="N", help="synthetic rows to make: run.dir/synthetic.csv")
    chain.add_argument("--schema", metavar="FILE", help="YAML that `schema` wrote (default: inferred)")
    chain.add_argument("--test", metavar="FILE", help="real rows to evaluate with: run.dir/report/")
    chain.add_argument("--target", metavar="COLUMN", help="column to predict, for the evaluation")


def submit(arguments: argparse.Namespace) -> None:
    from .slurm.script import Cluster
    from .slurm.submit import Chain, plan, refuse

    if arguments.check:
        with open(arguments.config, encoding="utf-8") as file:
            refuse(file.read(), arguments.config)
        print(f"{arguments.config}: no faults")
        return
    if arguments.time is None:
        raise ConfigError("say with --time how long one start may take, such as --time 12:00:00")
    if arguments.chain and arguments.rows is None:
        raise ConfigError("--chain: say with --rows how many synthetic rows to make")
    cluster = Cluster(
        nodes=arguments.nodes,
        tasks_per_node=arguments.tasks_per_node or arguments.gpus_per_node or 1,
        time=arguments.time,
        cpus_per_task=arguments.cpus_per_task,
        gpus_per_node=arguments.gpus_per_node,
        partition=arguments.partition,
        account=arguments.account,
        container_image=arguments.container_image,
        container_mounts=arguments.container_mounts,
        sbatch=tuple(arguments.sbatch),
        save_seconds=arguments.save_seconds,
        max_restarts=arguments.max_restarts,
    )
    chain = arguments.chain and Chain(
        arguments.chain, arguments.rows, arguments.schema, arguments.test, arguments.target
    )
    submission = plan(
        arguments.config, arguments.overrides, cluster, name=arguments.job_name, chain=chain or None
    )
    if arguments.dry_run:
        print("\n".join(submission.scripts.values()), end="")
        return
    for (stage, path), job in zip(submission.paths().items(), submission.submit(), strict=True):
        print(f"{stage}: job {job}, {path}, log in {path.parent}")


# ---- preflight ----


def add_preflight(verbs: Verbs) -> None:
    verb = add_verb(
        verbs, "preflight", "check the nodes of a job, one task on each: `srun ... preflight`", preflight
    )
    verb.add_argument("folder", metavar="FOLDER", help="that all nodes share and write to")


def preflight(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from .slurm.preflight import preflight

    told = preflight(Path(arguments.folder))
    if told:
        print(told)


if __name__ == "__main__":
    sys.exit(main())
