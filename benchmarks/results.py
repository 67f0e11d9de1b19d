"""A benchmark's figures enter; benchmarks/results/<name>.md, dated, with hardware and commit, leaves."""

import platform
import subprocess
from datetime import date
from pathlib import Path

FOLDER = Path(__file__).parent / "results"


def hardware() -> str:
    """The processor's name and the number of cores, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        cores = sum(line.startswith("processor") for line in lines)
    except (OSError, StopIteration):
        name, cores = platform.processor() or platform.machine(), 0
    return f"{name}, {cores} cores"


def commit() -> str:
    """The short name of the commit, with a plus sign if files were changed since."""
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def write_result(name: str, title: str, body: str) -> Path:
    """Write the result file and return its path. The previous result is replaced: git keeps the history."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.md"
    where = f"{date.today()}, commit {commit()}, {hardware()}, Python {platform.python_version()}"
    path.write_text(f"# {title}\n\n{where}.\n\n{body.rstrip()}\n")
    return path
