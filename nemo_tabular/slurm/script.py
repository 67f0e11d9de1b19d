"""A command and what it needs of the cluster enter; the text of an sbatch script leaves, rendered from
job.sbatch.

The template's one rule: a line whose {{name}} has no value is left out, and one with several is repeated.
"""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

TEMPLATE = "job.sbatch"


@dataclass(frozen=True)
class Cluster:
    """What is asked of the cluster for the training; the other stages take one task of the same."""

    nodes: int
    tasks_per_node: int
    time: str
    """As sbatch takes it, e.g. 12:00:00."""
    cpus_per_task: int | None = None
    gpus_per_node: int | None = None
    partition: str | None = None
    account: str | None = None
    container_image: str | None = None
    """For pyxis and enroot; `nemo-tabular` is then the image's own."""
    container_mounts: str | None = None
    """HOST:CONTAINER, ...; None: the folders that the jobs use, under the same names."""
    sbatch: tuple[str, ...] = ()
    """Further options, such as "--qos=long"."""
    save_seconds: int = 300
    """The tasks are asked to save so long before the time is up."""
    max_restarts: int = 50

    def one_task(self, gpu: bool) -> "Cluster":
        """The same, for a stage of one process."""
        gpus = 1 if gpu and self.gpus_per_node else None
        return replace(self, nodes=1, tasks_per_node=1, gpus_per_node=gpus)


@dataclass(frozen=True)
class Job:
    """One command of ours, and how to see what became of it."""

    command: tuple[str, ...]
    """Verb and arguments."""
    finished: Path
    """What the command leaves, under this name only when it is whole."""
    checkpoints: Path | None = None
    """Where a command that can be stopped and go on saves; None for the others."""


def script(job: Job, cluster: Cluster, *, name: str, run: Path, folder: Path) -> str:
    """The script of one job. `run` is the shared folder of the run, `folder` the one that paths are relative
    to.
    """
    program = shlex.join(_program(cluster.container_image is not None))
    resumable = job.checkpoints is not None
    values: dict[str, object] = {
        "name": name,
        "nodes": cluster.nodes,
        "tasks_per_node": cluster.tasks_per_node,
        "cpus_per_task": cluster.cpus_per_task,
        "gpus_per_node": cluster.gpus_per_node,
        "time": cluster.time,
        "partition": cluster.partition,
        "account": cluster.account,
        "sbatch": list(cluster.sbatch),
        "folder": _quoted(str(folder)),
        "logs": _quoted(str(logs(run)).replace("%", "%%")),
        "save_seconds": cluster.save_seconds if resumable else None,
        "program": program,
        "command": _lines(program, job.command),
        "finished": shlex.quote(str(job.finished)),
        "checkpoints": shlex.quote(str(job.checkpoints)) if resumable else "",
        "shared": shlex.quote(str(run)),
        "max_restarts": cluster.max_restarts,
        "container": _container(cluster, folder),
    }
    return render(template(), values)


def logs(run: Path) -> Path:
    """Where the scripts and logs of a run are."""
    return run / "slurm"


def template() -> str:
    """The template's text, from wherever the package is installed."""
    return files(__package__).joinpath(TEMPLATE).read_text(encoding="utf-8")


def render(text: str, values: dict[str, object]) -> str:
    """`text` with every {{name}} filled in: None or an empty list leaves the line out, a list repeats it."""
    lines: list[str] = []
    for line in text.splitlines():
        found = re.search(r"\{\{(\w+)\}\}", line)
        if found is None:
            lines.append(line)
            continue
        value = values[found[1]]
        many = value if isinstance(value, list) else [] if value is None else [value]
        lines += [line.replace(found[0], str(one)) for one in many]
    return "\n".join(lines) + "\n"


def _program(container: bool) -> list[str]:
    """How the compute nodes call us: by the full path of this environment, or as the container knows it."""
    if container:
        return ["nemo-tabular"]
    installed = Path(sys.executable).with_name("nemo-tabular")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "nemo_tabular.cli"]


def _lines(program: str, command: Sequence[str]) -> list[str]:
    """The command over several lines: an option with its value, or a setting, on each."""
    lines = [program]
    for word in command:
        plain = "=" not in word and not word.startswith("-")
        if plain and (len(lines) == 1 or (lines[-1].startswith("-") and " " not in lines[-1])):
            lines[-1] += f" {shlex.quote(word)}"
        else:
            lines.append(shlex.quote(word))
    return lines


def _container(cluster: Cluster, folder: Path) -> list[str]:
    if cluster.container_image is None:
        return []
    options = {"image": cluster.container_image, "mounts": cluster.container_mounts, "workdir": str(folder)}
    return [f"--container-{name}={shlex.quote(value)}" for name, value in options.items() if value]


def mounts(used: Iterable[Path]) -> str:
    """For a container: these folders under their own names, without those that lie in another."""
    folders = sorted(set(used))
    outer = [path for path in folders if not any(other in path.parents for other in folders)]
    return ",".join(f"{path}:{path}" for path in outer)


def _quoted(text: str) -> str:
    """A value in an #SBATCH line, where a blank ends an option and # begins a comment."""
    return f'"{text}"' if re.search(r"[\s#'\\]", text) else text
