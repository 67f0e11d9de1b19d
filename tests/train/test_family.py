"""The families of models: found by kind and store, each trains, stops and resumes in the same bits."""

import hashlib
import os
import signal

import numpy as np
import pytest

from nemo_tabular.errors import ConfigError
from nemo_tabular.models.saved import SavedModel
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import prepare
from nemo_tabular.train import loop
from nemo_tabular.train.family import find_family
from nemo_tabular.train.run import train
from nemo_tabular.train.schedule import resolve


def digest(model: SavedModel) -> str:
    joined = b"".join(t.contiguous().numpy().tobytes() for _, t in sorted(model.tensors.items()))
    return hashlib.sha256(joined).hexdigest()


@pytest.mark.parametrize("order", ["random", "mixed"])
def test_a_stopped_cgm_resumes_with_the_orders_it_would_have_had(store, recipe, tmp_path, monkeypatch, order):
    cgm = ("model.kind=cgm", f"model.order={order}")
    whole = train(recipe(*cgm, f"run.dir={tmp_path / 'whole'}"), store)
    real, stop_at = loop.Loop._one_step, [17]

    def step_and_maybe_stop(self):
        out = real(self)
        if self.state.step == stop_at[0]:
            stop_at[0] = 0
            os.kill(os.getpid(), signal.SIGTERM)
        return out

    monkeypatch.setattr(loop.Loop, "_one_step", step_and_maybe_stop)
    config = recipe(*cgm, f"run.dir={tmp_path / 'parts'}")
    assert [train(config, store).finished for _ in range(2)] == [False, True]
    assert digest(SavedModel.load(tmp_path / "parts" / "model")) == digest(whole.model)


def test_the_cgm_in_a_fixed_order_is_as_good_as_the_gpt_and_learns_from_random_ones(store, recipe):
    steps = ("trainer.max_steps=150", "trainer.val_check_interval=50")
    gpt = train(recipe(*steps), store).best_nll
    for order in ("fixed", "random"):
        cgm = train(recipe(*steps, "model.kind=cgm", f"model.order={order}"), store).best_nll
        assert abs(cgm - gpt) < 0.3


def test_each_family_brings_its_own_defaults(store, recipe):
    quick = "trainer.max_steps=1"
    assert train(recipe(quick), store).model.config.order == "entropy"
    assert train(recipe(quick, "model.kind=cgm"), store).model.config.order in ("random", "mixed")


@pytest.mark.parametrize(("order", "one"), [("random", False), ("mixed", True), ("fixed", True)])
def test_marginals_are_fitted_in_the_order_that_samples_are_drawn_in(store, recipe, order, one):
    config = resolve(recipe("model.kind=cgm", f"model.order={order}"), 960, histories=False)
    orders = find_family("cgm", "rows")(config, store).calibration_batches().batch(np.arange(50)).order
    assert (len(orders.unique(dim=1).T) == 1) == one


def test_a_gpt_says_that_it_takes_absent_cells_for_values(recipe, tmp_path, table, caplog):
    reader = open_table(table)
    schema = infer_schema(reader).to_dict()
    for column in schema["columns"]:
        column["missing"] = "absent" if column["name"] == "note" else "value"
    store = prepare(reader, tmp_path / "store", schema=Schema.from_dict(schema), splits=(0.8, 0.2))
    for kind, count in (("cgm", 0), ("gpt", 1)):
        caplog.clear()
        with caplog.at_level("WARNING", logger="nemo_tabular"):
            train(recipe("trainer.max_steps=1", f"model.kind={kind}"), store)
        assert caplog.text.count("columns note have missing: absent") == count


def test_orders_of_the_other_family_are_refused(recipe):
    with pytest.raises(ConfigError, match=r"order 'random' is not for kind 'gpt', whose order is entropy"):
        recipe("model.order=random")
    with pytest.raises(ConfigError, match=r"order 'schema' is not for kind 'cgm', whose order is random"):
        recipe("model.kind=cgm", "model.order=schema")


def test_a_family_that_a_store_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"'cgm' is for tables of single rows.*without group_by"):
        find_family("cgm", "documents")
