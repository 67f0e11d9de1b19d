"""NeMo's pickles and configs come over: the same ids, the same texts, nothing run on the way."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from nemo_golden import FOLDER, TRANSFORMS, answers, any_ids, make

from nemo_tabular.errors import CodecError, ConfigError, SchemaError, StoreError
from nemo_tabular.nemo_import import NeMoTokenizer, load_nemo_tokenizer, schema_from_nemo
from nemo_tabular.nemo_import.unpickle import ADMITTED
from nemo_tabular.profile import profile
from nemo_tabular.readers import open_table
from nemo_tabular.tokenizer import TableTokenizer
from nemo_tabular.unpickling import unpickled


@pytest.fixture(scope="module")
def nemo():
    """NeMo's own modules, unmodified, from the wheel of nemo_toolkit 2.7.3."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    try:
        from benchmarks.nemo_wheel import load

        pytest.importorskip("sklearn", reason="NeMo's tokenizer needs scikit-learn")
        modules = load()
    except (ImportError, OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"the wheel of nemo_toolkit cannot be had: {error}")
    finally:
        sys.path.pop(0)
    yield modules
    for name in [name for name in sys.modules if name.split(".")[0] == "nemo"]:
        del sys.modules[name]


# --- against what NeMo wrote down ---


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_golden_ids_and_texts(transform):
    ours = load_nemo_tokenizer(FOLDER / f"{transform}.pkl")
    golden = json.loads((FOLDER / f"{transform}.json").read_text(encoding="utf-8"))
    assert ours.vocab_size == golden["vocab_size"] and list(ours.columns) == golden["columns"]
    for text, ids, back in zip(golden["texts"], golden["ids"], golden["back"], strict=True):
        assert ours.text_to_ids(text) == ids
        assert ours.ids_to_text(ids) == back
    for cut, text in zip((0, 1, 6, 9), golden["any_text"], strict=True):
        assert ours.ids_to_text(golden["any_ids"][cut:]) == text


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_json_keeps_every_bit(transform, tmp_path):
    ours = load_nemo_tokenizer(FOLDER / f"{transform}.pkl")
    ours.save(tmp_path / "t.json")
    assert NeMoTokenizer.load(tmp_path / "t.json") == ours


# --- against NeMo itself ---


@pytest.mark.filterwarnings("ignore:Some values in column")  # scikit-learn, of ids that NeMo turns into "nan"
@pytest.mark.parametrize("fillall", [True, False])
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_same_as_nemo_on_a_table_it_fits_now(nemo, tmp_path, transform, fillall):
    theirs, lines = make(*nemo, transform, fillall, rows=400)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "t.pkl").write_bytes(pickle.dumps(theirs.code_column, protocol))
        ours = load_nemo_tokenizer(tmp_path / "t.pkl")
    (tmp_path / "whole.pkl").write_bytes(pickle.dumps(theirs))
    assert load_nemo_tokenizer(tmp_path / "whole.pkl") == ours
    assert answers(ours, lines) == answers(theirs, lines)
    some = any_ids(theirs, 60)
    for cut in (0, 1, 6, 9):
        assert ours.ids_to_text(some[cut:]) == theirs.ids_to_text(some[cut:])


def test_other_delimiters(nemo, tmp_path):
    theirs, lines = make(*nemo, "robust", True)
    theirs.delimiter = "|"
    text = "\n".join(line.replace(",", "|") for line in lines)
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(theirs))
    (tmp_path / "c.pkl").write_bytes(pickle.dumps(theirs.code_column))
    for ours in (load_nemo_tokenizer(tmp_path / "t.pkl"), load_nemo_tokenizer(tmp_path / "c.pkl", "|")):
        assert ours.text_to_ids(text) == theirs.text_to_ids(text)
        assert ours.ids_to_text(ours.text_to_ids(text)) == theirs.ids_to_text(theirs.text_to_ids(text))


# --- what NeMo cannot code ---


def ours(transform="robust") -> NeMoTokenizer:
    return load_nemo_tokenizer(FOLDER / f"{transform}.pkl")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2.0,Martian,5,0.1", "column 'kind': category 'Martian' was not seen"),
        ("x,Private,5,0.1", "column 'price': could not convert string to float: 'x'"),
        ("inf,Private,5,0.1", "column 'price': 'inf' is not a finite number"),
        ("2.0,Private,99000000,0.1", "column 'units': '99000000' is outside"),
        ("2.0,Private,-90,0.1", "column 'units': '-90' is outside"),
        ("-1e9,Private,5,0.1", "column 'price': '-1e9' is outside"),
    ],
)
def test_values_without_an_id_are_named(row, message):
    with pytest.raises(CodecError) as error:
        ours().text_to_ids(row)
    assert message in str(error.value)


def test_ids_out_of_place_are_named():
    ids = ours().text_to_ids("2.0,Private,2000,0.1")
    with pytest.raises(CodecError, match=r"column 'price': id \d+ is none of those allowed at its token 1"):
        ours().ids_to_text([ids[0], ids[0], *ids[2:]])


# --- pickles that are not NeMo's ---


class Evil:
    """A pickle that would run a command."""

    def __init__(self, function, *arguments):
        self.what = (function, arguments)

    def __reduce__(self):
        return self.what


def test_what_a_pickle_names_is_refused_by_name_and_not_run(tmp_path):
    import builtins
    import os

    marker = tmp_path / "ran"
    evil = {
        "posix.system": Evil(os.system, f"touch {marker}"),
        "builtins.eval": Evil(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "builtins.getattr": Evil(getattr, "x", "upper"),
        "numpy.load": Evil(np.load, str(marker)),
    }
    for name, bomb in evil.items():
        for protocol in (0, 2, 5):
            path = tmp_path / "evil.pkl"
            path.write_bytes(pickle.dumps(bomb, protocol).replace(b"nt\n", b"posix\n"))
            with pytest.raises(StoreError, match="which is not admitted") as error:
                load_nemo_tokenizer(path)
            assert name.split(".")[-1] in str(error.value) and str(path) in str(error.value)
    assert not marker.exists()


def test_no_admitted_name_is_a_function_of_another_package():
    for name, stand_in in ADMITTED.items():
        module = stand_in.__module__
        assert module == "nemo_tabular.nemo_import.unpickle" or stand_in is object, name


def test_arrays_of_objects_are_refused():
    data = pickle.dumps(np.array([{}, []], dtype=object))
    with pytest.raises(StoreError, match="numbers and texts are admitted"):
        unpickled(data, ADMITTED)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no pickle of a NeMo tokenizer"),
        (b'{"json": 1}', "is no pickle of a NeMo tokenizer"),
        (pickle.dumps([1, 2]), "holds a list"),
        ((FOLDER / "robust.pkl").read_bytes()[:-900], "is no pickle of a NeMo tokenizer, or is cut off"),
    ],
)
def test_files_that_are_no_tokenizer(tmp_path, data, message):
    (tmp_path / "t.pkl").write_bytes(data)
    with pytest.raises(StoreError, match=message):
        load_nemo_tokenizer(tmp_path / "t.pkl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"nothing\.pkl: cannot be read"):
        load_nemo_tokenizer(tmp_path / "nothing.pkl")


# --- configs ---

CONFIG = [
    {
        "name": "units",
        "code_type": "int",
        "args": {"code_len": 3, "base": 12, "fillall": True, "hasnan": True},
    },
    {"name": "kind", "code_type": "category"},
    {
        "name": "price",
        "code_type": "float",
        "args": {"code_len": 4, "base": 100, "fillall": True, "hasnan": False, "transform": "yeo-johnson"},
    },
]


def sales(rows: int = 300) -> pa.Table:
    r = np.random.default_rng(0)
    return pa.table(
        {
            "note": ["x"] * rows,
            "price": np.round(np.exp(r.normal(3, 1, rows)), 6),
            "kind": r.choice(["a", "b", "nan"], rows),
            "units": pa.array(r.integers(3, 1000, rows), mask=r.random(rows) < 0.1),
        }
    )


def test_config_gives_the_same_coders_in_its_order():
    schema = schema_from_nemo(CONFIG, sales())
    assert schema.names == ("units", "kind", "price")
    assert [c.codec for c in schema.columns] == ["digits", "category", "digits"]
    assert [c.nullable for c in schema.columns] == [True, False, False]
    assert schema.column("units").options == {"base": 12, "code_len": 3}
    assert schema.column("price").options == {"base": 100, "code_len": 4, "transform": "yeo-johnson"}


def test_config_ends_in_tokens_and_back():
    table = sales()
    schema = schema_from_nemo(CONFIG, table)
    tokenizer = TableTokenizer.fit(schema, profile(open_table(table).batches(schema)))
    assert [len(c.slots) for c in tokenizer.codecs.values()] == [3, 1, 4]
    # Units span 997 values: of the leading digit of base 12 there are 0 to 6, and one code for missing.
    assert tokenizer.slot_sizes.tolist() == [8, 12, 12, 3, 100, 100, 100, 100]
    back = tokenizer.decode(tokenizer.encode(table.select(schema.names)))
    assert back.select(["units", "kind"]).equals(table.select(["units", "kind"]))
    error = np.abs(np.subtract(back["price"], table["price"]))
    assert error.max() < 1e-3 * np.max(table["price"])


def test_config_as_nemos_yaml_and_after_nemo_has_added_to_it(tmp_path):
    path = tmp_path / "tabular_data_tokenizer.yaml"
    whole = {"table_csv_file": "x.csv", "tokenizer_file": "t.pkl", "table_structure": CONFIG}
    path.write_text(yaml.safe_dump(whole))
    expected = schema_from_nemo(CONFIG, sales())
    assert schema_from_nemo(path, sales()) == expected
    # NeMo's get_column_codes writes start_id and col_name into the caller's config.
    used = [
        entry | {"args": entry.get("args", {}) | {"start_id": 7, "col_name": entry["name"]}}
        for entry in CONFIG
    ]
    assert schema_from_nemo(used, sales()) == expected
    from omegaconf import OmegaConf

    assert schema_from_nemo(OmegaConf.create(whole), sales()) == expected


def test_config_makes_documents():
    schema = schema_from_nemo(CONFIG, sales(), group_by=("kind",), order_by=("units",))
    assert schema.group_by == ("kind",) and schema.order_by == ("units",)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([{"name": "units"}], "column 1 of the NeMo config needs a name and a code_type"),
        ([{"name": "units", "code_type": "datetime"}], "code_type 'datetime'; NeMo has category, int, float"),
        (
            [{"name": "units", "code_type": "int"}],
            "column 'units' of the NeMo config: code_len must be a whole",
        ),
        (
            [{"name": "units", "code_type": "int", "args": {"code_len": 3, "base": 1}}],
            "base must be a whole number from 2",
        ),
        (
            [{"name": "units", "code_type": "int", "args": {"codelen": 3}}],
            "'codelen' (did you mean 'code_len'?)",
        ),
        (
            [{"name": "price", "code_type": "float", "args": {"code_len": 3, "transform": "log"}}],
            "transform 'log'",
        ),
        ([{"name": "unit", "code_type": "category"}], "has column 'unit', pyarrow"),
        ([CONFIG[0], CONFIG[0]], "has column 'units' twice"),
        ({"columns": CONFIG}, "no list 'table_structure' of columns"),
        (7, "is a int; expected a list"),
    ],
)
def test_config_faults_are_named(config, message):
    with pytest.raises(ConfigError) as error:
        schema_from_nemo(config, sales())
    assert message.split(", pyarrow")[0] in str(error.value)


def test_int_too_long_for_its_code_is_refused_when_fitted_not_when_met():
    table = pa.table({"units": np.arange(5000)})
    schema = schema_from_nemo(
        [{"name": "units", "code_type": "int", "args": {"code_len": 2, "base": 10}}], table
    )
    with pytest.raises(CodecError, match="column 'units': code_len too small"):
        TableTokenizer.fit(schema, profile(open_table(table).batches(schema)))


def test_missing_where_nemo_was_told_there_is_none():
    config = [{"name": "units", "code_type": "int", "args": {"code_len": 3, "base": 12, "hasnan": False}}]
    table = sales()
    schema = schema_from_nemo(config, table)
    with pytest.raises((SchemaError, ValueError), match="column 'units' is missing"):
        list(open_table(table).batches(schema))
