"""Several tables read as one: names and values mapped, columns that a table lacks absent, rows counted."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nemo_tabular.batches import Blend, evenly
from nemo_tabular.cli import main
from nemo_tabular.config import load_config
from nemo_tabular.errors import ConfigError, SchemaError, TabularError
from nemo_tabular.readers import open_table
from nemo_tabular.readers.union import Member, UnionTable
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import TokenStore, prepare
from nemo_tabular.train.family import find_family
from nemo_tabular.train.schedule import resolve

LISTING = """\
tables:
  - table: people.csv
  - table: staff.parquet
    name: staff
    rename: {gender: sex, years: age}
    values:
      sex: {"1": Female, "2": Male, "9": null}
"""


@pytest.fixture
def listing(tmp_path):
    people = pd.DataFrame(
        {"sex": ["Male", "Female", None] * 40, "age": range(20, 140), "town": ["Bath"] * 120}
    )
    people.to_csv(tmp_path / "people.csv", index=False)
    staff = pd.DataFrame({"gender": [1, 2, 9, 2] * 20, "years": [30, 41] * 40, "wage": [9.5, 12.25] * 40})
    staff.to_parquet(tmp_path / "staff.parquet")
    path = tmp_path / "both.yaml"
    path.write_text(LISTING)
    return path


def whole(reader, schema, **how):
    return pa.Table.from_batches(list(reader.batches(schema, **how)))


@pytest.mark.parametrize("dictionary", [False, True])
def test_names_and_values_are_mapped_and_what_a_table_lacks_is_absent(listing, dictionary):
    reader = open_table(listing)
    schema = infer_schema(reader)
    assert schema.names == ("sex", "age", "town", "wage")
    assert {c.name: (c.kind, c.missing) for c in schema.columns} == {
        "sex": ("category", "value"),
        "age": ("integer", "value"),
        "town": ("category", "absent"),
        "wage": ("decimal", "absent"),
    }
    table = whole(reader, schema, dictionary=dictionary).to_pandas()
    assert reader.rows == {"people": 120, "staff": 80}
    texts = table.sex.astype(object).where(table.sex.notna(), None)
    assert list(texts[:3]) == ["Male", "Female", None]
    assert list(texts[120:124]) == ["Female", "Male", None, "Male"]
    assert list(table.age[[0, 120, 121]]) == [20, 30, 41]
    assert table.town[:120].eq("Bath").all() and table.town[120:].isna().all()
    assert table.wage[:120].isna().all() and list(table.wage[120:122]) == [9.5, 12.25]


def test_the_store_knows_how_many_rows_of_each_table_are_in_each_split(listing, tmp_path, capsys):
    out = tmp_path / "store"
    assert main(["prepare", str(listing), "-o", str(out), "--splits", "0.7,0.3", "--seed", "3"]) == 0
    store = TokenStore.open(out)
    tables = store.manifest.tables
    assert {name: sum(splits.values()) for name, splits in tables.items()} == {"people": 120, "staff": 80}
    for split in ("train", "validation"):
        codes = store.tokenizer.codes(store.rows(split))
        wage = codes[:, store.tokenizer.column_slots["wage"].start]
        people = tables["people"][split]
        assert (wage[:people] == 0).all() and (wage[people:] > 0).all()
    alone = prepare(tmp_path / "people.csv", tmp_path / "alone")
    assert alone.manifest.tables == {} and TokenStore.open(alone.path).manifest == alone.manifest


def test_weights_say_how_often_a_row_of_each_table_is_trained_on(listing, tmp_path):
    store = prepare(listing, tmp_path / "store", splits=(0.7, 0.3))

    def batches(*settings, split="train"):
        config = load_config(overrides=["model.kind=cgm", "data.global_batch_size=16", *settings])
        return find_family("cgm", "rows")(resolve(config, 140, False), store).batches(split)

    tables, first = store.manifest.tables, {}
    for split in ("train", "all"):
        plain, weighted = (
            batches(*weights, split=split) for weights in ((), ("data.table_weights={people: 1, staff: 3}",))
        )
        taken = np.concatenate([weighted.take(step * 16, 16) for step in range(200)])
        people = tables["people"]["train"]
        staff = (taken >= people) & (taken < people + tables["staff"]["train"])
        if split == "all":
            staff |= taken >= len(plain.rows) - tables["staff"]["validation"]
        assert staff.mean() == pytest.approx(0.75, abs=0.01)
        counts = np.bincount(taken[staff])
        assert np.ptp(counts[counts > 0]) <= 2 and weighted.num_items == plain.num_items
        first[split] = taken
    with pytest.raises(
        ConfigError, match=r"no table 'stuff' \(did you mean 'staff'\?\); it holds people, staff"
    ):
        batches("data.table_weights={people: 1, stuff: 3}")
    with pytest.raises(ConfigError, match=r"leaves out \['staff'\]"):
        batches("data.table_weights={people: 1}")


def test_a_blend_takes_every_row_of_a_table_before_it_takes_one_again():
    blend = Blend([[(0, 30), (100, 10)], [(30, 70)]], [1, 1], seed=2)
    taken = np.concatenate([blend(epoch, np.arange(110)) for epoch in range(8)])
    small = taken[(taken < 30) | (taken >= 100)]
    assert len(small) == 440 and set(np.bincount(small, minlength=110)[[0, 29, 100, 109]]) == {11}
    for block in small.reshape(11, 40):
        assert len(set(block)) == 40
    shuffled = blend(0, np.random.default_rng(0).permutation(110))
    assert sorted(shuffled) == sorted(taken[:110])


@pytest.mark.parametrize(("total", "most"), [(5, 9), (100, 100), (1000, 999), (5000, 100), (12_345, 4096)])
def test_evenly_spread_items_are_distinct_and_reach_both_ends(total, most):
    items = evenly(total, most)
    assert len(items) == min(total, most) and (np.diff(items) > 0).all()
    assert items[0] == 0 and items[-1] == total - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("gender: sex", "gendre: sex"), r"'staff': rename: staff.parquet has no column 'gendre' \(did you"),
        (("years: age", "years: sex"), r"'staff' \(as renamed\) has two columns called 'sex'"),
        (("sex: {", "sexx: {"), r"values: staff.parquet has no column 'sexx' \(did you mean 'sex'"),
        (("name: staff", "nmae: staff"), r"unknown key 'nmae' of a table \(did you mean 'name'\?\)"),
        (("name: staff", "name: people"), r"two tables are called \['people'\]: say `name`"),
        (("people.csv", "peple.csv"), "peple.csv: no such file"),
        (("tables:", "table:"), "expected a list called tables"),
    ],
)
def test_a_listing_with_a_fault_says_which(listing, change, message):
    listing.write_text(LISTING.replace(*change))
    with pytest.raises(TabularError, match=message) as caught:
        open_table(listing)
    assert str(listing) in str(caught.value)


def test_values_that_are_not_mapped_and_columns_that_must_be_there_are_named(listing):
    reader = open_table(listing)
    schema = infer_schema(reader)
    strict = Schema.from_dict(
        schema.to_dict() | {"columns": [c.to_dict() | {"nullable": c.name != "wage"} for c in schema.columns]}
    )
    with pytest.raises(SchemaError, match=r"not all tables have \['wage'\]: set nullable: true"):
        list(reader.batches(strict))
    frame = pd.DataFrame({"n": ["one", "2"]})
    numbers = Schema.from_dict({"columns": [{"name": "n", "kind": "integer", "codec": "values"}]})
    for words, fails in (({"one": "1"}, False), ({"two": "2"}, True)):
        union = UnionTable([Member("frame", open_table(frame), values={"n": words})], "one table")
        if fails:
            with pytest.raises(SchemaError, match=r"'frame'.*'one' is not an integer.*say in `values`"):
                whole(union, numbers)
        else:
            assert whole(union, numbers)["n"].to_pylist() == [1, 2]
