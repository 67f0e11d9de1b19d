"""Columns whose cells are arrays, texts and real numbers, through the whole package: schema, store, training,
drawing, scores, files."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from nemo_tabular import Synthesizer
from nemo_tabular.cli import main
from nemo_tabular.errors import (
    CodecError,
    ConfigError,
    FeatureError,
    GenerationError,
    SchemaError,
    StoreError,
    TabularError,
)
from nemo_tabular.features import FEATURES
from nemo_tabular.features.mixture import MixtureFeature
from nemo_tabular.readers import WriteError, open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import TokenStore, prepare
from nemo_tabular.tokenizer import TableTokenizer, as_arrow

QUICK = {
    "model__hidden_size": 32,
    "trainer__max_steps": 120,
    "trainer__num_threads": 1,
    "data__global_batch_size": 64,
    "trainer__final_fit": False,
}
FEW = QUICK | {"model__hidden_size": 16, "trainer__max_steps": 2, "trainer__final_fit": True}
DENSE = {"size": {"feature": "mixture"}, "note": {"feature": "text", "options": {"width": 32}}}


def mixed(rows: int = 500, seed: int = 0) -> pd.DataFrame:
    """Everything follows the column `kind`; an eighth of the pictures and of the paths are missing."""
    r = np.random.default_rng(seed)
    kind = r.integers(0, 3, rows)
    picture = [(np.full((3, 4), 2 * k) + r.integers(0, 2, (3, 4))).astype(np.uint8) for k in kind]
    table = pd.DataFrame({"kind": np.array(["low", "mid", "top"])[kind]})
    table["size"] = np.where(r.random(rows) < 0.2, 0.0, np.round(3 * kind + r.normal(size=rows), 2))
    table["picture"] = pd.Series(picture, dtype=object).where(r.random(rows) > 0.125, None)
    table["point"] = [(2.0 * k + r.normal(size=2)).astype(np.float32) for k in kind]
    path = [2.0 * k + r.normal(size=r.integers(1, 5)) for k in kind]
    table["path"] = pd.Series(path, dtype=object).where(r.random(rows) > 0.125, None)
    table["note"] = [" ".join(["é", "high", "x"][k] for _ in range(r.integers(0, 4))) for k in kind]
    return table


def schema_of(table, **overrides):
    return infer_schema(open_table(table), overrides=DENSE | overrides)


@pytest.fixture(scope="module")
def table():
    return mixed()


@pytest.fixture(scope="module")
def synthesizer(table):
    return Synthesizer("cgm", **QUICK, model__order="random").fit(table, schema=schema_of(table))


def same_cells(a, b):
    assert len(a) == len(b)
    for one, other in zip(a, b, strict=True):
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype and one.shape == other.shape
            np.testing.assert_array_equal(one, other)
        else:
            assert one == other or (pd.isna(one) and pd.isna(other))


# ---- schema and store ----


def test_lists_are_recognised_and_the_schema_survives_yaml(table, tmp_path):
    schema = schema_of(table)
    found = {c.name: (c.kind, c.codec, c.feature, c.shape) for c in schema.columns}
    assert found == {
        "kind": ("category", "category", "", ()),
        "size": ("decimal", "real", "mixture", ()),
        "picture": ("image", "array", "image", (3, 4)),
        "point": ("vector", "array", "vector", (2,)),
        "path": ("series", "array", "series", ()),
        "note": ("text", "bytes", "text", ()),
    }
    schema.to_yaml(tmp_path / "schema.yaml")
    assert Schema.from_yaml(tmp_path / "schema.yaml").fingerprint() == schema.fingerprint()


ARROW = {
    "list<list>": lambda x: pa.array(x.tolist(), pa.list_(pa.list_(pa.uint8()))),
    "fixed": lambda x: pa.array(x.tolist(), pa.list_(pa.list_(pa.uint8(), 3), 2)),
    "large": lambda x: pa.array(x.tolist(), pa.large_list(pa.large_list(pa.uint8()))),
    "tensor": lambda x: pa.FixedShapeTensorArray.from_numpy_ndarray(x),
    "binary": lambda x: pa.array([cell.tobytes() for cell in x], pa.binary()),
    "fixed binary": lambda x: pa.array([cell.tobytes() for cell in x], pa.binary(6)),
    "flat": lambda x: pa.array(x.reshape(len(x), -1).tolist(), pa.list_(pa.uint8())),
}


@pytest.mark.parametrize("form", ARROW)
def test_images_come_in_every_arrow_form(form, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 5, (60, 2, 3)).astype(np.uint8)
    pq.write_table(pa.table({"a": [1, 2] * 30, "image": ARROW[form](pixels)}), tmp_path / "t.parquet")
    reader = open_table(tmp_path / "t.parquet")
    overrides = {"image": {"kind": "image", "shape": [2, 3], "options": {"levels": 5}}}
    schema = infer_schema(reader, overrides=overrides)
    assert schema.column("image").feature == "image"
    store = prepare(reader, tmp_path / "store", schema=schema, splits=(0.8, 0.2))
    cells = store.cells("train", "validation")["image"]
    got = cells.take(np.arange(60))
    assert got.dtype == np.uint8 and sorted(map(bytes, got)) == sorted(map(bytes, pixels))


def test_stores_hold_cells_row_by_row_and_notice_damage(table, tmp_path):
    schema = schema_of(table)
    prepare(table, tmp_path / "store", schema=schema, splits=(0.7, 0.2, 0.1), seed=3)
    store = TokenStore.open(tmp_path / "store")
    cells, rows = store.cells("test", "train"), np.concatenate([store.rows("test"), store.rows("train")])
    order = np.random.default_rng(0).permutation(len(rows))
    taken = {name: column.take(order) for name, column in cells.items()}
    back = store.tokenizer.decode_codes(store.tokenizer.codes(rows[order]), taken)
    known = {json.dumps(row) for row in as_arrow(table).to_pylist()}
    assert len(back) == len(rows) and all(json.dumps(row) in known for row in back.to_pylist())
    path = tmp_path / "store" / "train.2.cells"
    assert path.name in store.manifest.files
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"train\.2\.cells was changed"):
        TokenStore.open(tmp_path / "store")


def test_memory_does_not_grow_with_the_cells(tmp_path):
    """2,000 batches of the same 256 kB of images: what Arrow holds stays near one batch."""
    image = np.random.default_rng(0).integers(0, 9, (16, 128, 128)).astype(np.uint8)
    kind = pa.list_(pa.list_(pa.uint8(), 128), 128)
    batch = pa.record_batch({"a": pa.array(range(16)), "image": pa.array(image.tolist(), kind)})

    class Endless:
        source, column_names, bad_rows, untyped = "batches", ["a", "image"], 0, False
        peak = 0

        def batches(self, schema=None, *, dictionary=False):
            for _ in range(300):
                self.peak = max(self.peak, pa.total_allocated_bytes())
                yield batch

    reader = Endless()
    schema = infer_schema(FewRows(batch))
    tokenizer = TableTokenizer.fit(schema, profile_of(batch))
    before = pa.total_allocated_bytes()
    store = prepare(reader, tmp_path / "store", tokenizer=tokenizer, splits=(1.0,))
    assert len(store.cells("train")["image"]) == 4_800
    assert reader.peak - before < 30 << 20  # 79 MB of pixels went by


class FewRows:
    source, column_names, bad_rows, untyped = "a batch", ["a", "image"], 0, False

    def __init__(self, batch):
        self.batch = batch

    def batches(self, schema=None, *, dictionary=False):
        yield self.batch


def profile_of(batch):
    from nemo_tabular.profile import profile

    return profile([batch])


# ---- drawing and scoring ----


def test_rows_look_like_the_table_and_have_its_types(synthesizer, table):
    rows = synthesizer.sample(400, seed=1)
    assert list(rows.columns) == list(table.columns)
    picture = rows.picture.dropna()
    assert all(cell.shape == (3, 4) and cell.dtype == np.uint8 and cell.max() <= 5 for cell in picture)
    assert abs(rows.picture.isna().mean() - 0.125) < 0.08
    assert rows.point.iloc[0].dtype == np.float32 and rows.point.iloc[0].shape == (2,)
    assert all(1 <= len(cell) <= 4 for cell in rows.path.dropna())
    assert abs((rows["size"] == 0).mean() - 0.2) < 0.08
    assert np.allclose(rows["size"] * 100, (rows["size"] * 100).round())
    brightness = picture.map(np.mean).groupby(rows.kind).mean()
    assert brightness["low"] + 1 < brightness["mid"] < brightness["top"] - 1
    longest = max(len(note.encode()) for note in table.note)
    assert all(len(note.encode()) <= longest for note in rows.note)


def test_rows_depend_on_their_number_alone(synthesizer):
    whole = synthesizer.sample(150, seed=4)
    parts = [synthesizer.sample(n, seed=4, first_row=at) for at, n in ((0, 30), (30, 70), (100, 50))]
    together = pd.concat(parts, ignore_index=True)
    for name in whole:
        same_cells(whole[name], together[name])


def test_cells_can_be_given_one_for_all_or_one_a_row(synthesizer, table):
    bright = np.full((3, 4), 5, np.uint8)
    rows = synthesizer.sample(60, given={"picture": bright}, seed=1)
    same_cells(rows.picture, [bright] * 60)
    assert (rows.kind == "top").mean() > 0.7
    some = table.dropna().head(40).reset_index(drop=True)
    names = ["picture", "path", "note", "point", "size"]
    rows = synthesizer.sample(given=some[names], seed=2)
    for name in names:
        same_cells(rows[name], some[name])
    assert (rows.kind == some.kind).mean() > 0.7
    assert set(synthesizer.sample(5, given={"note": "é é", "size": 1.25})["size"]) == {1.25}


def test_gaps_are_filled_and_the_rest_left_alone(synthesizer, table):
    gaps = table.copy()
    hidden = np.random.default_rng(3).random(table.shape) < 0.3
    for k, name in enumerate(gaps):
        gaps[name] = gaps[name].astype(object).where(~hidden[:, k], None)
    gaps["size"] = gaps["size"].astype(float)
    filled = synthesizer.impute(gaps, seed=1)
    for name in table:
        assert not filled[name].isna().any()
        there = gaps[name].notna()
        same_cells(filled[name][there], gaps[name][there])


def test_probabilities_follow_the_cells(synthesizer, table):
    p = synthesizer.predict_proba(table[["picture", "note"]], "kind")
    known = table.picture.notna()
    assert (p.columns[p.to_numpy().argmax(1)] == table.kind)[known].mean() > 0.8
    nats = synthesizer.log_prob(table, by_column=True)
    assert list(nats.columns) == list(table.columns) and np.isfinite(nats.to_numpy()).all()
    np.testing.assert_allclose(nats.sum(axis=1), synthesizer.log_prob(table), rtol=1e-6)
    told = synthesizer.log_prob(table, columns=["picture"], given=["kind"])
    alone = synthesizer.log_prob(table[["picture"]], columns=["picture"])
    assert told[known].mean() > alone[known].mean() + 0.5
    orders = synthesizer.log_prob(table.head(30), orders=3)
    assert np.isfinite(orders).all()


def test_saved_and_loaded_it_is_the_same_model(synthesizer, table, tmp_path):
    synthesizer.save(tmp_path / "model")
    loaded = Synthesizer.load(tmp_path / "model")
    for name, cells in loaded.sample(20, seed=2).items():
        same_cells(cells, synthesizer.sample(20, seed=2)[name])
    np.testing.assert_array_equal(loaded.log_prob(table), synthesizer.log_prob(table))


@pytest.mark.parametrize("query", ["additive", "cross_attention"])
def test_megatrons_losses_are_those_of_scoring(table, tmp_path, query):
    from nemo_tabular.config import load_config
    from nemo_tabular.train.run import train

    store = prepare(table, tmp_path / "store", schema=schema_of(table), splits=(0.8, 0.2))
    settings = [f"{k.replace('__', '.')}={v}" for k, v in FEW.items()]
    settings += ["model.kind=cgm", "model.order=fixed", f"model.query={query}", f"run.dir={tmp_path / 'run'}"]
    result = train(load_config(overrides=settings), store)
    loaded = Synthesizer.load(tmp_path / "run")
    rows, cells = store.rows("validation"), store.cells("validation")
    all_rows = np.arange(len(rows))
    taken = {name: column.take(all_rows) for name, column in cells.items()}
    held_out = store.tokenizer.decode_codes(store.tokenizer.codes(rows), taken)
    trained = np.mean(loaded.log_prob(held_out))
    # calibration moves the head's bias after the last validation
    assert trained == pytest.approx(-result.best_nll, abs=0.5)


# ---- the command line ----


def test_the_verbs_work_on_parquet_and_refuse_csv(table, tmp_path, capsys):
    data, store, run = tmp_path / "t.parquet", tmp_path / "store", tmp_path / "run"
    pq.write_table(as_arrow(table), data)
    arguments = ["schema", str(data), "-o", str(tmp_path / "s.yaml"), "--set", "size.feature=mixture"]
    assert main([*arguments, "--set", "note.feature=text"]) == 0
    assert main(["prepare", str(data), "--schema", str(tmp_path / "s.yaml"), "-o", str(store)]) == 0
    settings = [f"{name.replace('__', '.')}={value}" for name, value in FEW.items()]
    settings += [f"data.store={store}", f"run.dir={run}"]
    capsys.readouterr()
    assert main(["train", "conf/gpt_laptop.yaml", *settings]) == 2
    told = capsys.readouterr().err
    assert "columns size, picture, point, path, note have a feature" in told and "model.kind=cgm" in told
    assert not run.exists()
    assert main(["train", "conf/cgm_laptop.yaml", *settings]) == 0
    out = tmp_path / "out.parquet"
    assert main(["generate", str(run), "--rows", "70", "-o", str(out)]) == 0
    assert pq.read_table(out).schema.types == as_arrow(table).schema.types
    given = tmp_path / "given.parquet"
    pq.write_table(as_arrow(table.dropna().head(9)).select(["picture", "note"]), given)
    assert main(["generate", str(run), "--given", str(given), "-o", str(out)]) == 0
    assert pq.read_table(out)["picture"].to_pylist() == pq.read_table(given)["picture"].to_pylist()
    assert main(["impute", str(run), str(data), "-o", str(out)]) == 0
    assert pq.read_table(out)["path"].null_count == 0
    capsys.readouterr()
    assert main(["generate", str(run), "--rows", "7", "-o", str(tmp_path / "out.csv")]) == 2
    assert "picture" in (told := capsys.readouterr().err) and ".parquet" in told


def test_only_text_and_numbers_can_be_read_from_a_csv_too(table, tmp_path):
    plain = table[["kind", "size", "note"]]
    plain.to_csv(tmp_path / "t.csv", index=False)
    synthesizer = Synthesizer("cgm", **FEW)
    reader = open_table(tmp_path / "t.csv")
    synthesizer.fit(tmp_path / "t.csv", schema=infer_schema(reader, overrides=DENSE))
    assert synthesizer.write(tmp_path / "out.csv", 30, seed=1) == 30
    assert list(pd.read_csv(tmp_path / "out.csv").columns) == ["kind", "size", "note"]


def test_reports_leave_arrays_out_and_say_so(table):
    from nemo_tabular.evaluate import evaluate

    report = evaluate(table[:200], table[200:350], table[350:], schema=schema_of(table), scores=["shapes"])
    told = str(report)
    assert "picture: its cells are arrays" in told or "picture: its cells are arrays" in str(report.notes)


# ---- what cannot be ----


def test_a_gpt_says_which_model_can(table):
    with pytest.raises(
        ConfigError, match=r"columns picture, point, path have a feature.*Synthesizer\('cgm'\)"
    ):
        Synthesizer("gpt", **FEW).fit(table.drop(columns="note"))


def test_histories_cannot_have_dense_columns(table):
    with pytest.raises(ConfigError, match=r"picture.*have a feature.*without group_by"):
        Synthesizer("cgm", **FEW).fit(table.drop(columns="note"), group_by=["kind"])


def test_a_feature_that_is_not_there_is_named(table):
    schema = schema_of(table, picture={"feature": "imagee"})
    with pytest.raises(
        FeatureError, match=r"'picture'.*no feature 'imagee' \(did you mean 'image'\?\).*entry point"
    ):
        Synthesizer("cgm", **FEW).fit(table, schema=schema)
    with pytest.raises(FeatureError, match=r"'size': feature 'image' reads cells of layout array.*real"):
        Synthesizer("cgm", **FEW).fit(table, schema=schema_of(table, size={"feature": "image"}))
    with pytest.raises(FeatureError, match=r"'size'.*no option 'componets' \(did you mean 'components'\?\)"):
        options = {"feature": "mixture", "options": {"componets": 3}}
        Synthesizer("cgm", **FEW).fit(table, schema=schema_of(table, size=options))


@pytest.fixture
def broken():
    """Register a mixture with other methods; forgotten afterwards."""
    before = dict(FEATURES)
    yield lambda name, **methods: type(name, (MixtureFeature,), {"name": name, **methods})
    FEATURES.clear()
    FEATURES.update(before)


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"loss": lambda self, x, c: x}, r"'size': feature 'broken': loss gave shape \(.*expected \("),
        ({"loss": lambda self, x, c: x[:, 0] / 0}, "'size': feature 'broken': loss is not finite for"),
        ({"encode": lambda self, c: c}, r"'size': feature 'broken': encode gave shape"),
        ({"encode": lambda self, c: torch.full((len(c), 16), torch.nan)}, "'broken': encode gave numbers"),
    ],
    ids=["loss's shape", "loss not finite", "code's shape", "code not finite"],
)
def test_a_feature_that_breaks_its_promise_is_named_with_its_column(table, broken, methods, told):
    broken("broken", **methods)
    plain = table[["kind", "size"]]
    schema = infer_schema(open_table(plain), overrides={"size": {"feature": "broken"}})
    with pytest.raises(FeatureError, match=told):
        Synthesizer("cgm", **FEW).fit(plain, schema=schema)


def test_conditions_outside_a_columns_domain_are_refused(synthesizer, table):
    for given, told in (
        ({"picture": np.full((3, 4), 9, np.uint8)}, "'picture'.*12 numbers such as 9 are outside 0 to 5"),
        ({"picture": np.zeros((2, 2), np.uint8)}, r"'picture'.*4 numbers.*shape \[3, 4\]"),
        ({"size": 1e6}, r"'size'.*1e\+06 are outside"),
        ({"size": "much"}, "'size': 'much' is not a value"),
        ({"note": "x" * 200}, "'note': a text of 200 bytes"),
        ({"path": np.zeros(9)}, "'path': a cell of 9 numbers, expected 1 to 4"),
        ({"point": ["a", "b"]}, "'point'.*no cell"),
    ):
        with pytest.raises(GenerationError, match=told):
            synthesizer.sample(3, given=given)
    odd = table.head(3).assign(size=[1e6, 0.0, 1.0])
    with pytest.raises(CodecError, match=r"'size'.*unseen='nearest'"):
        synthesizer.log_prob(odd)
    assert np.isfinite(synthesizer.log_prob(odd, unseen="nearest")).all()
    with pytest.raises(GenerationError, match=r"'picture'.*draw them instead"):
        synthesizer.predict_proba(table, "picture")


def test_tables_that_cannot_be_read_say_why(table):
    ragged = pd.DataFrame({"a": [1, 2], "m": [np.zeros((2, 2)), np.zeros((2, 3))]})
    with pytest.raises(SchemaError, match=r"'m': the array of row 2 has shape \[2, 3\]"):
        open_table(ragged)
    with pytest.raises(SchemaError, match=r"'m'.*list<item: string>.*no known column type"):
        open_table(pd.DataFrame({"a": [1, 2], "m": [["x"], ["y"]]}))
    with pytest.raises(SchemaError, match="'m': 1 numbers within its lists are missing or not finite"):
        infer_schema(open_table(pd.DataFrame({"a": [1, 2], "m": [[1.0, np.nan], [2.0, 3.0]]})))
    with pytest.raises(SchemaError, match="'kind': no feature reads cells of kind boolean"):
        infer_schema(
            open_table(pd.DataFrame({"kind": [True, False]})), overrides={"kind": {"feature": "mixture"}}
        )
    with pytest.raises(CodecError, match=r"'picture': the schema says shape \[5, 4\], 20 numbers"):
        Synthesizer("cgm", **FEW).fit(table, schema=schema_of(table, picture={"shape": [5, 4]}))
    with pytest.raises(WriteError, match="'picture'"), open_writer(table):
        pass


def open_writer(table):
    from nemo_tabular.readers import write_table

    return write_table("x.csv", schema_of(table))


def test_odd_little_tables_work():
    def tiny(**columns):
        return Synthesizer("cgm", **FEW).fit(pd.DataFrame(columns))

    alone = tiny(v=[[1.0, 2.0], [1.5, 2.5]] * 30)
    assert all(len(cell) == 2 for cell in alone.sample(5).v)
    same = tiny(v=[[1.0, 2.0]] * 60, a=[1, 2] * 30)
    assert all(((cell >= 1) & (cell <= 2)).all() for cell in same.sample(5).v)
    image = np.zeros((1, 1, 3), np.uint8)
    assert tiny(i=[image, image + 1] * 30).sample(3).i.iloc[0].shape == (1, 1, 3)
    assert len(tiny(v=[[1.0], None] * 30).sample(0)) == 0


def test_training_goes_on_from_a_model_with_dense_columns(table, tmp_path):
    """Their networks are taken over by their column's name; a table with a column more begins it afresh."""
    some = table[["kind", "picture", "size"]]
    schema = infer_schema(open_table(some), overrides={"size": DENSE["size"]})
    first = Synthesizer("cgm", **FEW, optim__lr=1e-9).fit(some, schema=schema)
    first.save(tmp_path / "model")
    more = some.assign(point=table.point).head(300)
    second = Synthesizer("cgm", **FEW, optim__lr=1e-9, model__restore_from_path=tmp_path / "model").fit(more)
    name = "features.@picture.decoder.out.weight"
    torch.testing.assert_close(second.model.tensors[name], first.model.tensors[name], rtol=0, atol=1e-6)
    assert any(tensor.startswith("features.@point.") for tensor in second.model.tensors)
    assert second.sample(3).point.iloc[0].shape == (2,)
    seen = more.dropna(subset=["picture"])
    brighter = seen.assign(picture=[cell + 9 for cell in seen.picture])
    with pytest.raises(TabularError, match="picture"):
        Synthesizer("cgm", **FEW, model__restore_from_path=tmp_path / "model").fit(brighter)
