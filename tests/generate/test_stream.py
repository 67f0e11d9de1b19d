"""A tokenizer fitted to a mixed table and a random model come in; the tables that leave the stream are
judged. Shape, types, given values exactly as given, and the same rows whatever is asked for at a time."""

import numpy as np
import pyarrow as pa
import pytest
from decoder_models import random_weights

from nemo_tabular.errors import GenerationError
from nemo_tabular.generate import stream
from nemo_tabular.generate.request import GenerationRequest, Sampling
from nemo_tabular.generate.stream import RowStream
from nemo_tabular.generate.trie import RowDecoder
from nemo_tabular.models.order import RowPlan
from nemo_tabular.profile import profile
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema
from nemo_tabular.tokenizer import TableTokenizer


def mixed_table() -> pa.Table:
    made = np.random.default_rng(0)
    return pa.table(
        {
            "animal": pa.array(made.choice(["cat", "dog", "emu"], 500)),
            "weight": pa.array(made.lognormal(size=500)),
            "chip": pa.array(made.integers(0, 10**9, 500)),
            "tame": pa.array([None if x < 0.1 else bool(x < 0.6) for x in made.random(500)]),
        }
    )


@pytest.fixture(scope="module")
def made() -> RowStream:
    reader = open_table(mixed_table())
    schema = infer_schema(reader)
    tokenizer = TableTokenizer.fit(schema, profile(reader.batches(schema)))
    plan = RowPlan.of(tokenizer, ("chip", "animal", "tame", "weight"))
    weights = random_weights(list(plan.sizes), hidden=16, heads=2)
    return RowStream(RowDecoder(weights), plan, tokenizer)


def rows(made: RowStream, *args, **settings) -> pa.Table:
    return pa.concat_tables(made.tables(GenerationRequest(*args, **settings))).combine_chunks()


def test_columns_and_types_are_the_tables_own(made):
    table = rows(made, 300, seed=1)
    assert table.schema.names == ["animal", "weight", "chip", "tame"]
    assert table.schema.types == mixed_table().schema.types
    assert table.num_rows == 300
    assert len(set(table["weight"].to_pylist())) > 250, "the fine remainders are drawn"


def test_same_rows_whatever_is_asked_for_at_a_time(made, monkeypatch):
    whole = rows(made, 300, seed=1)
    monkeypatch.setattr(stream, "PIECE", 64)
    assert rows(made, 300, seed=1).equals(whole)
    assert rows(made, 50, seed=1, first_row=120).equals(whole.slice(120, 50).combine_chunks())
    assert not rows(made, 300, seed=2).equals(whole)


def test_given_values_come_back_exactly_and_change_with_the_line(made):
    chips = [123456789, 500_000, 999_000_000]
    table = rows(made, 10, seed=1, given={"chip": chips, "animal": ["emu", "cat", "cat"]})
    assert table["chip"].to_pylist() == [chips[i % 3] for i in range(10)]
    assert table["animal"].to_pylist() == [["emu", "cat", "cat"][i % 3] for i in range(10)]
    later = rows(
        made, 4, seed=1, first_row=6, given={"chip": np.array(chips), "animal": ["emu", "cat", "cat"]}
    )
    assert later.equals(table.slice(6).combine_chunks())


def test_one_given_value_for_all_rows_as_value_or_as_text(made):
    as_value = rows(made, 5, seed=1, given={"chip": 777_777, "animal": "dog"})
    as_text = rows(made, 5, seed=1, given={"animal": pa.array(["dog"]), "chip": "777777"})
    assert as_value.equals(as_text)
    assert set(as_value["chip"].to_pylist()) == {777_777}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"anmial": "cat"}, r"no column 'anmial' \(did you mean 'animal'\?\)"),
        (
            {"animal": "cat"},
            r"'animal' cannot be given: .* order is chip, animal, tame, weight; .*"
            r"model.condition_on=\[animal\].*CGM",
        ),
        ({"chip": 500_000, "tame": True}, r"'tame' cannot be given.*condition_on=\[chip, tame\]"),
        ({"chip": 500_000, "animal": "unicorn"}, r"given: column 'animal': .*unicorn"),
        ({"chip": "many"}, r"given: column 'chip': 'many'"),
        ({"chip": 10**12}, r"given: column 'chip'"),
        ({"chip": [[1], [2]]}, r"given: unhashable"),
    ],
)
def test_impossible_conditions_are_refused(made, given, message):
    with pytest.raises(GenerationError, match=message):
        rows(made, 5, given=given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": -1}, "rows is -1, expected a whole number of at least 0"),
        ({"rows": 2.5}, "rows is 2.5"),
        ({"rows": 1, "seed": -4}, "seed is -4"),
        (
            {"rows": 1, "given": {"a": [1, 2], "b": [1]}},
            r"differ in their number of values: \{'a': 2, 'b': 1\}",
        ),
        ({"rows": 1, "given": {"a": []}}, "column 'a' has no value"),
    ],
)
def test_impossible_requests_are_refused(settings, message):
    with pytest.raises(GenerationError, match=message):
        GenerationRequest(**settings)


def test_bold_requests_reach_the_decoder(made):
    table = rows(made, 40, seed=1, sampling=Sampling(top_k=1))
    assert len(set(table["animal"].to_pylist())) == 1


def test_a_tokenizer_of_another_model_is_refused(made):
    other = RowDecoder(random_weights([2, 3]))
    with pytest.raises(GenerationError, match=r"do not belong together: slots of sizes \[2, 3\]"):
        RowStream(other, made.plan, made.tokenizer)
