"""From a saved model on: the facade and the command line, with columns and values more and fewer."""

import logging

import numpy as np
import pandas as pd
import pytest

from nemo_tabular import Synthesizer
from nemo_tabular.cli import main
from nemo_tabular.errors import CheckpointError, ConfigError, SchemaError, StoreError

QUICK = {"model__hidden_size": 16, "trainer__num_threads": 1, "data__global_batch_size": 64}


def table(rows=3000, seed=0):
    """Colour decides size, size decides price, and note repeats the colour."""
    random = np.random.default_rng(seed)
    color = random.choice(["blue", "green", "red"], rows, p=[0.5, 0.3, 0.2])
    size = np.where(color == "red", random.integers(20, 30, rows), random.integers(0, 20, rows))
    price = size * 7 % 30
    return pd.DataFrame({"color": color, "size": size, "price": price, "note": color})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run on the whole table."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    longer = {"trainer__max_steps": 500, "trainer__final_fit": False, "run__dir": str(folder)}
    Synthesizer("cgm", **QUICK | longer).fit(table())
    return folder


@pytest.fixture(scope="module")
def small():
    """80 rows without `note`, with a new column that follows the colour, and a colour never seen."""
    frame = table(80, seed=1).drop(columns="note")
    frame["shade"] = np.where(frame.color == "red", "dark", "light")
    frame.loc[:5, "color"] = "amber"
    return frame


def test_fine_tuning_knows_what_pre_training_has_learnt(run, small, caplog):
    steps = {"trainer__max_steps": 60, "trainer__num_threads": 1}
    with caplog.at_level(logging.INFO, logger="nemo_tabular"):
        tuned = Synthesizer.load(run, **steps).fit(small)
    assert tuned.model.config.hidden_size == 16 and tuned.model.config.kind == "cgm"
    assert tuned.schema.names == ("color", "size", "price", "shade")
    alone = Synthesizer("cgm", **QUICK | steps).fit(small)
    held_out = table(1000, seed=2).drop(columns="note")
    held_out["shade"] = np.where(held_out.color == "red", "dark", "light")
    nats = [-model.log_prob(held_out, unseen="nearest").mean() for model in (tuned, alone)]
    assert nats[0] < nats[1] - 0.2, nats
    assert (
        tuned.predict_proba(held_out, "shade").mul(pd.get_dummies(held_out["shade"])).sum(axis=1).mean() > 0.8
    )
    assert set(tuned.sample(500, seed=1).color) == {"amber", "blue", "green", "red"}
    told = "\n".join(record.getMessage() for record in caplog.records)
    assert f"from {run}: 3 of 4 columns and" in told
    assert "new columns: shade" in told and "columns left out: note" in told
    assert tuned.model.info["restored_from"]["new_columns"] == ["shade"]


def test_fitting_again_starts_from_the_same_model_again(run, small, tmp_path):
    def fitted(model):
        return model.fit(small).model.tensors["embedding"]

    model = Synthesizer.load(run, trainer__max_steps=3, trainer__num_threads=1)
    first = fitted(model)
    assert (fitted(model) == first).all()
    model.save(tmp_path / "tuned")
    again = Synthesizer.load(tmp_path / "tuned", trainer__max_steps=3, trainer__num_threads=1)
    assert not (fitted(again) == first).all()


def test_a_run_that_was_stopped_goes_on_from_its_own_checkpoint(run, small, tmp_path):
    def fit(name, **settings):
        quick = {"trainer__max_steps": 8, "trainer__num_threads": 1, "trainer__val_check_interval": 2}
        folder = str(tmp_path / name)
        return Synthesizer.load(run, run__dir=folder, **quick, **settings).fit(small).model.tensors

    whole = fit("whole")
    with pytest.raises(CheckpointError, match="stopped at step 1"):
        fit("parts", trainer__max_time="00:00:00:00")
    parts = fit("parts")
    assert all((parts[name] == tensor).all() for name, tensor in whole.items())


def test_on_the_command_line(run, small, tmp_path, capsys):
    small.to_csv(tmp_path / "small.csv", index=False)
    store, tuned = tmp_path / "store", tmp_path / "tuned"
    assert main(["prepare", str(tmp_path / "small.csv"), "--extend", str(run), "-o", str(store)]) == 0
    settings = [f"data.store={store}", f"model.restore_from_path={run}", f"run.dir={tuned}"]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("trainer: {max_steps: 3, num_threads: 1}\n")
    assert main(["train", str(recipe), *settings]) == 0
    assert main(["train", str(recipe), *settings]) == 0, "a finished run is found"
    assert Synthesizer.load(tuned).schema.names == ("color", "size", "price", "shade")
    assert main(["train", str(recipe), *settings, "model.hidden_size=32"]) == 2
    assert "model.hidden_size: 16 there, 32 here" in capsys.readouterr().err


def test_a_table_that_contradicts_the_model_is_refused_with_every_difference(run, small, tmp_path):
    wrong = small.assign(size=small.color, price="dear")
    with pytest.raises(SchemaError) as caught:
        Synthesizer.load(run).fit(wrong)
    for column in ("'size'", "'price'"):
        assert f"column {column}" in str(caught.value)
    assert "rename such a column" in str(caught.value)
    with pytest.raises(SchemaError, match="of the model to go on from"):
        Synthesizer.load(run).fit(small, group_by=["color"])
    gpt = Synthesizer("gpt", model__restore_from_path=str(run), trainer__max_steps=1)
    with pytest.raises(ConfigError, match=r"model\.kind: 'cgm' there, 'gpt' here"):
        gpt.fit(small)


def test_a_path_without_a_finished_model_is_named(small, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("nowhere", "empty"):
        nothing = Synthesizer("cgm", model__restore_from_path=str(tmp_path / name))
        with pytest.raises(StoreError, match=rf"{name} holds no tokenizer\.json: name the folder"):
            nothing.fit(small)
    (tmp_path / "half" / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="not finished"):
        Synthesizer.load(tmp_path / "half")


def test_histories_go_on_too(tmp_path):
    random = np.random.default_rng(0)
    rows = [
        {"who": f"c{c}", "t": t, "state": "ab"[(c + t) % 2], "value": int(random.integers(0, 5))}
        for c in range(80)
        for t in range(int(random.integers(1, 9)))
    ]
    frame = pd.DataFrame(rows)
    windows = {"data__max_rows": 4, "data__context_rows": 1, "data__global_batch_size": 16}
    quick = windows | {"trainer__max_steps": 40, "trainer__num_threads": 1, "run__dir": str(tmp_path / "run")}
    Synthesizer("gpt", model__hidden_size=16, **quick).fit(frame, group_by=["who"], order_by=["t"])
    more = frame[:200].assign(state=lambda d: d.state.where(d.t != 2, "c"))
    tuned = Synthesizer.load(tmp_path / "run", **windows, trainer__max_steps=1, trainer__num_threads=1).fit(
        more
    )
    before, codes = tuned.model.info["restored_from"]["codes"]
    assert codes - before == 1, "only the new state is new: the end of a document is known"
    with pytest.raises(CheckpointError, match=r"columns \['value'\]: fewer than the model's. A gpt"):
        Synthesizer.load(tmp_path / "run").fit(frame.drop(columns="value"))
