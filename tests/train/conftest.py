"""A small table with known dependence between its columns, its store, and a quick recipe."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.config import load_config
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema
from nemo_tabular.store import prepare


def make_table(rows: int = 1200, seed: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    color = random.choice(["blue", "green", "red"], rows, p=[0.5, 0.3, 0.2])
    size = np.where(color == "red", random.integers(8, 10, rows), random.integers(0, 5, rows))
    price = np.round(np.exp(random.normal(3 + 0.2 * size, 0.5)), 2)
    note = np.where(random.random(rows) < 0.3, None, color)
    return pd.DataFrame({"price": price, "color": color, "size": size, "note": note})


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return make_table()


@pytest.fixture(scope="session")
def store(table, tmp_path_factory):
    reader = open_table(table)
    return prepare(
        reader, tmp_path_factory.mktemp("store") / "s", schema=infer_schema(reader), splits=(0.8, 0.2)
    )


@pytest.fixture
def recipe():
    """A function from overrides to a configuration that trains in a second."""

    def make(*overrides: str):
        quick = [
            "data.global_batch_size=64",
            "model.num_layers=1",
            "model.hidden_size=32",
            "trainer.num_threads=1",
            "trainer.final_fit=false",
        ]
        steps = ["trainer.max_steps=40", "trainer.val_check_interval=10", "trainer.log_every_n_steps=5"]
        return load_config(overrides=[*quick, *steps, *overrides])

    return make
