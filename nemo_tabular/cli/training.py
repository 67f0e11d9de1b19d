"""The verbs `plan` and `train`: a recipe enters; what it would need, or a trained model, leaves."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from ..errors import ConfigError
from .common import Verbs, add_recipe, add_verb, reported, show_progress

if TYPE_CHECKING:
    from ..config import Config


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

    from ..config import load_config
    from ..models.transfer import restored
    from ..plan import Cluster, as_json, as_text, assumed, estimate, fitting, of_store, one_model

    config, _ = restored(load_config(arguments.config, arguments.overrides))
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
    from ..config import load_config
    from ..engine.local import run_ranks

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

    from ..engine.ranks import place
    from ..train.run import train

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
