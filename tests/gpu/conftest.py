"""Which device the tests of this folder run on: the CUDA card; a rehearsal of them on the CPU with
NEMO_TABULAR_GPU_TESTS=cpu, for whoever changes them where there is no card.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

REHEARSAL = os.environ.get("NEMO_TABULAR_GPU_TESTS") == "cpu"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _card() -> None:
    if not torch.cuda.is_available() and not REHEARSAL:
        pytest.skip("needs a CUDA card, and to be asked for: pytest -m gpu")


@pytest.fixture
def card() -> torch.device:
    return torch.device("cpu" if REHEARSAL else "cuda")


@pytest.fixture
def real_card(card: torch.device) -> torch.device:
    """For what a rehearsal cannot show."""
    if card.type != "cuda":
        pytest.skip("a rehearsal on the CPU cannot show this")
    return card


@pytest.fixture
def without_card() -> Callable[..., str]:
    """Run Python code in a process that sees no card; gives what it printed."""

    def run(*arguments: object) -> str:
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run
