"""A small store, a quick recipe, the server that starts jobs, and runs that nobody interrupted."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import TINY, JobServer
from small_table import small_table

from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema
from nemo_tabular.store import TokenStore, prepare


@pytest.fixture(scope="session")
def token_store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    reader = open_table(small_table(400, seed=1))
    folder = tmp_path_factory.mktemp("store") / "s"
    return prepare(reader, folder, schema=infer_schema(reader), splits=(0.9, 0.1))


@pytest.fixture(scope="session")
def jobs(token_store: TokenStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[JobServer]:
    folder = tmp_path_factory.mktemp("jobs")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY)
    with JobServer(folder, Path(token_store.path), recipe) as server:
        yield server


@pytest.fixture(scope="session")
def finished(jobs: JobServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The folder of an uninterrupted run with these settings, made once; nobody may change it."""
    made: dict[Any, Path] = {}

    def make(*overrides: str, ranks: int | None = None) -> Path:
        key = (*overrides, ranks)
        if key not in made:
            folder = tmp_path_factory.mktemp("finished") / "run"
            jobs.run(folder, *overrides, ranks=ranks)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a finished run that is not finished: without its model."""

    def make(run: Path) -> Path:
        copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(run, copy, symlinks=True)
        shutil.rmtree(copy / "model")
        return copy

    return make
