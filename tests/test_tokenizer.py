"""Tables go through the tokenizer and back; what does not belong together is refused by name."""

import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_table import fitted, mixed_table, tokenizer_of

from nemo_tabular.errors import CodecError, SchemaError, StoreError
from nemo_tabular.tokenizer import BOS, EOD, NUM_SPECIAL, PAD, TableTokenizer


@pytest.fixture
def table() -> pa.Table:
    return fitted()[0]


@pytest.fixture
def tokenizer() -> TableTokenizer:
    return fitted()[1]


def exact_columns(tokenizer: TableTokenizer) -> list[str]:
    return [c.name for c in tokenizer.schema.columns if c.name != "score"]


# --- ids ---


def test_ids_are_disjoint_and_cover_the_vocabulary(tokenizer):
    owned = [token for slot in range(tokenizer.num_slots) for token in tokenizer.allowed(slot)]
    assert owned == list(range(NUM_SPECIAL, tokenizer.vocab_size))
    assert {PAD, BOS, EOD} == {0, 1, 2}


def test_every_id_of_the_table_is_allowed_at_its_slot(table, tokenizer):
    ids = tokenizer.encode(table)
    assert ids.shape == (table.num_rows, tokenizer.num_slots)
    for slot in range(tokenizer.num_slots):
        assert set(np.unique(ids[:, slot]).tolist()) <= set(tokenizer.allowed(slot))


def test_slots_of_a_column_are_those_of_its_codec(tokenizer):
    for name, slots in tokenizer.column_slots.items():
        sizes = [slot.size for slot in tokenizer.codecs[name].slots]
        assert tokenizer.slot_sizes[slots].tolist() == sizes
        assert tokenizer.residual[slots].tolist() == [slot.residual for slot in tokenizer.codecs[name].slots]
    assert tokenizer.residual.any() and not tokenizer.residual.all()


def test_a_tokenizer_of_one_table_is_the_fitted_one(table, tokenizer):
    assert TableTokenizer.of(table, tokenizer.schema).fingerprint() == tokenizer.fingerprint()
    assert TableTokenizer.of(table.slice(0, 50)).columns == tuple(table.column_names)
    names = tokenizer.slot_names
    assert len(names) == tokenizer.num_slots
    for name, slots in tokenizer.column_slots.items():
        assert names[slots] == tuple((name, k) for k in range(slots.stop - slots.start))


def test_a_key_of_documents_has_no_ids(table, tmp_path):
    tokenizer = tokenizer_of(table, group_by=("customer",), order_by=("visit",))
    assert tokenizer.columns == tuple(name for name in table.column_names if name != "customer")
    assert set(tokenizer.codecs) == set(tokenizer.column_slots) == set(tokenizer.columns)
    back = tokenizer.decode(tokenizer.encode(table))
    exact = [name for name in tokenizer.columns if name != "score"]
    assert back.column_names == list(tokenizer.columns)
    assert back.select(exact).equals(table.select(exact))
    with pytest.raises(SchemaError, match="column 'customer' is missing"):
        tokenizer.encode(table.drop_columns(["customer"]))
    tokenizer.save(tmp_path / "t.json")
    assert TableTokenizer.load(tmp_path / "t.json").fingerprint() == tokenizer.fingerprint()


def test_ids_need_16_bits_until_there_are_more_than_65536(tokenizer):
    assert tokenizer.dtype == np.uint16
    words = [f"w{i % 20_000}" for i in range(41_000)]
    many = pa.table({name: words for name in "abcd"})
    wide = tokenizer_of(many)
    assert wide.vocab_size == 80_003 and wide.dtype == np.int32
    assert wide.decode(wide.encode(many)).equals(many)


# --- there and back ---


def test_round_trip(table, tokenizer):
    back = tokenizer.decode(tokenizer.encode(table))
    assert back.schema.names == table.schema.names
    for name in exact_columns(tokenizer):
        assert back[name].combine_chunks().equals(table[name].combine_chunks()), name
    error = np.abs(np.subtract(back["score"], table["score"]))
    assert error.max() <= tokenizer.codecs["score"].half_step(table["score"].combine_chunks()).max()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 400))
def test_any_codes_decode_and_come_back(seed, rows):
    _, tokenizer = fitted()
    r = np.random.default_rng(seed)
    codes = r.integers(0, tokenizer.slot_sizes, (rows, tokenizer.num_slots)).astype(np.int32)
    ids = codes + tokenizer.slot_offsets
    assert (tokenizer.codes(ids) == codes).all()
    once = tokenizer.decode(ids)
    assert once.num_rows == rows
    assert tokenizer.decode(tokenizer.encode(once)).equals(once)


def test_codes_are_ids_less_the_offsets(table, tokenizer):
    codes = tokenizer.encode_codes(table)
    assert codes.dtype == np.int32
    assert (codes + tokenizer.slot_offsets == tokenizer.encode(table)).all()
    assert tokenizer.decode_codes(codes).equals(tokenizer.decode(tokenizer.encode(table)))


def test_large_tables_are_coded_in_chunks_as_in_one(monkeypatch, table, tokenizer):
    whole = tokenizer.encode(table)
    monkeypatch.setattr("nemo_tabular.tokenizer.CHUNK_ROWS", 7)
    monkeypatch.setattr("nemo_tabular.tokenizer.TURN_ROWS", 5)
    assert (tokenizer.encode(table) == whole).all()
    assert tokenizer.decode(whole).combine_chunks().num_rows == table.num_rows


def test_no_rows(table, tokenizer):
    ids = tokenizer.encode(table.slice(0, 0))
    assert ids.shape == (0, tokenizer.num_slots)
    assert tokenizer.decode(ids).schema.types == [c.arrow for c in tokenizer.schema.columns]


def test_residuals_are_filled_within_their_cells(table, tokenizer):
    codes = tokenizer.encode_codes(table)
    filled = tokenizer.fill_residual(codes, np.random.default_rng(0).random((len(codes), len(table.schema))))
    assert (filled[:, ~tokenizer.residual] == codes[:, ~tokenizer.residual]).all()
    assert (filled != codes).any()
    assert (tokenizer.widths(filled) == tokenizer.widths(codes)).all()
    assert tokenizer.widths(codes).shape == (len(codes), len(table.schema))
    assert (tokenizer.codes(filled + tokenizer.slot_offsets) == filled).all()


# --- what a table may come as ---


def test_frames_batches_and_dictionaries_give_the_same_ids(table, tokenizer):
    ids = tokenizer.encode(table)
    frame = table.to_pandas(date_as_object=True)
    dictionary = table.set_column(5, "color", table["color"].dictionary_encode())
    shuffled = table.select(table.column_names[::-1])
    for other in (frame, dictionary, shuffled, table.combine_chunks().to_batches()[0]):
        assert (tokenizer.encode(other) == ids).all()


def test_polars_frame(table, tokenizer):
    polars = pytest.importorskip("polars", reason="polars is an extra")
    assert (tokenizer.encode(polars.from_arrow(table)) == tokenizer.encode(table)).all()


def test_every_difference_from_the_schema_is_listed(table, tokenizer):
    wrong = table.drop_columns(["age", "open"]).append_column("colour", table["color"])
    wrong = wrong.set_column(3, "score", pa.array(["x"] * table.num_rows))
    with pytest.raises(SchemaError) as error:
        tokenizer.encode(wrong)
    lines = str(error.value).split("\n")[1:]
    assert [line.strip() for line in lines] == [
        "column 'age' is missing",
        "column 'open' is missing",
        "column 'colour' is not in the schema (did you mean 'color'?)",
        "column 'score' is string, the schema says double",
    ]


def test_numbers_that_do_not_fit_the_type_are_refused_not_cut(table, tokenizer):
    halves = table.set_column(0, "customer", pa.array(np.arange(table.num_rows) + 0.5))
    with pytest.raises(SchemaError, match="column 'customer' is double that does not fit"):
        tokenizer.encode(halves)


def test_whole_floats_and_other_widths_are_taken(table, tokenizer):
    ids = tokenizer.encode(table)
    small = table.set_column(0, "customer", table["customer"].cast(pa.int16()))
    floats = table.set_column(0, "customer", table["customer"].cast(pa.float64()))
    large = table.set_column(5, "color", table["color"].cast(pa.large_string()))
    for other in (small, floats, large):
        assert (tokenizer.encode(other) == ids).all()


def test_duplicate_columns_and_other_objects(table, tokenizer):
    twice = pa.table([table["age"], table["age"]], names=["age", "age"])
    with pytest.raises(SchemaError, match=r"columns \['age'\] more than once"):
        tokenizer.encode(twice)
    with pytest.raises(SchemaError, match="list is not a table"):
        tokenizer.encode([1, 2])


def test_unseen_values_name_column_and_value(table, tokenizer):
    purple = table.set_column(5, "color", pa.array(["purple"] * table.num_rows))
    with pytest.raises(CodecError, match=r"column 'color'.*purple"):
        tokenizer.encode(purple)
    back = tokenizer.decode(tokenizer.encode(purple, unseen="missing"))
    assert back["color"].null_count == table.num_rows


# --- ids out of place ---


def test_id_of_another_slot_is_named(table, tokenizer):
    ids = tokenizer.encode(table)
    slot, other = tokenizer.column_slots["color"].start, tokenizer.column_slots["open"].start
    stranger = tokenizer.allowed(other)[0]
    ids[41, slot] = stranger
    with pytest.raises(CodecError) as error:
        tokenizer.decode(ids)
    text = str(error.value)
    assert text.startswith(
        f"row 41, slot 0 of column 'color' (slot {slot} of the row): id {stranger} is an id of "
    )
    assert "slot 0 of column 'open'" in text


@pytest.mark.parametrize(
    ("token", "what"), [(PAD, "PAD"), (BOS, "BOS"), (EOD, "EOD"), (60_000, "outside the vocabulary")]
)
def test_special_and_foreign_ids_are_named(tokenizer, token, what):
    ids = tokenizer.slot_offsets[None].copy()
    ids[0, 1] = token
    with pytest.raises(CodecError, match=f"row 0, .*id {token} is {what}"):
        tokenizer.decode(ids)


def test_ids_too_wide_for_32_bits_are_not_wrapped_into_place(tokenizer):
    for dtype in (np.int64, np.uint64):
        ids = tokenizer.slot_offsets[None].astype(dtype) + dtype(2**32)
        with pytest.raises(CodecError, match="outside the vocabulary"):
            tokenizer.decode(ids)


def test_ids_of_another_shape_or_type(tokenizer):
    with pytest.raises(CodecError, match="expected integers of shape"):
        tokenizer.decode(np.zeros((3, tokenizer.num_slots + 2), int))
    with pytest.raises(CodecError, match="ids are float64"):
        tokenizer.decode(np.zeros((3, tokenizer.num_slots)))


# --- files ---


def test_saved_and_loaded_it_is_the_same_function(table, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    loaded = TableTokenizer.load(tmp_path / "t.json")
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert (loaded.encode(table) == tokenizer.encode(table)).all()
    assert loaded.decode(tokenizer.encode(table)).equals(tokenizer.decode(tokenizer.encode(table)))
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_fingerprint_changes_with_the_codecs_and_not_with_reasons(table, tokenizer):
    other = tokenizer_of(mixed_table(seed=1))
    assert other.fingerprint() != tokenizer.fingerprint()
    content = tokenizer.to_json()
    content["schema"]["columns"][0]["why"] = "because"
    content["schema"]["rows"] = 3
    assert TableTokenizer.from_json(content).fingerprint() == tokenizer.fingerprint()


def test_a_pickle_is_named_and_not_loaded(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "exploded"), "w"))

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / "t.json"
        path.write_bytes(pickle.dumps(Bomb(), protocol))
        with pytest.raises(StoreError, match=r"t\.json is a pickle, not JSON"):
            TableTokenizer.load(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"format": "nemo_tab', "damaged or cut off"),
        (b"[1]", "holds a JSON list"),
        (b"\xff\xfe{", "is not JSON"),
        (b"PK\x03\x04", "ZIP archive"),
        (b'{"format": "other", "version": 1}', "not a tokenizer of version 1: format 'other'"),
        (b'{"format": "nemo_tabular.tokenizer", "version": 1}', "damaged tokenizer"),
    ],
)
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "t.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=message) as error:
        TableTokenizer.load(path)
    assert str(path) in str(error.value)


def test_a_tokenizer_with_a_codec_missing_is_refused(tokenizer):
    content = json.loads(json.dumps(tokenizer.to_json()))
    del content["codecs"][2]
    with pytest.raises(StoreError, match="damaged tokenizer: codecs"):
        TableTokenizer.from_json(content)


def test_pandas_missing_numbers_become_missing(table, tokenizer):
    frame = table.to_pandas(date_as_object=True)
    assert frame["age"].dtype == float and frame["age"].isna().any()
    ages = tokenizer.decode(tokenizer.encode(frame))["age"]
    assert ages.null_count == int(pd.isna(frame["age"]).sum())
