"""The tutorials enter as they are in the repository; each is executed from its first cell to its last, in a
folder of its own. Nothing fails, and what they show is what is committed, up to noise in the figures."""

import re
import runpy
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")

ROOT = Path(__file__).parents[2]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.ipynb"))
PICTURE = "image/png"
NOISE = 0.15
"""Processors differ in the last bits of a sum, and models that were trained on them in more."""


def kinds(cell) -> list[str]:
    """What a cell shows, in order."""
    return [output.get("name") or (PICTURE if PICTURE in output.data else "data") for output in cell.outputs]


def figures(cell) -> list[float]:
    """The numbers that a cell shows."""
    texts = [o.get("text") or o.data.get("text/plain", "") for o in cell.outputs]
    return [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", " ".join(texts))]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_and_shows_what_is_committed(path, tmp_path):
    executed = runpy.run_path(str(ROOT / "scripts" / "execute_tutorials.py"))["executed"]
    committed, fresh = nbformat.read(path, as_version=4), executed(path, tmp_path)
    code = [(a, b) for a, b in zip(committed.cells, fresh.cells, strict=True) if a.cell_type == "code"]
    assert [a.execution_count for a, _ in code] == list(range(1, len(code) + 1)), "run it from its beginning"
    for old, new in code:
        assert kinds(old) == kinds(new), old.source
        if "figures" in old.metadata.get("tags", ()):
            assert figures(new) == pytest.approx(figures(old), rel=NOISE, abs=0.05), old.source
    assert sum(kinds(old).count(PICTURE) for old, _ in code) >= 3
