"""Whole runs under layouts end as on one process: validations, final fit, calibration, saved model."""

import numpy as np
import pandas as pd
import pytest
from layouts import LAYOUTS

from nemo_tabular.models.saved import SavedModel
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema
from nemo_tabular.store import prepare

FINAL_FIT = "trainer.final_fit=true"


@pytest.fixture(scope="module")
def stores(pipeline, tmp_path_factory):
    """Rows and histories."""
    random = np.random.default_rng(0)
    rows = [
        (f"c{c}", t, "ab"[(c + t) % 2], int(random.integers(0, 30)))
        for c in range(90)
        for t in range(int(random.integers(1, 9)))
    ]
    reader = open_table(pd.DataFrame(rows, columns=["who", "t", "state", "value"]))
    schema = infer_schema(reader, group_by=["who"], order_by=["t"])
    folder = tmp_path_factory.mktemp("histories") / "store"
    prepare(reader, folder, schema=schema, splits=(0.8, 0.2))
    return {"rows": pipeline.store, "histories": folder}


@pytest.fixture(scope="module")
def alone(ranks, stores, tmp_path_factory):
    """The same runs on one process, made when first asked for."""
    made = {}

    def run(kind, settings):
        key = (kind, *settings)
        if key not in made:
            folder = tmp_path_factory.mktemp("alone") / "run"
            arguments = {"store": str(stores[kind]), "folder": str(folder), "settings": settings}
            made[key] = ranks(1, "run_scenario.trained", **arguments)[0], SavedModel.load(folder / "model")
        return made[key]

    return run


@pytest.mark.parametrize(
    ("layout", "kind", "settings"),
    [
        ("tp2pp2", "rows", [FINAL_FIT]),
        ("pp2dp2-interleaved-sharded-overlap", "rows", [FINAL_FIT]),
        ("cp2dp2-sharded", "rows", [FINAL_FIT]),
        ("tp2dp2-sp-sharded-overlap", "histories", []),
        ("tp2pp2-sp-interleaved", "histories", []),
        ("pp2cp2", "histories", []),
    ],
)
def test_a_run_ends_as_on_one_process(ranks, alone, stores, tmp_path, layout, kind, settings):
    count, shape = LAYOUTS[layout]
    folder = tmp_path / "run"
    arguments = {"store": str(stores[kind]), "folder": str(folder), "settings": [*settings, *shape]}
    every = ranks(count, "run_scenario.trained", **arguments)
    wanted, model = alone(kind, settings)
    assert all(found == every[0] for found in every), "ranks disagree"
    assert every[0] == pytest.approx(wanted, rel=1e-5)
    saved = SavedModel.load(folder / "model")
    steps, nats = (list(column) for column in zip(*saved.info["validations"], strict=True))
    wanted_steps, wanted_nats = (list(column) for column in zip(*model.info["validations"], strict=True))
    assert steps == wanted_steps
    assert nats == pytest.approx(wanted_nats, rel=1e-5)
    assert {n: t.shape for n, t in saved.tensors.items()} == {n: t.shape for n, t in model.tensors.items()}
    for name, tensor in model.tensors.items():
        assert np.allclose(saved.tensors[name], tensor, rtol=1e-3, atol=2e-4), name


def test_a_batch_that_ranks_cannot_share_is_refused_before_the_folder_is_claimed(ranks, stores, tmp_path):
    arguments = {"store": str(stores["rows"]), "folder": str(tmp_path / "run")}
    with pytest.raises(AssertionError, match="no multiple of the 3 data-parallel ranks; set it to 15 or 18"):
        ranks(3, "run_scenario.trained", settings=[], **arguments)
    assert not (tmp_path / "run").exists()
