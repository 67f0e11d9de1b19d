"""Notebooks come in; each is executed in an empty folder, from its first cell to its last, and written back
with what it showed. Run it where a tutorial, or what it shows, has changed:

    python scripts/execute_tutorials.py [NOTEBOOK ...]
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parents[1] / "tutorials"
SECONDS_A_CELL = 900


def executed(path: Path, folder: Path) -> Any:
    """The notebook with the outputs of a run in `folder`; raises CellExecutionError where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    # its commands are those of this environment, whether or not that is activated
    commands = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    client = NotebookClient(
        notebook, timeout=SECONDS_A_CELL, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=os.environ | {"PATH": commands, "OMP_NUM_THREADS": "1"})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran: new in every run
        if cell.cell_type == "code":
            cell.outputs = _whole_streams(cell.outputs)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def _whole_streams(outputs: list[Any]) -> list[Any]:
    """Texts of one stream that came in pieces, in one."""
    out: list[Any] = []
    for output in outputs:
        if out and output.output_type == "stream" and out[-1].get("name") == output.name:
            out[-1].text += output.text
        else:
            out.append(output)
    return out


def main() -> None:
    for path in [Path(name) for name in sys.argv[1:]] or sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path)


if __name__ == "__main__":
    main()
