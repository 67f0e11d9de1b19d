"""The verbs `submit` and `preflight`: a recipe becomes a SLURM job, and nodes are told fit or not."""

from __future__ import annotations

import argparse

from ..errors import ConfigError
from .common import Verbs, add_recipe, add_verb


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
    from ..slurm.script import Cluster
    from ..slurm.submit import Chain, plan, refuse

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


def add_preflight(verbs: Verbs) -> None:
    verb = add_verb(
        verbs, "preflight", "check the nodes of a job, one task on each: `srun ... preflight`", preflight
    )
    verb.add_argument("folder", metavar="FOLDER", help="that all nodes share and write to")


def preflight(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from ..slurm.preflight import preflight

    told = preflight(Path(arguments.folder))
    if told:
        print(told)
