"""Whole runs: they learn, stop, resume bit for bit, and refuse what does not belong to them."""

import csv
import hashlib
import os
import shutil
import signal
import threading

import numpy as np
import pytest
import torch

from nemo_tabular.config import RunConfig
from nemo_tabular.errors import CheckpointError, ConfigError, StoreError
from nemo_tabular.models.saved import SavedModel
from nemo_tabular.models.score import row_nll
from nemo_tabular.store import TokenStore
from nemo_tabular.train.logs import RunLog
from nemo_tabular.train.run import train


def digest(tensors) -> str:
    joined = b"".join(t.contiguous().numpy().tobytes() for _, t in sorted(tensors.items()))
    return hashlib.sha256(joined).hexdigest()


def test_training_beats_independent_marginals(store, recipe):
    result = train(recipe("trainer.max_steps=200"), store)
    counts = [store.marginal_counts[s].astype(float) for s in result.model.plan.slots]
    independent = sum(-(c[c > 0] / c.sum() * np.log(c[c > 0] / c.sum())).sum() for c in counts)
    validation = torch.from_numpy(
        store.tokenizer.codes(np.asarray(store.rows("validation")))[:, result.model.plan.slots].T.astype(
            np.int64
        )
    ).contiguous()
    modelled = float(row_nll(result.model.weights(), validation).sum(0).mean())
    assert modelled < independent - 0.8  # the colour alone tells half of the size
    assert result.finished
    assert result.steps <= 200


def test_a_run_folder_holds_what_is_needed_and_is_not_trained_twice(store, recipe, tmp_path):
    config = recipe(f"run.dir={tmp_path / 'run'}")
    first = train(config, store)
    assert {p.name for p in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "metrics.csv",
        "checkpoints",
        "model",
    }
    with open(tmp_path / "run" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    assert {"train_nll", "val_nll", "val_nll/price", "rows_per_s"} <= {r["metric"] for r in rows}
    again = train(config, store)
    assert digest(again.model.tensors) == digest(first.model.tensors)


def test_metrics_go_on_where_training_does(tmp_path):
    """A process was killed after step 30 of the second phase, in the middle of a line; step 20 was saved."""
    log = RunLog(RunConfig(), tmp_path)
    for phase, steps in {"fit": [100], "final": [20, 30]}.items():
        log.begin(phase, 0, 100, 8)
        for step in steps:
            log.write(step, {"train_nll": 1.5})
    path = tmp_path / "metrics.csv"
    until_20 = path.read_text().splitlines(keepends=True)[:-1]
    with open(path, "a") as file:
        file.write("final,4")
    RunLog(RunConfig(), tmp_path).begin("final", 20, 100, 8)
    assert path.read_text().splitlines(keepends=True) == until_20
    assert until_20[0] == "phase,step,metric,value\n" and len(until_20) == 3


def test_stopping_and_resuming_ends_in_the_same_bits(store, recipe, tmp_path, monkeypatch):
    whole = train(recipe(f"run.dir={tmp_path / 'whole'}"), store)
    config = recipe(f"run.dir={tmp_path / 'parts'}")
    from nemo_tabular.train import loop

    stops = iter([23, 24, 31])
    stop_at = [next(stops)]
    real = loop.Loop._one_step

    def step_and_maybe_stop(self):
        out = real(self)
        if self.state.step == stop_at[0]:
            stop_at[0] = next(stops, 10**9)
            os.kill(os.getpid(), signal.SIGTERM)
        return out

    monkeypatch.setattr(loop.Loop, "_one_step", step_and_maybe_stop)
    finished = [train(config, store).finished for _ in range(4)]
    assert finished == [False, False, False, True]
    with open(tmp_path / "parts" / "metrics.csv") as file:
        told = [(r["phase"], r["step"]) for r in csv.DictReader(file) if r["metric"] == "train_nll"]
    assert len(set(told)) == len(told)
    resumed = SavedModel.load(tmp_path / "parts" / "model")
    assert digest(resumed.tensors) == digest(whole.model.tensors)
    assert resumed.info["validations"] == [list(v) for v in whole.model.info["validations"]]


def test_a_checkpoint_of_another_model_is_refused(store, recipe, tmp_path):
    """The recipe of the folder was changed by hand: the settings agree, the weights do not."""
    folder = tmp_path / "run"
    train(recipe(f"run.dir={folder}"), store)
    shutil.rmtree(folder / "model")
    (folder / "config.yaml").unlink()
    with pytest.raises(CheckpointError, match="not a checkpoint of this model"):
        train(recipe(f"run.dir={folder}", "model.hidden_size=64"), store)


def test_other_settings_in_the_same_folder_are_listed(store, recipe, tmp_path):
    train(recipe(f"run.dir={tmp_path}"), store)
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.009899 there, 0\.001 now"):
        train(recipe(f"run.dir={tmp_path}", "optim.lr=0.001"), store)


def test_another_store_in_the_same_folder_is_refused(store, recipe, tmp_path, table):
    from nemo_tabular.store import prepare

    train(recipe(f"run.dir={tmp_path / 'run'}"), store)
    other = prepare(table.assign(size=table["size"] + 1), tmp_path / "other")
    with pytest.raises(StoreError, match="another tokenizer"):
        train(recipe(f"run.dir={tmp_path / 'run'}"), other)


def test_early_stopping_keeps_the_best_weights(store, recipe):
    overrides = (
        "trainer.max_steps=4000",
        "trainer.val_check_interval=20",
        "optim.lr=0.03",
        "trainer.patience=2",
    )
    result = train(recipe(*overrides), store)
    validations = result.model.info["validations"]
    assert result.steps < 4000
    lowest = min(nll for _, nll in validations)
    assert lowest <= result.best_nll < lowest + 0.1
    assert all(nll > result.best_nll for _, nll in validations[-2:])


def test_of_validations_that_differ_by_chance_the_last_is_best(store, recipe, monkeypatch):
    from nemo_tabular.train.validate import FOLDS, Judged, Validation

    alternating = np.resize([1.0, -1.0], FOLDS)
    told = iter([3.0, 2.0 + 0.1 * alternating, 2.01 - 0.1 * alternating, 2.5, np.nan])

    def judged(*_):
        folds = np.broadcast_to(next(told), FOLDS)
        return Judged(float(folds.sum()), {}, folds.tolist())

    monkeypatch.setattr(Validation, "__call__", judged)
    result = train(recipe("trainer.max_steps=5", "trainer.val_check_interval=1"), store)
    assert result.model.info["best_step"] == 3
    assert result.best_nll == pytest.approx(2.01 * FOLDS)


def test_final_fit_passes_over_all_rows_as_often_as_was_found_best(store, recipe, tmp_path):
    result = train(recipe("trainer.final_fit=true", f"run.dir={tmp_path}"), store)
    rows = {name: split.documents for name, split in store.manifest.splits.items()}
    assert result.steps == round(result.model.info["best_step"] * sum(rows.values()) / rows["train"])
    assert result.steps > result.model.info["best_step"]
    assert result.finished


def test_time_limit_stops_in_good_order(store, recipe, tmp_path):
    result = train(recipe("trainer.max_time=00:00:00:00", f"run.dir={tmp_path}"), store)
    assert (result.finished, result.steps, result.model) == (False, 1, None)
    assert not (tmp_path / "model").exists()


def test_training_works_outside_the_main_thread(store, recipe):
    out = []
    thread = threading.Thread(target=lambda: out.append(train(recipe("trainer.max_steps=3"), store)))
    thread.start()
    thread.join()
    assert out[0].finished


def test_a_diverging_run_says_so(store, recipe, monkeypatch):
    from nemo_tabular.engine import step

    monkeypatch.setattr(step, "squared_norm", lambda *_: torch.tensor(torch.nan, dtype=torch.float64))
    with pytest.raises(ConfigError, match=r"not finite 5 times running.*optim\.lr"):
        train(recipe(), store)


def test_bf16_trains(store, recipe):
    result = train(recipe("trainer.precision=bf16-mixed", "trainer.max_steps=100"), store)
    first, last = result.model.info["validations"][0][1], result.model.info["validations"][-1][1]
    assert last < first


def test_column_order_follows_entropy_schema_names_and_conditions(store, recipe):
    steps = "trainer.max_steps=1"
    assert train(recipe(steps, "model.order=schema"), store).model.plan.columns == (
        "price",
        "color",
        "size",
        "note",
    )
    assert train(recipe(steps), store).model.plan.columns[-1] == "price"
    given = train(recipe(steps, "model.condition_on=[size]"), store).model.plan.columns
    assert given[0] == "size"
    with pytest.raises(ConfigError, match=r"no column 'colour' \(did you mean 'color'\?\)"):
        train(recipe("model.condition_on=[colour]"), store)
    with pytest.raises(ConfigError, match=r"leaves out \['size', 'note'\]"):
        train(recipe("model.order=[price,color]"), store)


def test_a_store_without_a_path_is_asked_for(recipe):
    with pytest.raises(ConfigError, match=r"data\.store is not set"):
        train(recipe())
    with pytest.raises(StoreError):
        train(recipe("data.store=/nowhere/at/all"))


def test_histories_train(recipe, tmp_path):
    import pandas as pd

    random = np.random.default_rng(0)
    rows = [
        {"who": f"c{c}", "t": t, "state": "ab"[(c + t) % 2], "value": int(random.integers(0, 5))}
        for c in range(120)
        for t in range(int(random.integers(1, 9)))
    ]
    from nemo_tabular.readers import open_table
    from nemo_tabular.schema import infer_schema
    from nemo_tabular.store import prepare

    reader = open_table(pd.DataFrame(rows))
    schema = infer_schema(reader, group_by=("who",), order_by=("t",))
    store = prepare(reader, tmp_path / "s", schema=schema, splits=(0.8, 0.2))
    assert isinstance(store, TokenStore)
    overrides = (
        "data.max_rows=4",
        "data.context_rows=1",
        "trainer.max_steps=120",
        "data.global_batch_size=16",
    )
    result = train(recipe(*overrides), store)
    losses = [nll for _, nll in result.model.info["validations"]]
    assert losses[-1] < losses[0]
    with pytest.raises(ConfigError, match="final_fit is for tables of single rows"):
        train(recipe("trainer.final_fit=true"), store)
