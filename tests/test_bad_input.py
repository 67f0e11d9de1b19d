"""What a wrong setting, condition, store or disk is told at the command line: exit code 2 and what to do.

Wrong tables have their own file, test_bad_input_tables.py.
"""

import os
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from small_table import small_table

from nemo_tabular import Synthesizer
from nemo_tabular.cli import main
from nemo_tabular.errors import CodecError

# ---- a config with an unknown key, a wrong type, an impossible combination ----


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_layer=3", "unknown setting 'model.num_layer' (did you mean 'num_layers'?)"),
        ("modell.num_layers=3", "unknown setting 'modell' (did you mean 'model'?)"),
        ("trainer.max_steps=ten", "trainer.max_steps: Input should be a valid integer"),
        ("trainer.precision=16", "trainer.precision: Input should be '32' or 'bf16-mixed' (found 16)"),
        ("optim.lr=nan", "optim.lr: Input should be greater than 0"),
        ("model=3", "model: Input should be a valid dictionary"),
        ("model.hidden_size=17", "hidden_size 17 is not a multiple of num_attention_heads 2"),
        ("model.sequence_parallel=true", "sequence_parallel needs tensor_model_parallel_size of at least 2"),
        ("model.tensor_model_parallel_size=2", "2 ranks do not divide the 1 started"),
        ("model.condition_on=[town]", "model.condition_on: the table has no column 'town'"),
        ("model.order=[city,age]", "model.order leaves out ['paid', 'day', 'zip']"),
        ("model.order=random", "order 'random' is not for kind 'gpt', whose order is entropy, schema"),
        ("model.kind=cmg", "model.kind: Input should be 'gpt' or 'cgm' (found 'cmg')"),
        ("model.fixed_share=2", "model.fixed_share: Input should be less than or equal to 1"),
        ("trainer.max_time=tomorrow", "trainer.max_time 'tomorrow': write it as DD:HH:MM:SS"),
        ("steps", "override 'steps': write it as section.name=value"),
        ("run.dir=null", "run.dir is not set"),
    ],
)
def test_a_setting_that_cannot_be(override, message, pipeline, tmp_path, told):
    error = told(
        "train", pipeline.recipe, f"data.store={pipeline.store}", f"run.dir={tmp_path / 'run'}", override
    )
    assert message in error


def test_another_setting_for_a_run_that_exists(pipeline, told):
    error = told(
        "train", pipeline.recipe, f"data.store={pipeline.store}", f"run.dir={pipeline.run}", "optim.lr=0.5"
    )
    assert "is of a run with other settings" in error and "optim.lr: " in error and " there, 0.5 now" in error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"model": {}}), "not readable as YAML"),
        (b"model: [1, 2\n", "not readable as YAML"),
        (b"- 1\n", "settings expected"),
    ],
)
def test_a_recipe_that_is_none(content, message, tmp_path, told):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(content)
    error = told("train", recipe, f"run.dir={tmp_path / 'run'}")
    assert str(recipe) in error and message in error


# ---- --given with an unknown column or an impossible value ----


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("cty=Paris", "the table has no column 'cty' (did you mean 'city'?)"),
        ("city=Berlin", "column 'city': 'Berlin' was not seen"),
        ("city=", "column 'city': '' was not seen"),
        ("age=40", "Train with model.condition_on=[age]"),
        ("Paris", "given 'Paris': write column=value, or name a file that exists"),
    ],
)
def test_a_condition_that_cannot_be_met(given, message, pipeline, tmp_path, told):
    out = tmp_path / "out.csv"
    assert message in told("generate", pipeline.run, "--rows", 5, "--given", given, "-o", out)
    assert not out.exists()


def test_a_file_of_conditions_with_one_that_cannot_be_met(pipeline, tmp_path, told):
    wanted = tmp_path / "wanted.csv"
    pd.DataFrame({"city": ["Paris", "Berlin"]}).to_csv(wanted, index=False)
    error = told("generate", pipeline.run, "--given", wanted, "-o", tmp_path / "out.csv")
    assert "column 'city': 'Berlin' was not seen" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "-5"], "rows is -5, expected a whole number of at least 0"),
        ([], "how many rows?"),
        (["--rows", "5", "--temperature", "0"], "top_k=1 takes the most probable code"),
        (["--rows", "5", "--top-p", "1.5"], "top_p is 1.5, expected above 0 and at most 1"),
        (["--rows", "5", "--seed", "-1"], "seed is -1"),
        (["--rows", "5", "-o", "out.xls"], "must end in .csv, .tsv"),
        (["--rows", "5", "-o", "no/such/folder/out.csv"], "No such file or directory"),
    ],
)
def test_a_request_that_cannot_be_met(arguments, message, pipeline, tmp_path, told, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in told("generate", pipeline.run, "-o", "out.csv", *arguments)
    assert not any(tmp_path.iterdir())


# ---- values just outside the fitted range, an unseen category, and tables with nothing to learn ----


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("city", "Berlin", "column 'city': 'Berlin' was not seen at fit"),
        ("age", 90, "column 'age'"),
        ("paid", 1000.0, "column 'paid'"),
        ("paid", -0.01, "column 'paid'"),
        ("zip", "00099", "column 'zip'"),
    ],
)
def test_a_value_that_training_never_saw(column, value, message, pipeline):
    """Column and value are named, and nothing is clipped: not even a value just outside the range."""
    rows = Synthesizer.load(pipeline.run).sample(3, seed=1)
    rows[column] = [rows[column][0], rows[column][1], value]
    with pytest.raises(CodecError, match=re.escape(message)) as error:
        Synthesizer.load(pipeline.run).log_prob(rows)
    assert str(value).rstrip("0").rstrip(".") in str(error.value)


@pytest.mark.parametrize(
    "columns",
    [
        {"a": [1], "b": ["x"]},
        {"a": ["x", "y", "x", "z"]},
        {"a": [7] * 60, "b": ["x", "y", "z"] * 20},
        {"a": [None] * 60, "b": ["x", "y", "z"] * 20},
    ],
    ids=["one row", "one column", "a constant column", "an all-missing column"],
)
def test_tables_with_little_to_learn_still_make_rows(columns):
    real = pd.DataFrame(columns)
    synthesizer = Synthesizer("gpt", trainer__max_steps=3, model__hidden_size=16, model__num_layers=1).fit(
        real
    )
    made = synthesizer.sample(20, seed=1)
    assert list(made) == list(real) and len(made) == 20
    assert all(set(made[name]) <= set(real[name]) for name in real)
    assert np.isfinite(synthesizer.log_prob(real)).all()


# ---- a store whose bytes were flipped, truncated, or that belongs to another tokenizer ----


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def cut_off(data: bytes) -> bytes:
    return data[: len(data) // 2]


def a_pickle(data: bytes) -> bytes:
    return pickle.dumps({"format": "nemo_tabular"})


STORE_FILES = ["manifest.json", "tokenizer.json", "counts.npy", "train.bin", "train.idx", "validation.bin"]


@pytest.mark.parametrize("name", STORE_FILES)
@pytest.mark.parametrize("spoil", [flipped, cut_off])
def test_a_damaged_store_is_not_trained_on(spoil, name, pipeline, tmp_path, told):
    store = tmp_path / "store"
    shutil.copytree(pipeline.store, store)
    (store / name).write_bytes(spoil((store / name).read_bytes()))
    error = told("train", pipeline.recipe, f"data.store={store}", f"run.dir={tmp_path / 'run'}")
    assert f"{store / name}" in error and ("prepare again" in error or "damaged" in error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
def test_a_pickle_where_a_store_has_json(name, pipeline, tmp_path, told):
    store = tmp_path / "store"
    shutil.copytree(pipeline.store, store)
    (store / name).write_bytes(a_pickle(b""))
    error = told("train", pipeline.recipe, f"data.store={store}", f"run.dir={tmp_path / 'run'}")
    assert f"{store / name} is a pickle, not JSON" in error


def test_a_pickle_where_a_schema_is_expected(pipeline, tmp_path, told):
    schema = tmp_path / "schema.yaml"
    schema.write_bytes(a_pickle(b""))
    error = told("prepare", pipeline.table, "--schema", schema, "-o", tmp_path / "store")
    assert f"{schema} is a pickle, not YAML" in error


def test_a_store_of_another_tokenizer(pipeline, tmp_path, told):
    """Once with another table's tokenizer put into the store, once as the store of a run that has its own."""
    table, other, mixed = tmp_path / "other.csv", tmp_path / "other", tmp_path / "mixed"
    small_table(300, seed=9).to_csv(table, index=False)
    assert main(["prepare", str(table), "-o", str(other)]) == 0
    shutil.copytree(pipeline.store, mixed)
    shutil.copy(other / "tokenizer.json", mixed)
    error = told("train", pipeline.recipe, f"data.store={mixed}", f"run.dir={tmp_path / 'run'}")
    assert "tokenizer.json belongs to another store" in error
    error = told("train", pipeline.recipe, f"data.store={other}", f"run.dir={pipeline.run}")
    assert f"{other} was written by another tokenizer" in error


# ---- a run that is damaged, unfinished, or none ----


@pytest.mark.parametrize("name", ["manifest.json", "model.json", "tokenizer.json", "weights.safetensors"])
@pytest.mark.parametrize("spoil", [flipped, cut_off, a_pickle])
def test_a_damaged_model_makes_no_rows(spoil, name, pipeline, tmp_path, told):
    run = tmp_path / "run"
    shutil.copytree(pipeline.run, run)
    file = run / "model" / name
    file.write_bytes(spoil(file.read_bytes()))
    error = told("generate", run, "--rows", 5, "-o", tmp_path / "out.csv")
    assert str(run / "model") in error and ("damaged" in error or "missing" in error)


def test_folders_that_are_no_run(pipeline, tmp_path, told):
    out = ["--rows", 5, "-o", tmp_path / "out.csv"]
    assert "no manifest.json there" in told("generate", tmp_path / "none", *out)
    assert "no manifest.json there" in told("generate", pipeline.table, *out)
    assert "is not of a model or checkpoint" in told("generate", pipeline.store, *out)
    (tmp_path / "begun" / "checkpoints").mkdir(parents=True)
    assert "not finished; train it to its end first" in told("generate", tmp_path / "begun", *out)


# ---- no space left while writing ----


def limited(bytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A verb in a process that may write no file longer than `bytes`: like a full disk, without root."""
    script = (
        "import resource, signal, sys; from nemo_tabular.cli import main; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); limit = int(sys.argv[1]); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); sys.exit(main(sys.argv[2:]))"
    )
    command = [sys.executable, "-c", script, str(bytes), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("name", ["out.csv", "out.csv.gz", "out.parquet"])
def test_no_space_left_while_generating(name, pipeline, tmp_path):
    out = tmp_path / name
    out.write_text("an earlier table")
    done = limited(20_000, "generate", pipeline.run, "--rows", 20_000, "-o", out)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot write {out}: " in done.stderr and "File too large; nothing was left there" in done.stderr
    assert os.listdir(tmp_path) == [name] and out.read_text() == "an earlier table"


def test_no_space_left_while_training(pipeline, tmp_path):
    """The weights do not fit; with more room the same command goes on."""
    train = ["train", pipeline.recipe, f"data.store={pipeline.store}", f"run.dir={tmp_path / 'run'}"]
    done = limited(10_000, *train)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot be written: " in done.stderr and "too large; what was saved before is" in done.stderr
    assert "the run resumes" in done.stderr
    assert main([str(argument) for argument in train]) == 0


def test_no_space_left_while_preparing_or_scoring(pipeline, tmp_path):
    done = limited(2_000, "prepare", pipeline.table, "-o", tmp_path / "store")
    assert (
        done.returncode == 2 and f"{tmp_path / 'store'} could not be written: File too large" in done.stderr
    )
    table = pipeline.table
    done = limited(
        1_000, "evaluate", "--train", table, "--test", table, "--synthetic", table, "--scores", "shapes",
        "-o", tmp_path / "report.json",
    )  # fmt: skip
    assert done.returncode == 2 and "File too large" in done.stderr and "Traceback" not in done.stderr
    assert os.listdir(tmp_path) in ([], ["report.json"])
