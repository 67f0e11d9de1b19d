"""Tables in memory and on disk come in; the inferred schema, its reasons and its YAML are judged."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nemo_tabular.errors import SchemaError
from nemo_tabular.readers import open_table
from nemo_tabular.readers.csv import CsvTable
from nemo_tabular.schema import Column, Schema, infer_schema

DATA = Path(__file__).parents[2] / "shared" / "data"


def column_of(tmp_path: Path, values: list[str], name: str = "x", **overrides) -> Column:
    """The inferred Column of a CSV with one column of these fields, written as they are."""
    path = tmp_path / "t.csv"
    path.write_text("\n".join([name, *values]) + "\n")
    return infer_schema(open_table(path), overrides={name: overrides} if overrides else None).columns[0]


@pytest.mark.parametrize(
    ("fields", "kind", "type", "codec"),
    [
        (["red", "blue", "red"], "category", "string", "category"),
        (["1", "2", "2"], "integer", "int64", "values"),
        (["1", " 2", "2 "], "integer", "int64", "values"),
        ([str(i) for i in range(60)], "integer", "int64", "digits"),
        ([str(i % 25) for i in range(60)], "integer", "int64", "values"),
        (["1.5", "2.25", "-3"], "decimal", "double", "values"),
        (["1e-7", "2.5e10", "3"], "float", "double", "values"),
        (["0.1234567890123456", "0.2", "3"], "float", "double", "values"),
        (["inf", "-inf", "1.5"], "decimal", "double", "values"),
        (["true", "false", "true"], "boolean", "bool", "category"),
        (["True", "False", "True"], "boolean", "bool", "category"),
        (["2020-02-29", "1999-12-31"], "date", "date32[day]", "calendar"),
        (["2020-02", "1999-12"], "date", "date32[day]", "calendar"),
        (["2020-02-29 10:11:12", "1999-12-31T00:00:00.5"], "timestamp", "timestamp[us]", "calendar"),
        (["2020-02-29 10:11:12.123456789"], "timestamp", "timestamp[ns]", "calendar"),
        (["2020-02-29T10:11:12Z"], "timestamp", "timestamp[us, tz=UTC]", "calendar"),
        (["2020-02-29T10:11:12-05:00"], "timestamp", "timestamp[us, tz=-05:00]", "calendar"),
        (["10:05", "23:59"], "time", "time64[us]", "calendar"),
        (["12/31/2020", "01/02/2021"], "date", "date32[day]", "calendar"),
        (["31/12/20 22:15", "01/02/21 00:00"], "timestamp", "timestamp[us]", "calendar"),
        (['"Jan 3, 2020"', '"Feb 14, 2021"'], "date", "date32[day]", "calendar"),
        (["03.04.2020", "05.06.2021"], "date", "date32[day]", "calendar"),
        (["00501", "10001"], "code", "string", "category"),
        (["0x1F", "0x2A"], "category", "string", "category"),
        (["+4912345", "+4967890"], "category", "string", "category"),
        (["18446744073709551617", "5"], "code", "string", "category"),
        (["12345678901234567.89", "1.50"], "decimal", "decimal128(38, 2)", "values"),
        (["$12.50", "$-3.25"], "decimal", "double", "values"),
        (["12 %", "15.5 %"], "decimal", "double", "values"),
        (["1 234", "5"], "category", "string", "category"),
    ],
)
def test_kind_type_and_codec_follow_from_the_texts(tmp_path, fields, kind, type, codec):
    found = column_of(tmp_path, fields)
    assert (found.kind, found.type, found.codec) == (kind, type, codec)
    assert not found.nullable


def test_every_column_says_why_with_its_evidence(tmp_path):
    path = tmp_path / "t.csv"
    rows = [f"{i % 73 + 17},{i * 37 % 99999:05d},{i % 7}.5,name{i % 9}" for i in range(1000)]
    path.write_text("age,zip,score,who\n" + "\n".join(rows) + "\n")
    why = {c.name: c.why for c in infer_schema(open_table(path)).columns}
    assert why["age"] == "73 distinct integers between 17 and 89: one token each"
    zeros = sum(row.split(",")[1].startswith("0") for row in rows)
    assert why["zip"] == f"leading zeros in {zeros} of 1,000 values: kept as text code, a token a character"
    assert why["score"] == "7 distinct decimals between 0.5 and 6.5: one token each; at most 1 decimal"
    assert why["who"] == "9 distinct texts such as 'name0', 'name1', 'name2': one token each"


def test_few_distinct_numbers_are_values_only_when_they_repeat(tmp_path):
    assert column_of(tmp_path, [str(i % 256) for i in range(1000)]).codec == "values"
    assert column_of(tmp_path, [str(i % 257) for i in range(1000)]).codec == "digits"
    assert column_of(tmp_path, [str(i) for i in range(100)]).codec == "digits"
    assert column_of(tmp_path, [str(i) for i in range(50)]).codec == "values"


def test_integers_too_far_apart_for_digits_get_a_token_each_when_they_repeat(tmp_path):
    wide = [str((i % 300 - 150) * 2**55) for i in range(1000)]
    assert column_of(tmp_path, wide).codec == "values"


@pytest.mark.parametrize(
    ("fields", "marks", "nullable"),
    [
        (["1", "NA", "3", "NA", "?"], ("NA", "?", ""), True),
        (["1", "", "NA"], ("", "NA"), True),
        (["1.5", "NaN", "2.5"], ("NaN", ""), True),  # no empty field: NaN is how this file says missing
        (["1.5,1", "NaN,1", ",1"], ("",), True),  # empty fields say missing, so NaN is a number
        (["2020-01-01", "N/A"], ("N/A", ""), True),
        (["x", "NA", "?"], ("",), False),  # in a column of texts they are texts
    ],
)
def test_words_for_missing_are_proposed_for_numbers_and_dates_only(tmp_path, fields, marks, nullable):
    width = fields[0].count(",") + 1
    path = tmp_path / "t.csv"
    path.write_text(",".join("xyz"[:width]) + "\n" + "\n".join(fields) + "\n")
    if width == 1:
        path.write_text("x,y\n" + "\n".join(f"{f},1" for f in fields) + "\n")
    found = infer_schema(open_table(path)).columns[0]
    assert (found.missing_values, found.nullable) == (marks, nullable)


def test_day_and_month_are_decided_by_any_row_of_the_column(tmp_path):
    found = column_of(tmp_path, ["03/04/2020"] * 500 + ["13/04/2020"] + ["05/06/2020"] * 500)
    assert found.format == "%d/%m/%Y"
    assert "decided by '13/04/2020' in row 501" in found.why


def test_a_decimal_comma_is_recognised(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("price;n\n1234,56;1\n0,5;2\n-3,25;3\n")
    table = open_table(path)
    schema = infer_schema(table)
    assert (schema.columns[0].kind, schema.columns[0].decimal) == ("decimal", ",")
    assert pa.Table.from_batches(list(table.batches(schema)))["price"].to_pylist() == [1234.56, 0.5, -3.25]


def test_marks_of_thousands_are_recognised(tmp_path):
    found = column_of(tmp_path, ['"1,234,567"', '"12"', '"1,000"'])
    assert (found.kind, found.type, found.thousands) == ("integer", "int64", ",")


def test_short_text_is_text_and_many_texts_that_repeat_are_categories(tmp_path):
    assert column_of(tmp_path, [f"n{i}" for i in range(200)]).codec == "text"
    assert column_of(tmp_path, [f"n{i % 4000}" for i in range(20_000)]).codec == "category"


def test_overrides_are_taken_as_given(tmp_path):
    assert column_of(tmp_path, ["03/04/2020", "05/06/2021"], format="%d/%m/%Y").kind == "date"
    assert column_of(tmp_path, ["1", "2"], kind="category").type == "string"
    assert column_of(tmp_path, ["1", "2"], codec="digits", options={"base": 10}).options == {"base": 10}
    assert column_of(tmp_path, ["a", "?"], missing_values=["?"]).nullable
    ids = [f"user{i}" for i in range(2000)]
    assert column_of(tmp_path, ids, codec="text").kind == "text"
    zone = column_of(
        tmp_path,
        ["2020-01-01T00:00:00+01:00", "2020-07-01T00:00:00+02:00"],
        type="timestamp[us, tz=Europe/Paris]",
    )
    assert (zone.kind, zone.codec) == ("timestamp", "calendar")


def test_overrides_and_drop_name_the_nearest_column(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("amount,day\n1,2\n")
    with pytest.raises(SchemaError, match=r"overrides: t.csv has no column 'amuont' .did you mean 'amount'"):
        infer_schema(open_table(path), overrides={"amuont": {}})
    with pytest.raises(SchemaError, match=r"drop: t.csv has no column 'dya' .did you mean 'day'"):
        infer_schema(open_table(path), drop=["dya"])
    with pytest.raises(SchemaError, match=r"unknown key 'knid' .did you mean 'kind'"):
        infer_schema(open_table(path), overrides={"day": {"knid": "date"}})
    with pytest.raises(SchemaError, match="every column is dropped"):
        infer_schema(open_table(path), drop=["day", "amount"])
    assert infer_schema(open_table(path), drop=["day"]).names == ("amount",)


def test_the_whole_table_is_read_not_its_first_rows(tmp_path):
    found = column_of(tmp_path, ["1"] * 400_000 + ["2.5"])
    assert (found.kind, found.codec) == ("decimal", "values")


@pytest.mark.parametrize("block_bytes", [1 << 16, 1 << 22])
@pytest.mark.parametrize(
    ("late", "kind"),
    [
        ([], "integer"),
        (["0.5"], "decimal"),
        (["99999999999999999999"], "code"),
        (["007"], "code"),
        (["007", *map(str, range(20_000)), "0.5"], "code"),
        (["-12.75", *map(str, range(20_000)), "1e-30"], "float"),
    ],
)
def test_readings_change_after_distinct_texts_overflow(tmp_path, block_bytes, late, kind):
    path = tmp_path / "t.csv"
    path.write_text("x\n" + "".join(f"{i}\n" for i in [*range(70_000), *late]))
    found = infer_schema(CsvTable(path, block_bytes=block_bytes), max_categories=1000).columns[0]
    assert found.kind == kind
    if "-12.75" in late:
        assert "between -12.75 and 69999" in found.why


def test_frames_keep_their_types():
    frame = pd.DataFrame(
        {
            "cat": pd.Categorical(["a", "b", None]),
            "word": ["x", "y", None],
            "zip": ["00501", "10001", "10002"],
            "nullable": pd.array([1, None, 3], "Int32"),
            "flag": [True, False, True],
            "when": pd.to_datetime(["2020-01-01", "2020-07-01", None]).tz_localize("Europe/Paris"),
            "iso": ["2020-01-01T00:00:00Z", "2020-07-01T00:00:00Z", None],
            "price": [1.25, 2.5, float("nan")],
            "small": pd.Series([1, 2, 3], dtype="uint8"),
        }
    )
    schema = infer_schema(open_table(frame))
    got = {c.name: (c.kind, c.type, c.nullable) for c in schema.columns}
    assert got == {
        "cat": ("category", "string", True),
        "word": ("category", "string", True),
        "zip": ("category", "string", False),
        "nullable": ("integer", "int32", True),
        "flag": ("boolean", "bool", False),
        "when": ("timestamp", "timestamp[ns, tz=Europe/Paris]", True),
        "iso": ("timestamp", "timestamp[us, tz=UTC]", True),
        "price": ("decimal", "double", True),
        "small": ("integer", "uint8", False),
    }
    table = pa.Table.from_batches(list(open_table(frame).batches(schema)))
    assert [str(t) for t in table.schema.types] == [c.type for c in schema.columns]


def test_polars_frames_and_arrow_tables_give_the_same_schema(tmp_path):
    columns = {"n": [1, 2, 3], "s": ["a", "b", None], "d": [dt.date(2020, 1, i) for i in (1, 2, 3)]}
    from_arrow = infer_schema(open_table(pa.table(columns)))
    assert infer_schema(open_table(pl.DataFrame(columns))) == from_arrow
    assert [c.kind for c in from_arrow.columns] == ["integer", "category", "date"]


def test_yaml_comes_back_and_can_be_edited(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("id,when,n,on\n1,03/13/2020,NA,a\n1,04/01/2020,5,b\n")
    schema = infer_schema(open_table(path), group_by=["id"], order_by=["when"])
    schema.to_yaml(tmp_path / "s.yaml")
    assert Schema.from_yaml(tmp_path / "s.yaml") == schema
    text = (
        (tmp_path / "s.yaml")
        .read_text()
        .replace("kind: category", "kind: text")
        .replace("codec: category", "codec: text")
    )
    (tmp_path / "s.yaml").write_text(text)
    edited = Schema.from_yaml(tmp_path / "s.yaml")
    assert edited.column("on").codec == "text"
    assert edited.fingerprint() != schema.fingerprint()


@pytest.mark.parametrize(
    ("keys", "kind", "type_"),
    [
        ([f"customer number {i:05}, of the second branch" for i in range(1500)], "text", "string"),
        ([f"{i:05}" for i in range(1500)], "text", "string"),
        ([str(i) for i in range(1500)], "integer", "int64"),
        ([str(i) for i in range(1499)] + ["x"], "text", "string"),
        ([f"1,{i % 999:03}" for i in range(1500)], "text", "string"),
        ([f"0{1 + i % 9}/0{1 + i % 8}/2020" for i in range(1500)], "text", "string"),
    ],
)
def test_a_key_of_documents_may_be_an_id(tmp_path, keys, kind, type_):
    path = tmp_path / "t.csv"
    path.write_text("key,n\n" + "".join(f'"{key}",{i % 7}\n' for i, key in enumerate(keys)))
    key = infer_schema(open_table(path), group_by=["key"]).column("key")
    assert (key.kind, key.type) == (kind, type_) and "which document" in key.why
    typed = infer_schema(open_table(pa.table({"key": keys, "n": range(len(keys))})), group_by=["key"])
    assert typed.column("key").type == "string"
    assert [c.name for c in typed.coded] == ["n"]


def test_the_fingerprint_ignores_reasons_and_rows():
    one = Schema((Column("a", "integer", "int64", "values", why="x"),), rows=3)
    two = Schema((Column("a", "integer", "int64", "values", why="y"),), rows=4)
    other = Schema((Column("a", "integer", "int64", "digits", why="x"),), rows=3)
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("columns: []", "at least one column"),
        (
            "columns: [{name: a, kind: integr, codec: digits}]",
            "kind 'integr' is not known .did you mean 'integer'",
        ),
        (
            "columns: [{name: a, kind: integer, codec: digit}]",
            "codec 'digit' is not known .did you mean 'digits'",
        ),
        ("columns: [{name: a, kind: integer}]", "column 'a': needs a codec"),
        ("columns: [{name: a, kind: integer, codec: digits, type: int46}]", "type 'int46' is not known"),
        (
            "columns: [{name: a, kind: text, codec: text, nulable: true}]",
            "unknown key 'nulable' .did you mean 'nullable'",
        ),
        (
            "columns: [{name: on, kind: text, codec: text}, {name: on, kind: text, codec: text}]",
            "needs a name that is text",
        ),
        ("columns: [{name: a, kind: text, codec: text}]\ngroup_by: [b]", "column 'b' is not in the schema"),
        ("columns: [{name: a, kind: text, codec: text}]\ngroup_by: [a]", r"group_by \['a'\] leaves no other"),
        (
            "columns: [{name: a, kind: text, codec: text}, {name: a, kind: text, codec: text}]",
            "two columns called 'a'",
        ),
        (
            "columns: [{name: a, kind: text, codec: text, missing_values: [1]}]",
            "1 is not text; put it in quotes",
        ),
        ("columns: [{name: a, kind: text, codec: text, nullable: 'yes'}]", "nullable must be true or false"),
        ("colums: []", "a list called columns"),
        ("{", "is not YAML"),
    ],
)
def test_an_edited_schema_is_checked(tmp_path, text, message):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(SchemaError, match=message) as caught:
        Schema.from_yaml(tmp_path / "s.yaml")
    assert "s.yaml" in str(caught.value)


def test_a_pickle_is_not_a_schema(tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"\x80\x04N.")
    with pytest.raises(SchemaError, match=r"s\.yaml is a pickle, not YAML"):
        Schema.from_yaml(tmp_path / "s.yaml")
    with pytest.raises(SchemaError, match="cannot read the schema"):
        Schema.from_yaml(tmp_path / "none.yaml")


def test_an_unknown_column_names_the_nearest():
    schema = Schema((Column("amount", "float", "double", "digits"),))
    with pytest.raises(SchemaError, match=r"'amont' is not in the schema .did you mean 'amount'"):
        schema.column("amont")


TABLES = sorted([*DATA.glob("*/*.csv.gz"), *DATA.glob("*/*.parquet")])


@pytest.mark.skipif(not TABLES, reason="the shared data sets are not here")
@pytest.mark.parametrize("path", TABLES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shared_table_is_inferred_without_help(path):
    table = open_table(path)
    schema = infer_schema(table)
    assert list(schema.names) == table.column_names
    first = next(iter(table.batches(schema)))
    assert [str(t) for t in first.schema.types] == [c.type for c in schema.columns]
    assert all(c.why for c in schema.columns)


@pytest.mark.skipif(not TABLES, reason="the shared data sets are not here")
def test_adult_is_what_a_person_would_say():
    kinds = {
        c.name: (c.kind, c.codec) for c in infer_schema(open_table(DATA / "adult/adult_train.csv.gz")).columns
    }
    assert kinds["age"] == ("integer", "values")
    assert kinds["fnlwgt"] == ("integer", "digits")
    assert kinds["native_country"] == kinds["income"] == ("category", "category")
