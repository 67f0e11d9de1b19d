import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import SchemaError
from nemo_tabular.evaluate.tables import align, rows_of


def kinds(tables):
    return {c.name: c.kind for c in tables.columns}


def one_column(train, test=None, synthetic=None):
    return align(*(pd.DataFrame({"x": v}) for v in (train, test or train, synthetic or train)))


def test_kinds_of_a_mixed_table(train, test, synthetic):
    tables = align(train, test, synthetic)
    assert kinds(tables) == {
        "age": "number",
        "job": "category",
        "gain": "number",
        "wage": "number",
        "rich": "category",
        "day": "date",
    }
    assert tables.column("age").integer and not tables.column("gain").integer
    assert tables.column("job").levels[0] == train["job"].value_counts().index[0]


def test_files_and_frames_give_the_same(train, test, synthetic, tmp_path):
    train.to_csv(tmp_path / "train.csv.gz", index=False)
    test.to_parquet(tmp_path / "test.parquet")
    synthetic.to_csv(tmp_path / "synthetic.csv", index=False)
    read = align(tmp_path / "train.csv.gz", str(tmp_path / "test.parquet"), tmp_path / "synthetic.csv")
    given = align(train, test, synthetic)
    assert read.columns == given.columns
    for name in train:
        for one, two in (
            (read.train, given.train),
            (read.test, given.test),
            (read.synthetic, given.synthetic),
        ):
            np.testing.assert_array_equal(one[name], two[name])


def test_polars_and_arrow_frames(train, test, synthetic):
    polars = pytest.importorskip("polars")
    import pyarrow as pa

    tables = align(polars.from_pandas(train), pa.Table.from_pandas(test), synthetic)
    np.testing.assert_array_equal(tables.train["wage"], align(train, test, synthetic).train["wage"])


def test_only_the_empty_cell_of_a_csv_is_missing(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\nNA,1\n?,2\n,\nnull,4\n")
    tables = align(*[tmp_path / "t.csv"] * 3)
    assert set(tables.column("x").levels) == {"NA", "?", "null"}
    assert np.isnan(tables.train["x"]).tolist() == [False, False, True, False]
    assert np.isnan(tables.train["y"]).sum() == 1


def test_columns_are_aligned_by_name(train, test, synthetic):
    tables = align(train, test, synthetic[synthetic.columns[::-1]])
    assert [c.name for c in tables.columns] == list(train.columns)


@pytest.mark.parametrize(
    "values",
    [
        [datetime.date(2020, 1, 1), None, datetime.date(2021, 5, 6)],
        ["2020-01-01", None, "2021-05-06"],
        pd.to_datetime(["2020-01-01", None, "2021-05-06"]),
        pd.to_datetime(["2020-01-01", None, "2021-05-06"]).tz_localize("UTC"),
    ],
    ids=["date", "text", "timestamp", "zoned"],
)
def test_dates_become_seconds(values):
    tables = one_column(list(values))
    assert kinds(tables) == {"x": "date"}
    assert tables.train["x"][0] == 1577836800 and np.isnan(tables.train["x"][1])


def test_times_decimals_and_nullable_types_are_numbers():
    tables = one_column([datetime.time(1, 0, 0), datetime.time(0, 0, 2), datetime.time(0, 0, 3), None])
    np.testing.assert_array_equal(tables.train["x"], [3600, 2, 3, np.nan])
    tables = one_column([decimal.Decimal("1.25"), decimal.Decimal("3"), decimal.Decimal("4"), None])
    np.testing.assert_array_equal(tables.train["x"], [1.25, 3, 4, np.nan])
    frame = pd.DataFrame({"x": pd.array([1, 2, 3, None], dtype="Int64")})
    np.testing.assert_array_equal(align(frame, frame, frame).train["x"], [1, 2, 3, np.nan])


def test_two_numbers_are_a_category_and_pandas_floats_do_not_rename_it():
    tables = one_column([0, 1, 1, 0], [0.0, 1.0, np.nan], [1, 1])
    assert kinds(tables) == {"x": "category"} and set(tables.column("x").levels) == {"0", "1"}


def test_booleans_meet_texts_and_digits():
    tables = one_column([True, False, True], ["true", "False"], [1, 0])
    assert tables.column("x").levels == ("True", "False")
    np.testing.assert_array_equal(tables.synthetic["x"], [0, 1])


def test_texts_of_numbers_meet_numbers():
    tables = one_column(["1", "2", "3"], [1, 2, 3], ["1", "7", "3.5"])
    assert kinds(tables) == {"x": "number"} and tables.synthetic["x"][2] == 3.5


def test_columns_that_do_not_match_are_all_listed(train, test, synthetic):
    with pytest.raises(SchemaError) as error:
        align(train, test.drop(columns=["age", "job"]), synthetic.rename(columns={"gain": "gains"}))
    assert str(error.value) == (
        "the columns do not match: test lacks 'age', 'job'; synthetic lacks 'gain'; synthetic has 'gains', "
        "which train lacks; drop or rename until they do"
    )


def test_types_that_disagree_show_the_first_value(train, test, synthetic):
    wrong = synthetic.assign(age=["old" if i == 7 else str(a) for i, a in enumerate(synthetic["age"])])
    with pytest.raises(SchemaError) as error:
        align(train, test, wrong)
    assert str(error.value) == (
        "column 'age': numbers in train, texts in synthetic (row 8: 'old'); "
        "write both tables with the same type"
    )
    with pytest.raises(SchemaError, match=r"column 'job': texts in train, numbers in test \(row 1: 5\)"):
        align(train, test.assign(job=5 + np.arange(len(test))), synthetic)
    with pytest.raises(SchemaError, match="column 'day': dates in train, numbers in synthetic"):
        align(train, test, synthetic.assign(day=np.arange(len(synthetic))))


def test_an_empty_table(train, test, synthetic):
    with pytest.raises(
        SchemaError, match="synthetic has no rows: nothing can be compared; give at least one row"
    ):
        align(train, test, synthetic.iloc[:0])


def test_a_target_that_one_table_lacks(train, test, synthetic):
    with pytest.raises(SchemaError, match="target 'rich' is not a column of synthetic"):
        align(train, test, synthetic.drop(columns="rich"), target="rich")
    with pytest.raises(
        SchemaError, match=r"target 'ritch' is not a column of train \(did you mean 'rich'\?\)"
    ):
        align(train, test, synthetic, target="ritch")


def test_repeated_column_names(train, test, synthetic):
    twice = train.rename(columns={"job": "age"})
    with pytest.raises(SchemaError, match="train: column names occur twice: age; rename one of each pair"):
        align(twice, test, synthetic)


def test_files_that_are_no_tables(train, test, tmp_path):
    with pytest.raises(SchemaError, match=r"synthetic: .*nowhere\.csv: no such file"):
        align(train, test, tmp_path / "nowhere.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(SchemaError, match=r"synthetic: .*empty\.csv.* empty"):
        align(train, test, tmp_path / "empty.csv")
    with pytest.raises(SchemaError, match="synthetic: "):
        align(train, test, 17)


def test_constant_all_missing_and_infinite_columns_are_noted(train, test, synthetic):
    tables = align(
        train.assign(age=30, gain=np.nan),
        test,
        synthetic.assign(wage=np.where(synthetic.index < 2, np.inf, 1.5)),
    )
    assert "column 'age': constant in train" in tables.notes
    assert "column 'gain': all missing in train" in tables.notes
    assert "column 'wage': 2 infinite values in synthetic count as missing" in tables.notes


def test_free_text_is_compared_by_length(train, test, synthetic):
    texts = [f.assign(name=[f"{i:05d}-{tag}" for i in range(len(f))]) for f, tag in zip(
        (train, test, synthetic), ("a", "bb", "ccc"), strict=True)]  # fmt: skip
    tables = align(*texts)
    assert kinds(tables)["name"] == "text"
    assert "column 'name': 1,500 different texts in train; compared by their length only" in tables.notes
    assert set(tables.synthetic.features()[:, -1]) == {9.0}


def test_row_hashes_tell_rows_apart_and_equate_missing_cells():
    tables = one_column([1.0, 2.0, None, None, -0.0, 0.0])
    hashes = tables.train.row_hashes()
    assert hashes[2] == hashes[3] and hashes[4] == hashes[5] and len(set(hashes)) == 4


def test_codes_with_leading_zeros_stay_codes(tmp_path):
    (tmp_path / "t.csv").write_text("zip,n\n00501,1\n90210,2\n01001,-0.5\n")
    tables = align(*[tmp_path / "t.csv"] * 3)
    assert kinds(tables) == {"zip": "category", "n": "number"}


def test_a_schema_says_kinds_columns_and_formats(tmp_path):
    from nemo_tabular.schema import Column, Schema

    schema = Schema(
        (
            Column("n", "category", "string", "category"),
            Column("d", "date", "date32[day]", "calendar", format="%d.%m.%Y"),
        )
    )
    (tmp_path / "t.csv").write_text("n,d,other\n1,31.12.2020,x\n2,01.02.2021,y\n,,z\n")
    tables = align(*[tmp_path / "t.csv"] * 3, schema=schema)
    assert kinds(tables) == {"n": "category", "d": "date"}
    assert tables.train["d"][1] == pd.Timestamp("2021-02-01").timestamp()


def test_of_a_large_file_a_stated_sample_is_read(monkeypatch, train, test, synthetic, tmp_path):
    monkeypatch.setattr("nemo_tabular.evaluate.tables.MAX_ROWS", 400)
    train.to_csv(tmp_path / "train.csv", index=False)
    tables = align(tmp_path / "train.csv", test, synthetic)
    assert tables.train.rows == 400 and set(tables.kept) == {"train"}
    np.testing.assert_array_equal(tables.train["age"], train["age"].to_numpy()[tables.kept["train"]])
    assert 600 < tables.kept["train"].mean() < 900, "from all over the file"
    assert tables.notes[0] == (
        "train is large: 400 of its rows, drawn at random, stand for all; copies of the others go unseen"
    )
    assert align(tmp_path / "train.csv", test, synthetic).train["wage"][7] == pytest.approx(
        tables.train["wage"][7], nan_ok=True
    )


def test_rows_by_number_are_those_of_the_file(train, tmp_path):
    from nemo_tabular.readers import open_table
    from nemo_tabular.schema import infer_schema

    train.to_csv(tmp_path / "train.csv", index=False)
    schema = infer_schema(open_table(tmp_path / "train.csv"))
    found = rows_of(tmp_path / "train.csv", np.array([0, 7, 1499]), schema)
    assert found["age"].to_pylist() == train["age"].iloc[[0, 7, 1499]].tolist()
