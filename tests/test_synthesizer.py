"""The facade on a small table: what it learns, conditions, scores, keeps on disk, and refuses."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from small_table import people

import nemo_tabular
from nemo_tabular import Synthesizer, TokenStore, prepare
from nemo_tabular.errors import CheckpointError, CodecError, ConfigError, GenerationError, SchemaError

QUICK = {
    "model__hidden_size": 32,
    "trainer__max_steps": 150,
    "trainer__num_threads": 1,
    "data__global_batch_size": 64,
}


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module")
def synthesizer(table):
    return Synthesizer("gpt", **QUICK, model__condition_on=["sex"]).fit(table)


def test_rows_look_like_the_table(synthesizer, table):
    rows = synthesizer.sample(3000, seed=1)
    assert list(rows.columns) == list(table.columns)
    assert rows.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    assert abs((rows.sex == "Female").mean() - 0.4) < 0.05
    assert abs(rows.height.isna().mean() - 0.1) < 0.05
    means = rows.groupby("sex").height.mean()
    assert means["Male"] - means["Female"] > 8
    assert set(np.round(rows.height.dropna() * 10) % 1) == {0}
    assert rows.age.between(17, 79).all()


def test_the_same_seed_gives_the_same_rows_however_they_are_asked_for(synthesizer):
    whole = synthesizer.sample(100, seed=4)
    parts = pd.concat(
        [synthesizer.sample(60, seed=4), synthesizer.sample(40, seed=4, first_row=60)], ignore_index=True
    )
    pd.testing.assert_frame_equal(whole, parts)
    assert not whole.equals(synthesizer.sample(100, seed=5))
    assert len(synthesizer.sample(0)) == 0
    assert list(synthesizer.sample(0).columns) == list(whole.columns)


def test_given_columns_are_kept_and_the_rest_follows(synthesizer):
    women = synthesizer.sample(500, given={"sex": "Female"}, seed=1)
    assert (women.sex == "Female").all()
    assert women.height.mean() < 169
    asked = pd.DataFrame({"sex": ["Male", "Female", "Female"]})
    assert synthesizer.sample(given=asked).sex.tolist() == ["Male", "Female", "Female"]


def test_given_values_never_seen_are_an_error_or_the_nearest():
    table = pd.DataFrame({"day": pd.to_datetime(["2020-01-02", "2020-01-09"] * 40), "paid": [1.0, 2.0] * 40})
    few = QUICK | {"trainer__max_steps": 3}
    model = Synthesizer("gpt", **few, model__condition_on=["day"]).fit(table)
    with pytest.raises(GenerationError, match="day"):
        model.sample(3, given={"day": "2020-01-08"})
    made = model.sample(3, given={"day": "2020-01-08"}, unseen="nearest")
    assert made.day.tolist() == [pd.Timestamp("2020-01-09")] * 3


def test_whole_numbers_with_gaps_stay_whole():
    count = pd.array([2**53 + 1, 7, None] * 40, dtype="Int64")
    table = pd.DataFrame({"count": count, "small": pd.array([1, None, 3] * 40, dtype="UInt8")})
    made = Synthesizer("gpt", **(QUICK | {"trainer__max_steps": 3})).fit(table).sample(200)
    assert made.dtypes.astype(str).tolist() == ["Int64", "UInt8"]
    assert set(made["count"].dropna()) == {2**53 + 1, 7} and made["count"].isna().any()


def test_a_prepared_store_is_fitted_as_the_table_is(tmp_path):
    table = people(200)
    few = QUICK | {"trainer__max_steps": 3}
    store = prepare(table, tmp_path / "store", splits=(0.8, 0.2), seed=Synthesizer(**few).config.run.seed)
    assert isinstance(store, TokenStore)
    by_store, by_table = Synthesizer(**few).fit(store), Synthesizer(**few).fit(table)
    pd.testing.assert_frame_equal(by_store.sample(50), by_table.sample(50))
    with pytest.raises(SchemaError, match="give the store alone"):
        Synthesizer(**few).fit(store, group_by=["sex"])


def test_public_names_are_there():
    for name in nemo_tabular.__all__:
        assert getattr(nemo_tabular, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Synthesiser'"):
        _ = nemo_tabular.Synthesiser


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"age": 30}, r"'age' cannot be given.*model\.condition_on=\[age\]"),
        ({"sexx": "Male"}, r"no column 'sexx' \(did you mean 'sex'\?\)"),
        ({"sex": "Unknown"}, "sex.*Unknown"),
    ],
)
def test_impossible_conditions_say_what_to_do(synthesizer, given, message):
    with pytest.raises(GenerationError, match=message):
        synthesizer.sample(3, given=given)
    with pytest.raises(GenerationError, match="how many rows"):
        synthesizer.sample()


def test_log_prob_is_exact_and_adds_up_over_columns(synthesizer, table):
    columns = synthesizer.log_prob(table, by_column=True)
    total = synthesizer.log_prob(table)
    assert list(columns.columns) == list(table.columns)
    np.testing.assert_allclose(columns.sum(axis=1), total, rtol=1e-9)
    every_height = pd.DataFrame(
        {
            "sex": "Male",
            "age": 30,
            "height": [*np.round(np.arange(table.height.min(), table.height.max() + 0.05, 0.1), 1), None],
        }
    )
    conditional = synthesizer.log_prob(every_height, by_column=True)
    free = [c for c in synthesizer.model.plan.columns if c == "height" or c == "age"]
    if (
        free[-1] == "height"
    ):  # the last column in the model's order: its probabilities given the others sum to 1
        assert np.exp(conditional.height).sum() == pytest.approx(1, abs=1e-4)


def test_log_prob_of_values_never_seen_is_an_error_or_the_declared_fallback(synthesizer):
    odd = pd.DataFrame({"sex": ["Male"], "age": [200], "height": [180.0]})
    with pytest.raises(CodecError, match=r"column 'age'.*200"):
        synthesizer.log_prob(odd)
    assert np.isfinite(synthesizer.log_prob(odd, unseen="nearest")).all()


def test_saved_and_loaded_it_makes_the_same_rows_and_scores(synthesizer, table, tmp_path):
    synthesizer.save(tmp_path / "model")
    loaded = Synthesizer.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.sample(50, seed=2), synthesizer.sample(50, seed=2))
    np.testing.assert_array_equal(loaded.log_prob(table), synthesizer.log_prob(table))
    assert loaded.schema == synthesizer.schema


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "tokenizer.json", "manifest.json"])
def test_a_damaged_model_is_refused_with_the_name_of_the_file(synthesizer, tmp_path, name):
    synthesizer.save(tmp_path / "model")
    victim = tmp_path / "model" / name
    data = victim.read_bytes()
    victim.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=name):
        Synthesizer.load(tmp_path / "model")
    victim.unlink()
    with pytest.raises(CheckpointError, match=name):
        Synthesizer.load(tmp_path / "model")


def test_written_files_hold_the_sampled_rows(synthesizer, tmp_path):
    rows = synthesizer.sample(200, seed=3)
    for name in ("a.csv", "a.csv.gz", "a.parquet"):
        assert synthesizer.write(tmp_path / name, 200, seed=3) == 200
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "a.csv"), rows, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "a.parquet"), rows, check_dtype=False)
    assert synthesizer.write(tmp_path / "few.csv", 5, given=["sex=Female"]) == 5
    assert set(pd.read_csv(tmp_path / "few.csv").sex) == {"Female"}
    with pytest.raises(GenerationError, match="write column=value"):
        synthesizer.write(tmp_path / "none.csv", 5, given=["nosuchfile.csv"])
    assert not (tmp_path / "none.csv").exists()


def test_before_fit_there_is_nothing_to_sample_from(tmp_path):
    with pytest.raises(CheckpointError, match="no model yet"):
        Synthesizer().sample(3)
    with pytest.raises(CheckpointError, match="no whole checkpoint or model"):
        Synthesizer.load(tmp_path)
    with pytest.raises(ConfigError, match=r"model\.kind"):
        Synthesizer("gtp")
    with pytest.raises(ConfigError, match="did you mean 'max_steps'"):
        Synthesizer(trainer__max_step=3)


def tiny(**columns):
    return (
        Synthesizer(trainer__max_steps=3, trainer__num_threads=1)
        .fit(pd.DataFrame(columns))
        .sample(20, seed=1)
    )


def test_odd_little_tables_work():
    assert (tiny(a=[7] * 60).a == 7).all()
    assert (tiny(a=[7], b=["x"]) == [7, "x"]).all().all()
    assert tiny(a=[None, None, None, None] * 20, b=["x", "y", None, "y"] * 20).a.isna().all()
    assert set(tiny(flag=[True, False] * 40).flag) <= {True, False}


def test_other_frames_are_read_too(table):
    polars = pytest.importorskip("polars")
    recipe = QUICK | {"trainer__max_steps": 3}
    assert len(Synthesizer(**recipe).fit(polars.from_pandas(table)).sample(5)) == 5


def test_sampling_starts_without_megatron():
    """Its import costs more than many a request."""
    code = "import sys, nemo_tabular.synthesizer; sys.exit('megatron.core' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
