"""What a saved model hands on to another table's network: by names of columns and values, not by place."""

import numpy as np
import pandas as pd
import pytest
import torch

from nemo_tabular.config import load_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.stage import WHOLE
from nemo_tabular.engine.whole import take_over, whole_tensors
from nemo_tabular.errors import CheckpointError, ConfigError
from nemo_tabular.models.cgm import NEVER
from nemo_tabular.models.saved import SavedModel, model_tensors
from nemo_tabular.models.transfer import inherit
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, following, infer_schema
from nemo_tabular.store import prepare
from nemo_tabular.train.family import find_family
from nemo_tabular.train.schedule import resolve

SMALL = ["model.hidden_size=16", "model.num_layers=1", "trainer.num_threads=1", "data.global_batch_size=16"]


def table(rows=400, seed=0):
    random = np.random.default_rng(seed)
    color = random.choice(["blue", "green", "red"], rows)
    size = random.integers(100, 4000, rows)
    return pd.DataFrame({"color": color, "size": size, "note": random.choice(["n", "y"], rows)})


@pytest.fixture(scope="module")
def groups():
    return start(ParallelLayout(), seed=1)


@pytest.fixture(scope="module", params=["additive", "cross_attention"])
def saved(request, groups, tmp_path_factory):
    """A model with weights of its own, none of which is what a new one begins with."""
    store = prepare(open_table(table()), tmp_path_factory.mktemp("old") / "s")
    return untrained(store, groups, ["model.kind=cgm", f"model.query={request.param}"])


def untrained(store, groups, settings=()) -> SavedModel:
    config = resolve(load_config(overrides=[*SMALL, *settings]), 100, False)
    family = find_family(config.model.kind, "rows")(config, store)
    network = family.network(groups, WHOLE)
    tensors = {name: t + torch.randn(t.shape) for name, t in whole(network).items()}
    return SavedModel(config.model, family.plan, store.tokenizer, tensors, False, 1, {})


def whole(network):
    return whole_tensors([network], model_tensors(network))


def go_on(saved, frame, groups, folder, schema=None, settings=()):
    """The new store's family, its network as it begins, and as a fresh one would."""
    store = prepare(open_table(frame), folder / "new", schema=schema, extend=saved.tokenizer)
    config = load_config(overrides=[*SMALL, f"model.kind={saved.config.kind}", "model.restore_from_path=x"])
    config = resolve(inherit(config, saved), 100, False)
    family = find_family(config.model.kind, "rows")(config, store, saved)
    fresh, network = (family.network(groups, WHOLE) for _ in range(2))
    take_over([network], saved.tensors, family.transfer.rows)
    return family, whole(network), whole(fresh)


def rows_of(tokenizer, plan, column):
    """Row of the embedding of each meaning of a column's first slot, and the number of that slot."""
    slots = plan.slots.tolist()
    slot = slots.index(tokenizer.column_slots[column].start)
    first = sum(plan.sizes[:slot])
    named = next(iter(tokenizer.codecs[column].meanings().values()))
    return {meaning: first + code for code, meaning in enumerate(named)}, slot


def test_everything_that_both_know_is_taken_over_by_name_and_the_rest_begins_afresh(saved, groups, tmp_path):
    frame = table(300, seed=1).drop(columns="note").assign(extra="u")
    frame.loc[:40, "extra"], frame.loc[:30, "color"], frame.loc[:20, "size"] = "v", "amber", 9000
    frame.loc[50:60, "color"] = None
    family, new, fresh = go_on(saved, frame[["extra", "size", "color"]], groups, tmp_path)
    old, tokenizer = saved.tensors, family.store.tokenizer
    for column in ("color", "size"):
        before, slot = rows_of(saved.tokenizer, saved.plan, column)
        after, place = rows_of(tokenizer, family.plan, column)
        added = set(after) - set(before)
        assert len(after) > len(before) and set(before) < set(after)
        assert added >= {"amber", "missing"} or column != "color"
        for table_name in ("embedding", "bias"):
            for meaning, row in after.items():
                source, at = (fresh, row) if meaning in added else (old, before[meaning])
                assert torch.equal(new[table_name][row], source[table_name][at]), (column, meaning)
        for table_name in ("position", "column"):
            assert torch.equal(new[table_name][place], old[table_name][slot])
    extra, place = rows_of(tokenizer, family.plan, "extra")
    assert place == len(family.plan.slots) - 1, "new columns come last in the fixed order"
    for table_name, rows in {"embedding": list(extra.values()), "position": [place]}.items():
        assert torch.equal(new[table_name][rows], fresh[table_name][rows])
    counts = family.store.marginal_counts[0].astype(float)
    assert new["bias"][list(extra.values())].exp().numpy() == pytest.approx(
        (counts + 0.5) / (counts + 0.5).sum(), rel=1e-4
    )
    for name in set(new) - set(family.transfer.rows):
        assert torch.equal(new[name], old[name]), name
    told = family.transfer.to_json()
    assert told["new_columns"] == ["extra"] and told["columns_left_out"] == ["note"]
    text = str(family.transfer)
    assert text.startswith("2 of 3 columns and ") and "columns left out: note" in text
    assert [line.split() for line in text.splitlines() if line.split()[0] == "color"] == [
        ["color", "3", "2", "0"]
    ]


def test_two_slots_a_column_keep_their_digits(saved, groups, tmp_path):
    """`size` is two digits and more, of which only the leading one gets codes."""
    frame = table().assign(size=lambda d: d["size"] * 7)
    schema = infer_schema(open_table(frame), overrides={"size": {"options": {"base": 8}}})
    store = prepare(open_table(frame), tmp_path / "old", schema=schema)
    model = untrained(store, groups, ["model.kind=cgm"])
    wider = frame.assign(size=frame["size"] - 700)
    family, _, _ = go_on(model, wider, groups, tmp_path)
    assert (family.transfer.rows["position"] >= 0).all()
    by_name = {share.name: share for share in family.transfer.columns}
    sizes = store.tokenizer.slot_sizes[store.tokenizer.column_slots["size"]]
    modelled = sizes[~store.tokenizer.residual[store.tokenizer.column_slots["size"]]]
    assert len(modelled) > 1
    assert by_name["size"].known == modelled.sum() and by_name["size"].new > 0


def test_a_missing_cell_that_becomes_absent_is_not_what_it_was(saved, groups, tmp_path):
    frame = table(300).assign(color=lambda d: d.color.mask(d["size"] > 3000))
    schema = infer_schema(open_table(frame))
    absent = Schema.from_dict(
        schema.to_dict() | {"columns": [c.to_dict() | {"missing": "absent"} for c in schema.columns]}
    )
    model = untrained(prepare(open_table(frame), tmp_path / "value"), groups, ["model.kind=cgm"])
    family, new, _ = go_on(model, frame, groups, tmp_path, schema=absent)
    after, _ = rows_of(family.store.tokenizer, family.plan, "color")
    assert float(new["bias"][after["missing"]]) == NEVER
    back = SavedModel(model.config, family.plan, family.store.tokenizer, new, False, 1, {})
    store = prepare(open_table(frame), tmp_path / "again", schema=schema, extend=back.tokenizer)
    config = resolve(load_config(overrides=[*SMALL, "model.kind=cgm"]), 100, False)
    again = find_family("cgm", "rows")(config, store, back)
    named, _ = rows_of(store.tokenizer, again.plan, "color")
    assert again.transfer.rows["bias"][named["missing"]] == -1
    assert (np.delete(again.transfer.rows["bias"], named["missing"]) >= 0).all()


def test_every_contradiction_is_listed(saved, groups, tmp_path):
    frame = table(300)
    other = frame.assign(color=frame["size"], size=frame.color)
    with pytest.raises(
        ValueError, match=r"(?s)contradicts the model's schema.*'size'.*is not an integer.*rename"
    ):
        following(open_table(other), saved.tokenizer.schema)
    given = infer_schema(open_table(other))
    with pytest.raises(ValueError) as caught:
        following(open_table(other), saved.tokenizer.schema, given)
    for line in (
        r"column 'color': kind integer (the model's: category), type int64 (the model's: string)",
        r"column 'size': kind category (the model's: integer), type string (the model's: int64)",
    ):
        assert line in str(caught.value)
    store = prepare(open_table(frame.assign(size=frame["size"] * 2 + 1)), tmp_path / "alone")
    config = resolve(inherit(load_config(overrides=[*SMALL, "model.kind=cgm"]), saved), 100, False)
    message = r"(?s)'size': its numbers are cut into other cells.*--extend RUN"
    with pytest.raises(CheckpointError, match=message):
        find_family("cgm", "rows")(config, store, saved)


def test_a_gpt_goes_on_with_the_same_columns_in_its_order(groups, tmp_path):
    model = untrained(prepare(open_table(table()), tmp_path / "old"), groups, ["model.order=schema"])
    frame = table(200, seed=2).assign(note="n", color="red")  # whose entropies are in another order
    family, new, _ = go_on(model, frame, groups, tmp_path / "same")
    assert family.plan.columns == model.plan.columns
    assert torch.equal(new["position"], model.tensors["position"])
    for change, message in (
        (frame.drop(columns="note"), r"columns \['note'\]: fewer than the model's. A gpt reads"),
        (frame.assign(extra=1), r"columns \['extra'\]: more than the model's"),
    ):
        with pytest.raises(CheckpointError, match=message):
            go_on(model, change, groups, tmp_path / message[11:15])


def test_the_architecture_is_the_models_where_the_recipe_is_silent(saved):
    config = inherit(load_config(overrides=["model.restore_from_path=runs/a", "optim.lr=1e-4"]), saved)
    assert config.model.hidden_size == 16 and config.model.query == saved.config.query
    assert config.model.kind == "cgm" and config.optim.lr == 1e-4
    with pytest.raises(ConfigError) as caught:
        inherit(
            load_config(overrides=["model.kind=gpt", "model.hidden_size=32", "model.num_layers=1"]), saved
        )
    assert "model.kind: 'cgm' there, 'gpt' here" in str(caught.value)
    assert "model.hidden_size: 16 there, 32 here" in str(caught.value)
    assert "num_layers" not in str(caught.value)
