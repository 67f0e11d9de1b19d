"""Tables become stores and come back; damage, strangers, interruptions and full disks are named."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_table import fitted, mixed_table, schema_of, tokenizer_of

from nemo_tabular.errors import CodecError, ConfigError, StoreError
from nemo_tabular.store import TokenStore, prepare
from nemo_tabular.store import groups as groups_module
from nemo_tabular.store.groups import row_hash
from nemo_tabular.tokenizer import BOS, EOD

SPLITS = (0.8, 0.1, 0.1)


@pytest.fixture
def table() -> pa.Table:
    return fitted()[0]


@pytest.fixture
def store(table, tmp_path) -> TokenStore:
    return prepare(table, tmp_path / "store", tokenizer=fitted()[1], splits=SPLITS, seed=3)


def rows_of(store: TokenStore) -> pa.Table:
    """All rows of a store of whatever mode, decoded, each document's in order."""
    parts = []
    for split in store.splits:
        documents = store.documents(split)
        parts += [store.tokenizer.decode(documents.document(d)) for d in range(len(documents))]
    return pa.concat_tables(parts)


def in_order(table: pa.Table) -> pa.Table:
    """Sorted by its row number, without the column that is not exact."""
    return table.drop_columns(["score"]).sort_by("visit").combine_chunks()


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if ".tmp-" in p.name]


# --- rows ---


def test_every_row_is_in_exactly_one_split(table, store):
    assert store.manifest.mode == "rows"
    assert sum(size.rows for size in store.manifest.splits.values()) == table.num_rows
    assert in_order(rows_of(store)).equals(in_order(table))


def test_rows_are_views_in_the_tables_order(table, store):
    rows = store.rows("train")
    assert rows.dtype == store.tokenizer.dtype and isinstance(rows.base, np.memmap)
    visits = store.tokenizer.decode(rows)["visit"].to_pylist()
    assert visits == sorted(visits)
    whole = np.memmap(store.path / "train.bin", rows.dtype, "r").reshape(len(rows), -1)
    assert (whole[:, 0] == BOS).all() and (whole[:, -1] == EOD).all()


def test_marginal_counts_are_those_of_the_training_rows(store):
    codes = store.tokenizer.codes(store.rows("train"))
    for slot, counts in enumerate(store.marginal_counts):
        assert (counts == np.bincount(codes[:, slot], minlength=store.tokenizer.slot_sizes[slot])).all()


@pytest.mark.parametrize("mode", ["rows", "documents"])
def test_stock_megatron_reads_every_token(tmp_path, mode):
    from nemo_tabular.engine import cpu

    cpu.install()
    indexed = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    table = mixed_table()
    documents = {"group_by": ("customer",), "order_by": ("visit",)} if mode == "documents" else {}
    store = prepare(table, tmp_path / "s", schema=schema_of(table, **documents), splits=SPLITS)
    assert store.manifest.mode == mode
    for split in store.splits:
        theirs, ours = indexed.IndexedDataset(str(store.path / split)), store.documents(split)
        assert len(theirs) == len(ours) == store.manifest.splits[split].documents
        assert (theirs.document_indices == np.arange(len(ours) + 1)).all()
        assert theirs.index.dtype == store.tokenizer.dtype
        for d in range(len(ours)):
            expected = [BOS, *ours.document(d).reshape(-1).tolist(), EOD]
            assert theirs[d].tolist() == expected


def test_split_depends_on_seed_and_row_alone(table, tmp_path):
    def visits(seed, some):
        out = tmp_path / "s"
        store = prepare(some, out, tokenizer=fitted()[1], splits=(0.5, 0.5), seed=seed, overwrite=True)
        return store.tokenizer.decode(store.rows("train"))["visit"].to_pylist()

    first = visits(0, table)
    assert visits(0, table.slice(0, 200)) == [v for v in first if v < 200]
    assert visits(1, table) != first
    assert 200 < len(first) < 300
    assert 0 in first and 0 in visits(5, table)


def test_same_input_gives_the_same_store(table, tmp_path):
    stores = [prepare(table, tmp_path / name, splits=SPLITS, seed=3) for name in "ab"]
    assert stores[0].fingerprint() == stores[1].fingerprint()
    assert prepare(table, tmp_path / "c", splits=SPLITS, seed=4).fingerprint() != stores[0].fingerprint()


def test_csv_is_parsed_once(table, tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    pc.write_csv(table, path)
    from nemo_tabular.readers import open_table

    reader = open_table(path)
    calls = []
    original = reader.batches
    monkeypatch.setattr(reader, "batches", lambda *a, **k: calls.append(a) or original(*a, **k))
    store = prepare(reader, tmp_path / "s", schema=schema_of(table))
    assert len(calls) == 1
    assert in_order(rows_of(store)).equals(in_order(table))
    assert store.manifest.source == "t.csv"


def test_schema_is_inferred_if_there_is_none(table, tmp_path):
    path = tmp_path / "t.csv"
    pc.write_csv(table, path)
    assert in_order(rows_of(prepare(path, tmp_path / "s"))).equals(in_order(table))


def test_a_table_of_one_row_trains(tmp_path):
    store = prepare(pa.table({"a": ["x"]}), tmp_path / "s", splits=(0.01, 0.99))
    assert store.splits == ("train",) and len(store.rows("train")) == 1
    assert len(store.rows("validation")) == 0 and len(store.documents("validation")) == 0
    assert TokenStore.open(store.path).manifest == store.manifest


def test_wide_ids(tmp_path):
    words = [f"w{i % 20_000}" for i in range(41_000)]
    table = pa.table({name: words for name in "abcd"})
    store = prepare(table, tmp_path / "s", tokenizer=tokenizer_of(table))
    assert store.rows("train").dtype == np.int32
    assert len(store.rows("train")) + len(store.rows("validation")) == 41_000


@pytest.mark.parametrize("splits", [(0.5,), (0.5, 0.6), (0.0, 1.0), (1.1, -0.1), (), (0.7, 0.1, 0.1, 0.1)])
def test_splits_that_are_no_shares(table, tmp_path, splits):
    with pytest.raises(ConfigError, match="shares of train, validation and test"):
        prepare(table, tmp_path / "s", splits=splits)
    assert not list(tmp_path.iterdir())


# --- documents ---


def check_documents(store: TokenStore, table: pa.Table, group: str, order: str) -> None:
    groups, owner = [], dict(zip(table[order].to_pylist(), table[group].to_pylist(), strict=True))
    for split in store.splits:
        documents = store.documents(split)
        assert documents.rows.sum() == store.manifest.splits[split].rows
        for d in range(len(documents)):
            rows = store.tokenizer.decode(documents.document(d))
            assert len(rows) == documents.rows[d]
            order_values = rows[order].to_pylist()
            names = {owner[value] for value in order_values}
            assert len(names) == 1
            groups += names
            assert order_values == sorted(order_values)
    assert sorted(groups) == sorted(table[group].unique().to_pylist())
    assert in_order(rows_of(store)).equals(in_order(table.drop_columns([group])))


@pytest.mark.parametrize("bucket_bytes", [64 << 20, 4096])
@pytest.mark.parametrize("arrangement", ["sorted", "shuffled", "backwards within", "scattered"])
def test_documents_are_groups_in_order(tmp_path, monkeypatch, arrangement, bucket_bytes):
    monkeypatch.setattr(groups_module, "BUCKET_BYTES", bucket_bytes)
    monkeypatch.setattr("nemo_tabular.readers.arrow.BATCH_ROWS", 97)
    table = mixed_table()
    schema = schema_of(table, group_by=("customer",), order_by=("visit",))
    r = np.random.default_rng(0)
    order = {
        "sorted": np.arange(len(table)),
        "shuffled": r.permutation(len(table)),
        "backwards within": np.lexsort((-np.arange(len(table)), table["customer"].to_numpy())),
        "scattered": np.argsort(np.arange(len(table)) % 5, kind="stable"),
    }[arrangement]
    store = prepare(table.take(order), tmp_path / "s", schema=schema, splits=SPLITS)
    check_documents(store, table, "customer", "visit")
    assert leftovers(tmp_path) == []


def test_groups_of_text_and_missing_values(tmp_path, monkeypatch):
    monkeypatch.setattr(groups_module, "BUCKET_BYTES", 4096)
    table = mixed_table()
    store = prepare(table, tmp_path / "s", schema=schema_of(table, group_by=("color", "open")))
    documents = sum(size.documents for size in store.manifest.splits.values())
    assert documents == len(table.group_by(["color", "open"]).aggregate([]))
    assert in_order(rows_of(store)).equals(in_order(table.drop_columns(["color", "open"])))


def test_only_order_by_makes_one_document(tmp_path):
    table = mixed_table()
    shuffled = table.take(np.random.default_rng(0).permutation(len(table)))
    store = prepare(shuffled, tmp_path / "s", schema=schema_of(table, order_by=("visit",)))
    documents = store.documents("train")
    assert len(documents) == 1
    visits = store.tokenizer.decode(documents.document(0))["visit"].to_pylist()
    assert visits == list(range(len(table)))


def test_document_split_depends_on_the_group_alone(tmp_path):
    table = mixed_table()
    schema = schema_of(table, group_by=("customer",), order_by=("visit",))

    def trained(some, name):
        store = prepare(some, tmp_path / name, schema=schema, tokenizer=None, splits=(0.5, 0.5))
        documents = store.documents("train")
        visits = {
            store.tokenizer.decode(documents.document(d))["visit"][0].as_py() for d in range(len(documents))
        }
        assert "customer" not in store.tokenizer.columns
        return visits

    first = trained(table, "a")
    moved = pa.concat_tables([table.slice(0, 1), table.slice(1).take(np.arange(len(table) - 1)[::-1])])
    assert 20 < len(first) < len(table.group_by("customer").aggregate([])) - 20
    assert trained(moved, "b") == first


def test_rows_of_a_document_store_are_refused(tmp_path):
    table = mixed_table()
    store = prepare(table, tmp_path / "s", schema=schema_of(table, group_by=("customer",)))
    with pytest.raises(StoreError, match="holds documents of many rows"):
        store.rows("train")


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 11))
def test_windows_score_every_row_and_every_end_once(max_rows, stride):
    documents = window_documents()
    if stride >= max_rows:
        with pytest.raises(ConfigError, match="less than max_rows"):
            documents.windows(max_rows, stride)
        return
    windows = documents.windows(max_rows, stride)
    scored, ends = {d: [] for d in range(len(documents))}, []
    for d, first, rows, context, last in zip(
        windows.document, windows.first_row, windows.rows, windows.context, windows.last, strict=True
    ):
        assert 0 < rows <= max_rows and 0 <= context <= rows
        assert context > 0 or first == 0
        # a full window never ends its document: generation slides on before it draws what comes next
        assert last == (first + rows == documents.rows[d] and rows < max_rows)
        scored[d] += range(first + context, first + rows)
        ends += [d] * int(last)
    assert scored == {d: list(range(rows)) for d, rows in enumerate(documents.rows)}
    assert ends == list(range(len(documents)))


def window_documents():
    from nemo_tabular.store import Documents

    rows = np.array([1, 2, 5, 11, 12, 13, 40, 7])
    return Documents(np.empty(0, np.uint16), np.cumsum(rows) * 3, rows, 3)


def test_row_hash_is_that_of_the_values_not_of_their_batch():
    words = ["", "a", "ab", "ba", None, "süß", "a", "longer than the others by far"]
    batch = pa.record_batch({"w": words, "n": [0, 1, 2, 3, None, 5, 1, 7]})
    whole = row_hash(batch, ["w", "n"])
    assert len(set(whole.tolist())) == 7 and whole[1] == whole[6]
    pieces = [row_hash(batch.slice(i, 1), ["w", "n"])[0] for i in range(8)]
    assert whole.tolist() == [int(p) for p in pieces]
    dictionary = batch.set_column(0, "w", batch["w"].dictionary_encode())
    assert (row_hash(dictionary, ["w", "n"]) == whole).all()


# --- damage and strangers ---


FILES = ["manifest.json", "tokenizer.json", "counts.npy", "train.bin", "train.idx", "validation.bin"]


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_anywhere_is_an_error_that_names_the_file(store, name):
    path = store.path / name
    whole = path.read_bytes()
    for place in np.linspace(0, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(StoreError) as error:
            TokenStore.open(store.path)
        assert name in str(error.value), f"byte {place}: {error.value}"
    path.write_bytes(whole)
    TokenStore.open(store.path)


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_off_or_missing_is_an_error_even_unverified(store, name):
    path = store.path / name
    whole = path.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError) as error:
            TokenStore.open(store.path, verify=False)
        assert name in str(error.value)
    path.unlink()
    with pytest.raises(StoreError, match=name):
        TokenStore.open(store.path, verify=False)


def test_the_tokenizer_of_another_store(store, tmp_path):
    other = prepare(mixed_table(seed=1), tmp_path / "other")
    with pytest.raises(StoreError, match="was written by another tokenizer"):
        store.require(other.tokenizer)
    store.require(fitted()[1])
    shutil.copy(other.path / "tokenizer.json", store.path)
    with pytest.raises(StoreError, match=r"tokenizer\.json belongs to another store"):
        TokenStore.open(store.path)


def test_folders_that_are_no_store(tmp_path):
    with pytest.raises(StoreError, match="no such folder"):
        TokenStore.open(tmp_path / "nothing")
    with pytest.raises(StoreError, match="not a store, or was interrupted"):
        TokenStore.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(StoreError, match="format 'other'"):
        TokenStore.open(tmp_path)


def test_an_unknown_split_is_named(store):
    with pytest.raises(StoreError, match=r"no split 'valid' \(did you mean 'validation'\?\)"):
        store.rows("valid")


# --- nothing is overwritten, half written, or left behind ---


def test_what_is_there_is_not_overwritten(table, store, tmp_path):
    tokenizer = fitted()[1]
    with pytest.raises(StoreError, match="exists and is not empty"):
        prepare(table, store.path, tokenizer=tokenizer)
    before = store.fingerprint()
    after = prepare(table, store.path, tokenizer=tokenizer, overwrite=True, seed=9)
    assert after.fingerprint() != before and TokenStore.open(store.path).manifest.seed == 9
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("x")
    with pytest.raises(StoreError, match="not a token store"):
        prepare(table, precious, tokenizer=tokenizer, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["precious", "store"]


def test_an_empty_folder_is_taken(table, tmp_path):
    (tmp_path / "s").mkdir()
    assert len(prepare(table, tmp_path / "s", tokenizer=fitted()[1]).splits) == 2


def test_an_error_leaves_nothing_and_keeps_the_old_store(table, store, tmp_path):
    before = store.fingerprint()
    purple = table.set_column(5, "color", pa.array(["red"] * 499 + ["purple"]))
    with pytest.raises(CodecError, match="purple"):
        prepare(purple, store.path, tokenizer=fitted()[1], overwrite=True)
    assert TokenStore.open(store.path).fingerprint() == before
    assert leftovers(tmp_path) == []


def test_schema_and_tokenizer_that_do_not_belong_together(table, tmp_path):
    schema = replace(schema_of(table), group_by=("customer",))
    with pytest.raises(ConfigError, match="do not belong together"):
        prepare(table, tmp_path / "s", schema=schema, tokenizer=fitted()[1])


def run(script: str, *arguments: object, **options) -> subprocess.Popen:
    """A process of its own, for what must not happen to pytest."""
    head = "import sys, numpy as np, pyarrow as pa\nfrom nemo_tabular.store import prepare\n"
    path = os.pathsep.join([str(Path(__file__).parent.parent), str(Path(__file__).parent)])
    command = [sys.executable, "-c", head + textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, text=True, **options)


BIG = """
    table = pa.table({"a": np.arange(400_000) % 977, "b": np.arange(400_000) % 31})
"""


@pytest.mark.parametrize("limit", [300_000, 3_000_000, 6_500_000])
def test_a_file_that_cannot_grow_is_an_error_that_says_so(tmp_path, limit):
    """The kernel refuses to write on: as on a full disk or over a quota, without being root."""
    script = (
        BIG
        + """
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    prepare(table, sys.argv[1])
    """
    )
    process = run(script, tmp_path / "s", limit, stderr=subprocess.PIPE)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    last = errors.strip().splitlines()[-1]
    assert "StoreError" in last and "could not be written: File too large" in last
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_on_the_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    try:
        table = pa.table({"a": np.arange(400_000) % 977, "b": np.arange(400_000) % 31})
        with pytest.raises(
            StoreError, match=r"could not be written: No space left on device.*free some space"
        ):
            prepare(table, disk / "s")
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("delay", [0.0, 0.03, 0.1, 0.3])
def test_killed_at_any_moment_there_is_a_whole_store_or_none(tmp_path, delay):
    script = (
        BIG
        + """
    schema = __import__("nemo_tabular.schema").schema.infer_schema(
        __import__("nemo_tabular.readers").readers.open_table(table), group_by=["a"], order_by=["b"])
    print("begin", flush=True)
    prepare(table, sys.argv[1], schema=schema)
    """
    )
    process = run(script, tmp_path / "s", stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    if (tmp_path / "s").exists():
        TokenStore.open(tmp_path / "s")
    for name in leftovers(tmp_path):
        if not (tmp_path / name / "manifest.json").exists():
            with pytest.raises(StoreError, match="not a store, or was interrupted"):
                TokenStore.open(tmp_path / name)
    table = mixed_table(50)
    assert prepare(table, tmp_path / "s", overwrite=True).manifest.splits["train"].rows > 0


def test_memory_does_not_grow_with_the_table(tmp_path):
    """Twice the rows, at most a little more memory: the peak of prepare in a process of its own."""
    script = """
    import resource
    from nemo_tabular.readers import open_table
    from nemo_tabular.schema import infer_schema
    def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    infer_schema(open_table(sys.argv[1]))
    before = peak()
    prepare(sys.argv[1], sys.argv[2])
    print(peak() - before)
    """
    peaks = []
    for rows in (300_000, 900_000):
        path = tmp_path / f"{rows}.csv"
        r = np.random.default_rng(0)
        pc.write_csv(pa.table({f"c{i}": r.integers(0, 100_000, rows) for i in range(6)}), path)
        process = run(script, path, tmp_path / f"s{rows}", stdout=subprocess.PIPE)
        peaks.append(int(process.communicate(timeout=300)[0]) / 1024)
    assert peaks[1] < peaks[0] + 60, f"{peaks} MB"
