"""Tables as the world sends them come in, one test for each way they are broken.
The message that leaves, or the value, is judged."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nemo_tabular.errors import SchemaError, TabularError
from nemo_tabular.readers import BadRowsError, open_table
from nemo_tabular.schema import Column, Schema, infer_schema

DIGITS = Schema((Column("x", "float", "double", "digits"),))


@pytest.fixture
def csv(tmp_path):
    """Writes a CSV file and gives its path."""

    def write(content: str | bytes, name: str = "cards.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def load(path, **options) -> tuple[Schema, dict[str, list]]:
    """The inferred schema and the values read by it."""
    overrides = options.pop("overrides", None)
    table = open_table(path, **options)
    schema = infer_schema(table, overrides=overrides)
    return schema, pa.Table.from_batches(list(table.batches(schema))).to_pydict()


def refused(path, message: str, error: type[Exception] = TabularError, **options) -> None:
    """Inferring or reading must raise this error with this message (a regular expression)."""
    with pytest.raises(error, match=message):
        load(path, **options)


@pytest.mark.parametrize("content", ["", "\n\n", b"\xef\xbb\xbf"])
def test_empty_file(csv, content):
    refused(csv(content), "cards.csv is empty; a table needs a header and at least one row")


@pytest.mark.parametrize("content", ["a,b", "a,b\n", "a,b\r\n\r\n"])
def test_header_only(csv, content):
    refused(csv(content), r"cards.csv has a header \(2 columns\) but no rows; add rows")


def test_header_only_in_other_sources(tmp_path):
    empty = pa.table({"a": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "t.parquet")
    refused(tmp_path / "t.parquet", "t.parquet has columns but no rows; add rows")
    refused(empty, "the table has columns but no rows; add rows")
    refused(pd.DataFrame(), "the data frame has no columns; a table needs at least one")


def test_one_row(csv):
    schema, values = load(csv("a,b,c\n1,x,\n"))
    assert values == {"a": [1], "b": ["x"], "c": [None]}
    assert schema.column("a").codec == "values"


def test_one_column(csv):
    _, values = load(csv("a\n1\n\n3\n"))
    assert values == {"a": [1, None, 3]}


def test_a_constant_column(csv):
    schema, values = load(csv("a,b\n" + "7,same\n" * 100))
    assert [c.codec for c in schema.columns] == ["values", "category"]
    assert [c.why for c in schema.columns] == ["one value only, 7: one token each", "one text only, 'same'"]
    assert set(values["a"]) == {7}


def test_an_all_missing_column(csv):
    schema, values = load(csv("a,b\n1,\n2,\n"))
    column = schema.column("b")
    assert (column.kind, column.codec, column.nullable) == ("category", "category", True)
    assert column.why == "all 2 values are missing: a category with no value but missing"
    assert values["b"] == [None, None]


def test_duplicate_column_names(csv):
    refused(
        csv("a,b,a\n1,2,3\n"),
        r"cards.csv has two columns called 'a' \(columns 1 and 3\); rename one",
        SchemaError,
    )
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    refused(frame, "the data frame has two columns called 'a'", SchemaError)


def test_rows_that_are_too_long(csv):
    path = csv("a,b\n1,2\n3,4,5\n6,7\n")
    refused(
        path,
        r"row 2 of cards.csv: 3 fields where the header has 2 \(extra: '5'\); quoted wrongly\? "
        r"The row is in .*cards.quarantine.csv. Allow more than 0 bad rows with --max-bad-rows",
        BadRowsError,
    )
    assert (
        (path.parent / "cards.quarantine.csv").read_text().splitlines()[1].startswith("cards.csv,2,3 fields")
    )
    assert load(path, max_bad_rows=1)[1] == {"a": [1, 6], "b": [2, 7]}


def test_rows_that_are_too_short(csv):
    path = csv("a,b\n1,2\n3\n6,7\n")
    refused(path, "row 2 of cards.csv: 1 fields where the header has 2", BadRowsError)
    assert load(path, max_bad_rows=1)[1] == {"a": [1, 6], "b": [2, 7]}


@pytest.mark.parametrize("after", [2, 800_000], ids=["small", "larger than a block"])
def test_an_unclosed_quote(csv, after):
    path = csv("a,b\n" + "1,2\n" * 1000 + '3,"4\n' + "5,6\n" * after)
    message = (
        r"row 1,001 of cards.csv \(line 1,002\): a quote is opened and never closed; close it, or double"
    )
    refused(path, message)
    refused(path, message, max_bad_rows=10)


def test_an_inch_mark_is_no_unclosed_quote(csv):
    assert load(csv('a,b\n5" pipe,1\nx,2\n'))[1]["a"] == ['5" pipe', "x"]


def test_quoted_commas_and_newlines(csv):
    _, values = load(csv('a,b\n"x,y",1\n"p\nq",2\n"say ""hi""",3\n'))
    assert values == {"a": ["x,y", "p\nq", 'say "hi"'], "b": [1, 2, 3]}


def test_latin_1_without_a_declared_encoding(csv):
    path = csv("a,b\n1,x\n2,Zoë\n".encode("latin-1"))
    refused(path, r'row 2 of cards.csv: byte 0xeb \(at offset 12\) is not UTF-8; .*encoding="latin-1"')
    assert load(path, encoding="latin-1")[1]["b"] == ["x", "Zoë"]
    refused(csv("é,b\n1,2\n".encode("latin-1")), "the header of cards.csv: byte 0xe9")
    refused(path, "encoding 'latin-7x' is unknown; use a name such as", encoding="latin-7x")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_utf_16(csv, encoding):
    path = csv("a,b\n1,Zoë\n2,€\n".encode(encoding))
    refused(path, r'cards.csv is UTF-16, not UTF-8 .*encoding="utf-16"')
    assert load(path, encoding=encoding)[1] == {"a": [1, 2], "b": ["Zoë", "€"]}
    refused(csv(b"a,b\n1,\xd8\n"), "cards.csv is not utf-16", encoding="utf-16")


def test_a_byte_order_mark(csv):
    assert load(csv(b"\xef\xbb\xbfa,b\n1,2\n"))[1] == {"a": [1], "b": [2]}


def test_mixed_crlf_and_lf(csv):
    assert load(csv("a,b\r\n1,x\n3,y\r\n5,z"))[1] == {"a": [1, 3, 5], "b": ["x", "y", "z"]}


def test_a_decimal_comma(csv):
    schema, values = load(csv("a;b\n1234,56;x\n0,5;y\n"))
    assert values["a"] == [1234.56, 0.5]
    assert "written with decimal: ',' (see '1234,56')" in schema.column("a").why


def test_a_comma_that_may_be_decimal_or_of_thousands(csv):
    path = csv("a;b\n1,234;x\n2,225;y\n")
    refused(
        path,
        "column 'a': '1,234' may be a decimal comma .* set decimal: \",\" or thousands: \",\"",
        SchemaError,
    )
    assert load(path, overrides={"a": {"decimal": ","}})[1]["a"] == [1.234, 2.225]
    assert load(path, overrides={"a": {"thousands": ","}})[1]["a"] == [1234.0, 2225.0]


def test_codes_with_leading_zeros(csv):
    schema, values = load(csv("zip\n00501\n10001\n02134\n"))
    assert values["zip"] == ["00501", "10001", "02134"]
    assert schema.column("zip").why.startswith("leading zeros in 2 of 3 values: kept as text code")


def test_integers_beyond_2_to_the_53(csv):
    numbers = [2**53 + 1, -(2**63), 2**63 - 1]
    schema, values = load(csv("a\n" + "\n".join(map(str, numbers)) + "\n"))
    assert schema.column("a").type == "int64" and values["a"] == numbers


def test_integers_beyond_2_to_the_64(csv):
    schema, values = load(csv(f"a\n{2**64 + 1}\n5\n"))
    assert values["a"] == [str(2**64 + 1), "5"]
    assert "integers beyond 64 bits, which a number would round: kept as text code" in schema.column("a").why


def test_1e309(csv):
    path = csv("x,y\n1.5,1\n1e309,2\n2.5,3\n")
    refused(path, "row 2 of cards.csv: column 'x': '1e309' is not a number", BadRowsError)
    schema, values = load(path, max_bad_rows=1)
    assert values["x"] == [1.5, 2.5]
    assert "'1e309' is too large for a float, so a bad row" in schema.column("x").why


def test_infinities_and_nan(csv):
    _, values = load(csv("x,y\n1.5,1\ninf,2\n-Infinity,3\nnan,4\n,5\n"))
    assert values["x"][:3] == [1.5, math.inf, -math.inf]
    assert math.isnan(values["x"][3]) and values["x"][4] is None


def test_a_type_that_changes_late_when_the_schema_is_inferred(csv):
    path = csv("a,x\n" + "".join(f"{i},{i}\n" for i in range(9_998)) + "1,abc\n2,5\n")
    refused(
        path,
        "column 'x': 9,999 of 10,000 values are integers, but row 9,999 holds 'abc'; mend it, or set "
        "missing_values",
        SchemaError,
    )
    missing = load(path, overrides={"x": {"missing_values": ["abc", ""]}})[1]["x"]
    assert missing[9_997:] == [9_997, None, 5]
    assert load(path, overrides={"x": {"kind": "integer"}}, max_bad_rows=1)[1]["x"][9_997:] == [9_997, 5]
    assert load(path, overrides={"x": {"kind": "text"}})[1]["x"][9_998] == "abc"


def test_a_type_that_changes_late_when_the_schema_is_given(csv):
    table = open_table(csv("x\n" + "1.5\n" * 300_000 + "abc\n1\n"))
    with pytest.raises(BadRowsError, match=r"row 300,001 of cards.csv: column 'x': 'abc' is not a float"):
        list(table.batches(DIGITS))


@pytest.mark.parametrize(
    ("one", "two", "named"),
    [
        ("2020-01-01T00:00:00+01:00", "2020-07-01T00:00:00+02:00", r"\+01:00 and \+02:00"),
        ("2020-01-01T00:00:00Z", "2020-07-01T00:00:00-0500", "-05:00 and UTC"),
        ("2020-01-01T00:00:00Z", "2020-07-01T00:00:00", "none and UTC"),
    ],
)
def test_mixed_time_zones(csv, one, two, named):
    path = csv(f"t\n{one}\n{two}\n")
    refused(
        path,
        f"column 't': timestamps of several time zones, {named}; convert .* set type: timestamp",
        SchemaError,
    )
    if two[-1].isdigit() and len(two) > 19:
        values = load(path, overrides={"t": {"type": "timestamp[us, tz=UTC]"}})[1]["t"]
        assert [v.timestamp() for v in values] == [pd.Timestamp(t).timestamp() for t in (one, two)]


def test_mixed_time_zones_in_a_frame():
    stamps = [pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2020-01-01", tz="Asia/Tokyo"), "x"]
    refused(pd.DataFrame({"t": pd.Series(stamps, dtype=object)}), "column 't' of the data frame", SchemaError)


def test_ambiguous_day_and_month(csv):
    path = csv("t\n03/04/2020\n05/06/2021\n")
    refused(
        path,
        "column 't': dates such as '03/04/2020' may be day/month or month/day, and no value in 2 rows "
        "decides; "
        'set format: "%d/%m/%Y" or format: "%m/%d/%Y"',
        SchemaError,
    )
    assert load(path, overrides={"t": {"format": "%m/%d/%Y"}})[1]["t"][0].isoformat() == "2020-03-04"


def test_a_day_that_does_not_exist(csv):
    path = csv("t\n" + "28/02/2020\n13/03/2020\n30/02/2020\n")
    table = open_table(path)
    schema = Schema((Column("t", "date", "date32[day]", "calendar", format="%d/%m/%Y"),))
    with pytest.raises(
        BadRowsError, match=r"row 3 of cards.csv: column 't': '30/02/2020' is not a date of the format"
    ):
        list(table.batches(schema))


def test_an_id_column(csv):
    path = csv("id,n\n" + "".join(f"user{i},{i % 3}\n" for i in range(100_000)) + "user0,1\n")
    message = "column 'id' looks like an id: at least 100,000 distinct texts in 100,001 rows; leave it out"
    refused(path, message, SchemaError)
    assert infer_schema(open_table(path), drop=["id"]).names == ("n",)
    assert load(path, overrides={"id": {"codec": "text"}})[0].column("id").kind == "text"
    many = infer_schema(open_table(path), overrides={"id": {"codec": "category"}}, max_categories=200_000)
    assert many.column("id").codec == "category"


def test_too_many_long_categories(csv):
    path = csv("essay,n\n" + "".join(f"{i % 900:050d}a,{i % 3}\n" for i in range(9_000)))
    with pytest.raises(
        SchemaError, match=r"column 'essay' has 900 distinct texts of up to 51 bytes in 9,000 rows"
    ):
        infer_schema(open_table(path), max_categories=500)


def test_mixed_types_in_a_frame():
    frame = pd.DataFrame({"a": ["x", "y", None, 3, "z"]})
    refused(
        frame,
        r"column 'a' of the data frame .* row 4 is '3' \(int\), the rows before are str; convert it",
        SchemaError,
    )


def test_types_that_no_codec_holds():
    refused(
        pa.table({"a": [{"x": 1}]}),
        "column 'a' of the table: values of type struct.* convert the column .* or drop it",
    )
    refused(
        pd.DataFrame({"a": [pd.Timedelta("1D")]}), "column 'a' of the data frame: values of type duration"
    )


def test_missing_where_the_schema_says_never(csv):
    schema = Schema(
        (Column("x", "float", "double", "digits", nullable=False), Column("y", "text", "string", "text"))
    )
    with pytest.raises(
        BadRowsError, match=r"row 2 .* column 'x' is missing, where the schema says nullable: false"
    ):
        list(open_table(csv("x,y\n1,a\n,b\n")).batches(schema))


def test_files_that_are_cut_short(csv, tmp_path):
    whole = gzip.compress(b"a,b\n" + b"1,2\n" * 100_000)
    refused(csv(whole[:-50], "t.csv.gz"), "t.csv.gz is damaged or not whole")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "t.parquet")
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-6])
    refused(tmp_path / "t.parquet", "t.parquet is not a whole Parquet file")


def test_a_negative_allowance(csv):
    refused(csv("a\n1\n"), "max_bad_rows must be 0 or more, got -1", max_bad_rows=-1)
