"""Files and frames come in; the batches read, written and spooled are judged against the table itself."""

from __future__ import annotations

import datetime as dt
import gzip
import os
import subprocess
import sys
import textwrap
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.errors import SchemaError, StoreError, TabularError
from nemo_tabular.readers import BadRowsError, Spool, WriteError, open_table, write_table
from nemo_tabular.readers.csv import CsvTable
from nemo_tabular.schema import Column, Schema, infer_schema

NAN, INF = float("nan"), float("inf")


def read(source, schema: Schema | None = None, **options) -> pa.Table:
    table = open_table(source, **options)
    return pa.Table.from_batches(list(table.batches(schema)))


def everything() -> pa.Table:
    """A column of every type, with what is hard to write: empty texts, quotes, NaN, time zones."""
    return pa.table(
        {
            "s": ["", "x", None, "a,b", 'q"q', "n\nl", " 5", "NA"],
            "d": [39.0, 0.1, None, 1e300, NAN, -INF, 1e-7, -0.0],
            "i": [1, -(2**63), 2**63 - 1, None, 5, 6, 7, 8],
            "b": [True, False, None, True, True, True, True, False],
            "ts": pa.array([dt.datetime(2020, 1, 2, 3, 4, 5, 600)] * 7 + [None]),
            "tz": pa.array(
                [dt.datetime(2020, m, 2) for m in range(1, 9)], pa.timestamp("us", "Europe/Paris")
            ),
            "tm": pa.array([dt.time(1, 2, 3, 4)] * 8),
            "dec": pa.array([Decimal("1.50")] * 8),
            "f": pa.array([0.1] * 8, pa.float32()),
            "day": pa.array([dt.date(2020, 2, 29)] * 8),
            "cat": pa.array(["u", "v", None, "", "u", "v", "w", "u"]).dictionary_encode(),
        }
    )


def same(a: pa.Table, b: pa.Table) -> None:
    assert a.column_names == b.column_names
    for name in a.column_names:
        # repr tells -0.0 from 0.0 and makes NaN equal to itself
        assert [repr(v) for v in a[name].to_pylist()] == [repr(v) for v in b[name].to_pylist()], name


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.csv.gz", "t.csv.zst", "t.parquet"])
def test_what_is_written_reads_back_identically(tmp_path, name):
    table = everything()
    schema = infer_schema(open_table(table))
    with write_table(tmp_path / name) as out:
        out.write(table.slice(0, 3))
        out.write(table.slice(3))
    assert out.rows == 8
    same(read(tmp_path / name, schema), table)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"))),
            st.one_of(st.none(), st.floats(allow_nan=False)),
            st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        ),
        min_size=1,
    ),
)
def test_any_text_and_number_survives_csv(tmp_path_factory, rows):
    s, x, n = (list(c) for c in zip(*rows, strict=True))
    table = pa.table(
        {"s": pa.array(s, pa.string()), "x": pa.array(x, pa.float64()), "n": pa.array(n, pa.int64())}
    )
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    with write_table(path) as out:
        out.write(table)
    schema = Schema(
        (
            Column("s", "text", "string", "text"),
            Column("x", "float", "double", "digits"),
            Column("n", "integer", "int64", "digits"),
        )
    )
    same(read(path, schema), table)


def test_a_column_alone_keeps_its_empty_texts_and_gaps(tmp_path):
    table = pa.table({"s": ["", None, "x", None]})
    with write_table(tmp_path / "t.csv") as out:
        out.write(table)
    same(read(tmp_path / "t.csv"), table)


def test_with_a_schema_the_writer_writes_as_the_original_did(tmp_path):
    source = "day;price;gone;flag;who\n31/12/2020;1234,5;NA;No;a\n01/02/2021;-0,25;7;Yes;b\n"
    source = source.replace(";No;", ";False;").replace(";Yes;", ";True;")
    (tmp_path / "t.csv").write_text(source)
    table = open_table(tmp_path / "t.csv")
    schema = infer_schema(table)
    with write_table(tmp_path / "u.csv", schema) as out:
        for batch in table.batches(schema):
            out.write(batch)
    assert (tmp_path / "u.csv").read_text() == (
        'day,price,gone,flag,who\n31/12/2020,"1234,5",NA,False,a\n01/02/2021,"-0,25",7,True,b\n'
    )
    same(read(tmp_path / "u.csv", schema), read(tmp_path / "t.csv", schema))


@pytest.mark.parametrize(
    "texts", ["10:05 23:59", "2020-02-29T10:11 1999-12-31T00:00", "2020-02-29T10:11:12 1999-12-31T00:00:00",
              "10:05:00 23:59:01", "2020-02-29 1999-12-31"]
)  # fmt: skip
def test_times_are_written_in_the_spelling_they_were_read_in(tmp_path, texts):
    original, written = tmp_path / "original.csv", tmp_path / "written.csv"
    original.write_text("\n".join(["when", *texts.split(" ")]) + "\n")
    table = open_table(original)
    schema = infer_schema(table)
    with write_table(written, schema) as out:
        for batch in table.batches(schema):
            out.write(batch)
    assert written.read_text() == original.read_text()


def test_writing_is_all_or_nothing(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("before")
    with pytest.raises(RuntimeError), write_table(path) as out:
        out.write(pa.table({"a": [1]}))
        raise RuntimeError
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["t.csv"]


def test_unknown_suffixes_and_other_columns_are_refused(tmp_path):
    with (
        pytest.raises(WriteError, match=r"must end in .csv, .tsv .also .gz or .zst. or .parquet"),
        write_table(tmp_path / "t.xls"),
    ):
        pass
    with pytest.raises(WriteError, match="cannot follow"), write_table(tmp_path / "t.parquet") as out:
        out.write(pa.table({"a": [1]}))
        out.write(pa.table({"b": [1]}))
    with (
        pytest.raises(WriteError, match=r"cannot write .*: No such file"),
        write_table(tmp_path / "none" / "t.csv"),
    ):
        pass


def test_compressed_csv_is_read_by_its_suffix(tmp_path):
    text = b"a,b\n1,x\n2,y\n"
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(text))
    (tmp_path / "t.csv.zst").write_bytes(zstandard.compress(text))
    for name in ("t.csv.gz", "t.csv.zst"):
        assert read(tmp_path / name).to_pydict() == {"a": ["1", "2"], "b": ["x", "y"]}


def test_every_kind_of_source_gives_the_same_table(tmp_path):
    table = pa.table({"n": [1, 2, 3], "s": ["a", None, "c"]})
    pq.write_table(table, tmp_path / "t.parquet")
    pa.feather.write_feather(table, tmp_path / "t.feather")
    frame = table.to_pandas()
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    sources = [table, tmp_path / "t.parquet", tmp_path / "t.feather", frame, pl.from_arrow(table), reader]
    for source in sources:
        same(read(source), table)
        assert open_table(tmp_path / "t.parquet").column_names == ["n", "s"]


def test_folders_globs_and_lists_are_read_in_order(tmp_path):
    for i in range(3):
        (tmp_path / f"part{i}.csv").write_text(f"a\n{i}\n")
    (tmp_path / "part0.quarantine.csv").write_text("a\n99\n")
    for source in (tmp_path, str(tmp_path / "part?.csv"), [tmp_path / f"part{i}.csv" for i in range(3)]):
        assert read(source)["a"].to_pylist() == ["0", "1", "2"]
    (tmp_path / "part2.csv").write_text("b\n1\n")
    with pytest.raises(SchemaError, match=r"part2.csv has other columns than part0.csv"):
        open_table(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.csv", "no such file"),
        ("*.nothing", "no table found there"),
        ("README.md", "unknown kind of file"),
        (3, "cannot read a table from int"),
    ],
)
def test_sources_that_are_no_tables_are_refused(source, message):
    with pytest.raises(TabularError, match=message):
        open_table(Path(__file__).parents[1] / source if source == "README.md" else source)


def test_a_schema_picks_orders_and_types_the_columns(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,c\n1,x,2020-01-01\n2,y,2020-01-02\n")
    schema = Schema(
        (Column("c", "date", "date32[day]", "calendar"), Column("a", "float", "double", "digits"))
    )
    table = read(tmp_path / "t.csv", schema)
    assert table.to_pydict() == {"c": [dt.date(2020, 1, 1), dt.date(2020, 1, 2)], "a": [1.0, 2.0]}
    missing = Schema((Column("d", "float", "double", "digits"),))
    with pytest.raises(SchemaError, match=r"t.csv has no column 'd'"):
        read(tmp_path / "t.csv", missing)


def test_dictionaries_come_only_when_asked_for(tmp_path):
    (tmp_path / "t.csv").write_text("s,n\na,1\n,2\nb,3\n")
    table = open_table(tmp_path / "t.csv")
    schema = infer_schema(table)
    plain, encoded = (next(iter(table.batches(schema, dictionary=d))) for d in (False, True))
    assert str(plain.schema.types[0]) == "string"
    assert encoded.schema.types == [pa.dictionary(pa.int32(), pa.string()), pa.int64()]
    assert encoded.column(0).to_pylist() == plain.column(0).to_pylist() == ["a", None, "b"]


def test_an_empty_text_in_quotes_is_a_text_in_strings_and_missing_elsewhere(tmp_path):
    (tmp_path / "t.csv").write_text('s,n\n"",""\n,1\n')
    schema = infer_schema(open_table(tmp_path / "t.csv"))
    assert read(tmp_path / "t.csv", schema).to_pydict() == {"s": ["", None], "n": [None, 1]}


# Bad rows


def write_rows(path: Path, rows: int, bad: dict[int, str]) -> None:
    """Two integers a row; `bad` replaces rows, counted from 1."""
    path.write_text("a,b\n" + "".join(bad.get(i, f"{i},{i}") + "\n" for i in range(1, rows + 1)))


INTEGERS = Schema(
    (Column("a", "integer", "int64", "digits", False), Column("b", "integer", "int64", "digits", True))
)


def test_bad_rows_keep_their_numbers_over_blocks_and_after_dropped_rows(tmp_path):
    bad = {3: "3", 4: "4,5,6", 5000: "x,1", 5001: "5001", 9000: "1,9.5", 19999: "y,z", 20000: ",7"}
    write_rows(tmp_path / "t.csv", 20_000, bad)
    table = CsvTable(tmp_path / "t.csv", max_bad_rows=7, block_bytes=1 << 12)
    rows = pa.Table.from_batches(list(table.batches(INTEGERS)))
    assert (rows.num_rows, table.bad_rows) == (19_993, 7)
    assert rows["a"].to_pylist() == [i for i in range(1, 20_001) if i not in bad]
    found = pd.read_csv(tmp_path / "t.quarantine.csv", dtype=str)
    assert [int(n) for n in found["row"]] == sorted(bad)
    assert list(found["text"]) == [bad[n] for n in sorted(bad)]
    assert found["reason"][2] == "column 'a': 'x' is not an integer (int64)"
    assert found["reason"][6] == "column 'a' is missing, where the schema says nullable: false"


@pytest.mark.parametrize("last", [3, 5000, 19999])
def test_the_first_row_too_many_is_named(tmp_path, last):
    bad = {n: t for n, t in {3: "3", 5000: "x,1", 19999: "y,z"}.items() if n <= last}
    write_rows(tmp_path / "t.csv", 20_000, bad)
    table = CsvTable(tmp_path / "t.csv", max_bad_rows=len(bad) - 1, block_bytes=1 << 12)
    with pytest.raises(BadRowsError, match=f"^row {last:,} of t.csv: .*t.quarantine.csv.*max-bad-rows"):
        list(table.batches(INTEGERS))


def test_a_second_pass_begins_the_quarantine_file_anew(tmp_path):
    write_rows(tmp_path / "t.csv", 10, {4: "4"})
    table = open_table(tmp_path / "t.csv", max_bad_rows=1, quarantine=tmp_path / "bad.csv")
    for _ in range(2):
        assert sum(b.num_rows for b in table.batches(INTEGERS)) == 9
    assert (tmp_path / "bad.csv").read_text().count("\n") == 2


def test_frames_have_bad_rows_too(tmp_path):
    frame = pd.DataFrame({"a": [1, 2, 3], "b": [1.0, 2.5, 3.0]})
    with pytest.raises(BadRowsError, match=r"row 2 of the data frame: column 'b': '2.5' is not an integer"):
        read(frame, INTEGERS)
    assert read(frame, INTEGERS, max_bad_rows=1)["a"].to_pylist() == [1, 3]


@given(
    st.lists(
        st.sampled_from(["1", "-7", " 5", "5 ", "+5", "1.5", "abc", "0x10", "9" * 19, "007"]), min_size=1
    )
)
@settings(deadline=None)
def test_integers_are_read_or_refused_never_changed(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("a,b\n" + "".join(f"{f},1\n" for f in fields))
    good = [int(f) for f in fields if f not in ("+5", "1.5", "abc", "0x10", "9" * 19)]
    table = open_table(path, max_bad_rows=len(fields))
    assert [v for b in table.batches(INTEGERS) for v in b.column(0).to_pylist()] == good
    assert table.bad_rows == len(fields) - len(good)


# The spool


@pytest.mark.parametrize("memory_bytes", [0, 1 << 30])
def test_the_spool_gives_back_what_passed(tmp_path, memory_bytes):
    batches = [
        pa.record_batch({"s": pa.array(words).dictionary_encode(), "n": list(range(len(words)))})
        for words in (["a", "b", None], ["c"], ["b", "a"])
    ]
    with Spool(tmp_path / "folder", memory_bytes=memory_bytes) as spool:
        assert list(spool.tee(batches)) == batches
        for _ in range(2):
            assert [b.to_pydict() for b in spool.batches()] == [b.to_pydict() for b in batches]
        assert spool.rows == 6
    assert not list(tmp_path.glob("folder/*"))


FULL_DISK = """
import resource, signal, sys
import numpy as np, pyarrow as pa
from nemo_tabular.readers import Spool, write_table

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write past the limit fails like one on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
table = pa.table({"x": np.random.default_rng(0).normal(size=400_000)})
what, folder = sys.argv[1:]
try:
    if what == "spool":
        with Spool(folder, memory_bytes=0) as spool:
            for batch in table.to_batches():
                spool.write(batch)
    else:
        with write_table(folder + "/" + what) as out:
            out.write(table)
except ValueError as e:
    print(type(e).__name__, e)
"""


@pytest.mark.parametrize("what", ["t.csv", "t.csv.gz", "t.parquet", "spool"])
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, what):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FULL_DISK), what, str(tmp_path)],
        capture_output=True,
        text=True,
    )
    expected = StoreError if what == "spool" else WriteError
    assert done.stdout.startswith(expected.__name__), done.stdout + done.stderr
    assert str(tmp_path) in done.stdout and "ree space" in done.stdout
    assert not list(tmp_path.iterdir())


# Streaming

STREAMING = """
import resource, sys
from nemo_tabular.profile import profile
from nemo_tabular.readers import Spool
from nemo_tabular.readers.csv import CsvTable
from nemo_tabular.schema import infer_schema

table = CsvTable(sys.argv[1], block_bytes=1 << 17)  # small, so that a small file has many
schema = infer_schema(table, max_categories=1000)
with Spool(memory_bytes=1 << 20) as spool:
    profile(spool.tee(table.batches(schema, dictionary=True)), sample_rows=10_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_table(tmp_path):
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=100_000),
        "n": rng.integers(0, 10**9, 100_000),
        "k": rng.integers(0, 9, 100_000),
    }
    kib = []
    for copies in (4, 20):
        with write_table(tmp_path / f"{copies}.csv") as out:
            for _ in range(copies):
                out.write(pa.table(columns))
        command = [sys.executable, "-c", textwrap.dedent(STREAMING), str(tmp_path / f"{copies}.csv")]
        kib.append(int(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    grown = (tmp_path / "20.csv").stat().st_size - (tmp_path / "4.csv").stat().st_size
    assert (kib[1] - kib[0]) * 1024 < grown / 2
