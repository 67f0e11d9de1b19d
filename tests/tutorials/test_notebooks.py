"""The tutorials enter as they are in the repository; each is executed from its first cell to its last, in a
folder of its own. Nothing fails, and what they show is what is committed, up to noise in the figures."""

import os
import re
import sys
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

TUTORIALS = sorted((Path(__file__).parents[2] / "tutorials").glob("*.ipynb"))
SECONDS_A_CELL = 900
PICTURE = "image/png"
NOISE = 0.15
"""Processors differ in the last bits of a sum, and models that were trained on them in more."""


def kinds(cell) -> list[str]:
    """What a cell shows, in order: texts of one stream count once, however they came."""
    found = []
    for output in cell.outputs:
        kind = output.get("name") or (PICTURE if PICTURE in output.data else "data")
        if not found or kind != found[-1] or kind == PICTURE:
            found.append(kind)
    return found


def figures(cell) -> list[float]:
    """The numbers that a cell shows."""
    texts = [o.get("text") or o.data.get("text/plain", "") for o in cell.outputs]
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", " ".join(texts))]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_shows_what_is_committed(path, tmp_path, monkeypatch):
    # its commands are those of this environment, whether or not that is activated
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    committed = nbformat.read(path, as_version=4)
    fresh = nbformat.read(path, as_version=4)
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        fresh, timeout=SECONDS_A_CELL, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    code = [(a, b) for a, b in zip(committed.cells, fresh.cells, strict=True) if a.cell_type == "code"]
    assert [a.execution_count for a, _ in code] == list(range(1, len(code) + 1)), "run it from its beginning"
    for old, new in code:
        assert kinds(old) == kinds(new), old.source
        if "figures" in old.metadata.get("tags", ()):
            assert figures(new) == pytest.approx(figures(old), rel=NOISE, abs=0.05), old.source
    assert sum(kinds(old).count(PICTURE) for old, _ in code) >= 3
