"""A small table as CSV, its store and a run trained on it: what the tests of the whole pipeline share."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from small_table import small_table

from nemo_tabular.cli import main

# A model that learns nothing in no time: these tests ask what comes out, not how good it is.
TINY = """\
model: {num_layers: 1, hidden_size: 16, num_attention_heads: 2, condition_on: [city]}
data: {global_batch_size: 32}
trainer: {max_steps: 6, final_fit: false, num_threads: 1}
"""


def pytest_configure(config: pytest.Config) -> None:
    """All tests but `pytest -m gpu` see no CUDA card where there is one: they build on the CPU what a run
    builds on its card.
    """
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@dataclass(frozen=True)
class Pipeline:
    """Where each stage left its result."""

    table: Path
    schema: Path
    store: Path
    recipe: Path
    run: Path


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """schema, prepare and train through the command line, once a test process; nobody may change them."""
    folder = tmp_path_factory.mktemp("pipeline")
    made = Pipeline(
        folder / "table.csv", folder / "schema.yaml", folder / "store", folder / "tiny.yaml", folder / "run"
    )
    small_table(400, seed=1).to_csv(made.table, index=False)
    made.recipe.write_text(TINY)
    assert main(["schema", str(made.table), "-o", str(made.schema)]) == 0
    assert main(["prepare", str(made.table), "--schema", str(made.schema), "-o", str(made.store)]) == 0
    assert main(["train", str(made.recipe), f"data.store={made.store}", f"run.dir={made.run}"]) == 0
    return made


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a verb that must fail with exit code 2, leaving no traceback; gives what the user was told."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"nemo-tabular {arguments[0]}: ") and "Traceback" not in error
        return error

    return run
