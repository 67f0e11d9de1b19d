"""A real SLURM for the tests marked `slurm`, once a test process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mini_slurm import MiniSlurm, missing


@pytest.fixture(scope="session")
def cluster() -> Iterator[MiniSlurm]:
    why = missing()
    if why:
        pytest.skip(why)
    with tempfile.TemporaryDirectory(
        prefix="mini-slurm-"
    ) as folder:  # short: a socket's path has 107 characters
        cluster = MiniSlurm(Path(folder) / "c")
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
