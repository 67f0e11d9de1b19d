"""Under any layout training goes on from a saved model as on one process, whatever layout made it."""

import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS

from nemo_tabular.models.saved import SavedModel
from nemo_tabular.store import prepare

CGM = "model.kind=cgm"


def table(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    color = random.choice(["blue", "green", "red"], rows)
    return pd.DataFrame({"color": color, "size": random.integers(0, 40, rows), "note": color})


@pytest.fixture(scope="module")
def started(ranks, tmp_path_factory):
    """A model trained with tensor parallelism, and the store of a table that goes on from it."""
    folder = tmp_path_factory.mktemp("started")
    old = prepare(table(400, 0), folder / "old", splits=(0.8, 0.2))
    count, shape = LAYOUTS["tp2"]
    run = {"store": str(old.path), "folder": str(folder / "run"), "settings": [CGM, *shape]}
    ranks(count, "run_scenario.trained", **run)
    frame = table(400, 1).drop(columns="note").assign(extra=lambda d: d["size"] % 3)
    frame.loc[:50, "color"] = "amber"
    new = prepare(frame, folder / "new", splits=(0.8, 0.2), extend=old.tokenizer)
    return [CGM, f"model.restore_from_path={folder / 'run'}"], new.path


@pytest.fixture(scope="module")
def alone(ranks, started, tmp_path_factory):
    settings, store = started
    folder = tmp_path_factory.mktemp("alone") / "run"
    found = ranks(1, "run_scenario.trained", store=str(store), folder=str(folder), settings=settings)
    return found[0], SavedModel.load(folder / "model")


@pytest.mark.parametrize("layout", ["tp2pp2", "pp2dp2-interleaved-sharded-overlap"])
def test_a_layout_goes_on_as_one_process(ranks, started, alone, tmp_path, layout):
    (settings, store), (wanted, model) = started, alone
    count, shape = LAYOUTS[layout]
    run = {"store": str(store), "folder": str(tmp_path / "run"), "settings": [*settings, *shape]}
    every = ranks(count, "run_scenario.trained", **run)
    assert every[0] == pytest.approx(wanted, rel=1e-5)
    saved = SavedModel.load(tmp_path / "run" / "model")
    assert saved.info["restored_from"]["new_columns"] == ["extra"]
    for name, tensor in model.tensors.items():
        assert np.allclose(saved.tensors[name], tensor, rtol=1e-3, atol=2e-4), name
