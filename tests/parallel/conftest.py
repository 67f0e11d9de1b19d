"""`ranks(n, "module.function", **arguments)`: what the function gives on each of n ranks."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SCENARIOS = ["parity_scenario", "launch_scenario", "run_scenario"]


@pytest.fixture(scope="session")
def ranks() -> Iterator[Callable[..., list[Any]]]:
    """One fork server a test process; see fork_server.py. Fails with every rank's traceback."""
    root = HERE.parents[1]
    server = subprocess.Popen(
        [sys.executable, str(HERE / "fork_server.py"), *SCENARIOS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
    )
    assert server.stdin is not None and server.stdout is not None

    def call(count: int, function: str, timeout: float = 120, **arguments: Any) -> list[Any]:
        request = {"ranks": count, "call": function, "arguments": arguments, "timeout": timeout}
        print(json.dumps(request), file=server.stdin, flush=True)
        answers = json.loads(server.stdout.readline())
        errors = [answer["error"] for answer in answers if "error" in answer]
        assert not errors, "\n".join(errors)
        return [answer["result"] for answer in answers]

    yield call
    server.stdin.close()
    server.wait(timeout=30)
