"""The Dockerfile, read but not built: that takes a Docker engine and NVIDIA's registry. Its smoke test is run
here, in this environment."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(name, arguments) of each instruction, its lines joined, comments left out."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#"))
    joined = lines.replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]  # type: ignore[misc]


def arguments(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def test_the_base_is_one_pinned_release_of_nvidias():
    (base,) = arguments("FROM")
    assert re.fullmatch(r"nvcr\.io/nvidia/pytorch:\d\d\.\d\d-py3", base)


def test_what_the_base_is_said_to_hold_fits_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    python, torch = re.findall(r"Python (\S+) and torch ([^\s,]+)", TEXT)[0]
    (asked,) = (text.removeprefix("torch") for text in project["dependencies"] if text.startswith("torch"))
    assert SpecifierSet(project["requires-python"]).contains(python)
    assert SpecifierSet(asked).contains(torch, prereleases=True)  # as pip asks of what is installed
    assert not SpecifierSet(asked).contains("2.11.0a0", prereleases=True)


def test_nothing_runs_as_root_and_the_smoke_test_is_the_last_step():
    names = [name for name, _ in instructions()]
    assert names[-1] == "RUN" and names.index("USER") < len(names) - 1
    assert arguments("USER")[-1] not in ("root", "0")
    assert names.count("CMD") == 1


def test_no_layer_carries_what_it_does_not_need():
    assert "ADD" not in dict(instructions()) and "latest" not in TEXT
    for run in arguments("RUN"):
        assert "pip install" not in run or "--no-cache-dir" in run
        assert "apt-get install" not in run
    for source in (word for copy in arguments("COPY") for word in copy.split()[:-1]):
        assert (ROOT / source).exists() and f"!{source}" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_smoke_test_passes_here(tmp_path):
    """With this interpreter's commands, and the recipe from where it lies here."""
    for name, run in (("nemo-tabular", "-m nemo_tabular.cli"), ("python", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\nexec {sys.executable} {run} "$@"\n')
        (tmp_path / name).chmod(0o755)
    smoke = arguments("RUN")[-1].replace("/opt/nemo_tabular/", f"{ROOT}/")
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    shell = json.loads(arguments("SHELL")[0])
    done = subprocess.run(
        [*shell, smoke], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
