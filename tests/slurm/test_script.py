"""The script that the template renders: legible, linted, and made of what was asked for and nothing else."""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nemo_tabular.slurm.check import command, directives
from nemo_tabular.slurm.script import Cluster, Job, mounts, render, script, template

TRAIN = Job(
    ("train", "conf/x.yaml", "run.dir=r u n"), Path("/shared/r u n/model"), Path("/shared/r u n/checkpoints")
)
EVERYTHING = Cluster(
    nodes=8,
    tasks_per_node=4,
    time="12:00:00",
    cpus_per_task=7,
    gpus_per_node=4,
    partition="long",
    account="ours",
    container_image="nemo tabular.sqsh",
    container_mounts="/home/me:/home/me,/r u n:/r u n",
    sbatch=("--qos=high", "--exclude=n7"),
    save_seconds=120,
    max_restarts=9,
)


def made(job: Job = TRAIN, cluster: Cluster = EVERYTHING) -> str:
    return script(job, cluster, name="x-train", run=Path("/shared/r u n"), folder=Path("/home/me"))


def options(text: str) -> dict[str, str]:
    return {d.name: d.value for d in directives(text)}


def test_everything_that_was_asked_for_is_in_it():
    text = made()
    assert options(text) == {
        "job-name": "x-train",
        "nodes": "8",
        "ntasks-per-node": "4",
        "cpus-per-task": "7",
        "gpus-per-node": "4",
        "time": "12:00:00",
        "partition": "long",
        "account": "ours",
        "qos": "high",
        "exclude": "n7",
        "chdir": "/home/me",
        "output": "/shared/r u n/slurm/%x-%j.log",
        "open-mode": "append",
        "requeue": "",
        "signal": "B:USR1@120",
    }
    assert command(text)[1] == ["nemo-tabular", "train", "conf/x.yaml", "run.dir=r u n"]
    assert "--container-image='nemo tabular.sqsh'" in text
    assert "--container-mounts='/home/me:/home/me,/r u n:/r u n'" in text
    assert "MAX_RESTARTS=9\n" in text and "FINISHED='/shared/r u n/model'\n" in text


def test_what_was_not_asked_for_leaves_no_trace():
    text = made(cluster=Cluster(nodes=1, tasks_per_node=1, time="10"))
    assert not {"cpus-per-task", "gpus-per-node", "partition", "account", "qos"} & options(text).keys()
    assert "{{" not in text and "--container-image=" not in text.replace("such as --container-image=...", "")


def test_a_stage_that_cannot_save_is_not_asked_to():
    text = made(Job(("generate", "runs/x", "-o", "x.csv"), Path("x.csv")))
    assert "signal" not in options(text) and "\nCHECKPOINTS=\n" in text


@pytest.mark.parametrize("cluster", [EVERYTHING, Cluster(nodes=1, tasks_per_node=1, time="10")])
def test_shellcheck_finds_nothing(cluster, tmp_path):
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck not installed (as root: apt-get install shellcheck)")
    file = tmp_path / "x.sbatch"
    file.write_text(made(cluster=cluster))
    done = subprocess.run(["shellcheck", str(file)], capture_output=True, text=True)
    assert done.stdout == ""


def test_a_line_without_a_value_goes_and_one_with_many_is_repeated():
    assert render("a {{x}}\nb {{y}}\nc {{z}}\nd\n", {"x": None, "y": [1, 2], "z": ""}) == "b 1\nb 2\nc \nd\n"


def test_a_container_sees_every_folder_that_is_used_once():
    used = [Path("/shared/runs/x"), Path("/shared"), Path("/home/me"), Path("/shared/data"), Path("/sharedx")]
    assert mounts(used) == "/home/me:/home/me,/shared:/shared,/sharedx:/sharedx"


def test_lines_are_as_short_as_in_the_rest_of_the_project():
    assert max(map(len, re.sub(r"\{\{\w+\}\}", "", template()).splitlines())) <= 120


def test_the_template_travels_with_the_package(tmp_path):
    """A wheel, as users install it, must hold what is read at run time."""
    pytest.importorskip("setuptools", "77", reason="the build backend is not installed")
    root = Path(__file__).parents[2]
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "nemo_tabular/slurm", tmp_path / "nemo_tabular/slurm")
    shutil.copy(root / "nemo_tabular/__init__.py", tmp_path / "nemo_tabular")
    build = "from setuptools import build_meta; build_meta.build_wheel('out')"
    (tmp_path / "out").mkdir()
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    with zipfile.ZipFile(next((tmp_path / "out").glob("*.whl"))) as wheel:
        assert "nemo_tabular/slurm/job.sbatch" in wheel.namelist()
