"""A recipe, settings and what is asked of the cluster enter; checked scripts in run.dir/slurm leave, and the
numbers of the jobs that run them.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..config import load_config
from ..errors import ConfigError
from .check import check_layout, faults
from .script import Cluster, Job, logs, mounts, script


@dataclass(frozen=True)
class Chain:
    """The stages before and after the training: a table enters, a scored synthetic one leaves."""

    table: str
    rows: int
    schema: str | None = None
    test: str | None = None
    """Real rows that are not in `table`; without them nothing is evaluated."""
    target: str | None = None


@dataclass(frozen=True)
class Submission:
    """A run's jobs in the order of their dependence, with the scripts that make them."""

    run: Path
    scripts: dict[str, str]
    """Text by the name of the stage."""

    def paths(self) -> dict[str, Path]:
        """Where the scripts go."""
        return {name: logs(self.run) / f"{name}.sbatch" for name in self.scripts}

    def write(self) -> None:
        """Write the scripts, and make the folder of their logs."""
        logs(self.run).mkdir(parents=True, exist_ok=True)
        for name, path in self.paths().items():
            path.write_text(self.scripts[name], encoding="utf-8")

    def submit(self) -> list[int]:
        """Write and submit the scripts, each to start when the one before has ended well: all or none.

        Returns the jobs' numbers. Raises ConfigError where SLURM is missing or refuses one.
        """
        self.write()
        sbatch = shutil.which("sbatch")
        if sbatch is None:
            raise ConfigError(
                f"no sbatch here: submit the scripts in {logs(self.run)} on a login node of the cluster"
            )
        jobs: list[int] = []
        for path in self.paths().values():
            after = [f"--dependency=afterok:{jobs[-1]}", "--kill-on-invalid-dep=yes"] if jobs else []
            done = subprocess.run([sbatch, "--parsable", *after, str(path)], capture_output=True, text=True)
            if done.returncode:
                if jobs:
                    subprocess.run(["scancel", *map(str, jobs)], check=False)
                raise ConfigError(f"{path}: refused: {done.stderr.strip()}")
            jobs.append(int(done.stdout.split(";")[0]))
        return jobs


def refuse(text: str, where: str, *, log_folders: bool = True) -> None:
    """Raise ConfigError if the script has faults, naming them all."""
    found = faults(text, where, log_folders=log_folders)
    if found:
        raise ConfigError("\n".join(found))


def plan(
    recipe: str,
    settings: Sequence[str],
    cluster: Cluster,
    *,
    name: str | None = None,
    chain: Chain | None = None,
    folder: Path | None = None,
) -> Submission:
    """The jobs of one run, not yet written. `folder` is the one that relative paths start from; None: the
    current one.

    Raises ConfigError where settings are missing or the tasks do not fit the recipe's layout.
    """
    config, folder = load_config(recipe, settings), (folder or Path.cwd()).absolute()
    if config.run.dir is None or config.data.store is None:
        unset = "run.dir" if config.run.dir is None else "data.store"
        raise ConfigError(f"{unset} is not set: name a folder that all nodes share ({unset}=/shared/...)")
    check_layout(config, cluster.nodes * cluster.tasks_per_node)
    run, store = folder / config.run.dir, folder / config.data.store
    if cluster.container_mounts is None:
        tables = () if chain is None else (chain.table, chain.schema, chain.test)
        inputs = [(folder / path).parent for path in (recipe, *tables) if path is not None]
        cluster = replace(cluster, container_mounts=mounts([folder, run, store.parent, *inputs]))
    jobs = {"train": (_train(recipe, settings, run), cluster)}
    if chain is not None:
        jobs = {
            "prepare": (_prepare(chain, store), cluster.one_task(gpu=False)),
            **jobs,
            "generate": (_generate(chain, run), cluster.one_task(gpu=True)),
        }
        if chain.test is not None:
            jobs["evaluate"] = (_evaluate(chain, run), cluster.one_task(gpu=False))
    prefix = name or Path(recipe).stem
    scripts = {
        stage: script(job, asked, name=f"{prefix}-{stage}", run=run, folder=folder)
        for stage, (job, asked) in jobs.items()
    }
    submission = Submission(run, scripts)
    for stage, path in submission.paths().items():
        refuse(scripts[stage], str(path), log_folders=False)  # `write` makes the folder
    return submission


def _prepare(chain: Chain, store: Path) -> Job:
    schema = () if chain.schema is None else ("--schema", chain.schema)
    return Job(("prepare", chain.table, *schema, "-o", str(store)), store / "manifest.json")


def _train(recipe: str, settings: Sequence[str], run: Path) -> Job:
    return Job(("train", recipe, *settings), run / "model", run / "checkpoints")


def _generate(chain: Chain, run: Path) -> Job:
    made = run / "synthetic.csv"
    return Job(("generate", str(run), "--rows", str(chain.rows), "-o", str(made)), made)


def _evaluate(chain: Chain, run: Path) -> Job:
    report = run / "report"
    schema = () if chain.schema is None else ("--schema", chain.schema)
    target = () if chain.target is None else ("--target", chain.target)
    tables = ("--train", chain.table, "--test", str(chain.test), "--synthetic", str(run / "synthetic.csv"))
    return Job(("evaluate", *tables, *schema, *target, "-o", str(report)), report / "report.json")
