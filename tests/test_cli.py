"""The command line, by running it: a table goes in at `schema`, a scored one comes out at `evaluate`."""

import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
import yaml
from small_table import small_table

from nemo_tabular import __version__, cli
from nemo_tabular.cli import main
from nemo_tabular.cli.tables import setting
from nemo_tabular.errors import TabularError


def test_the_pipeline_leaves_a_table_like_the_first(pipeline, tmp_path, capsys):
    synthetic, report = tmp_path / "synthetic.csv", tmp_path / "report"
    assert main(["generate", str(pipeline.run), "--rows", "200", "--seed", "3", "-o", str(synthetic)]) == 0
    assert capsys.readouterr().out == f"{synthetic}: 200 rows\n"
    made = pd.read_csv(synthetic, dtype=str, keep_default_na=False)
    real = pd.read_csv(pipeline.table, dtype=str, keep_default_na=False)
    assert list(made) == list(real) and len(made) == 200
    assert set(made["city"]) <= set(real["city"])
    assert set(made["zip"]) <= set(real["zip"])
    assert made["paid"].str.fullmatch(r"\d{1,3}\.\d{1,2}").all()
    assert made["day"].str.fullmatch(r"(20\d\d-\d\d-\d\d)?").all()
    test = tmp_path / "test.csv"
    small_table(200, seed=2).to_csv(test, index=False)
    assert main(
        ["evaluate", "--train", str(pipeline.table), "--test", str(test), "--synthetic", str(synthetic),
         "--schema", str(pipeline.schema), "--scores", "shapes", "--scores", "likelihood",
         "--model", str(pipeline.run), "-o", str(report)]
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "Column shapes" in said and "Membership by likelihood" in said
    assert {p.name for p in report.iterdir()} == {"report.html", "report.json", "plots"}


def test_the_report_is_a_folder_or_json_alone(pipeline, tmp_path, capsys):
    table = str(pipeline.table)
    verb = ["evaluate", "--train", table, "--test", table, "--synthetic", table, "--scores", "shapes", "-o"]
    assert main([*verb, str(tmp_path / "report.html")]) == 2
    assert "report.html: a report is a folder of several files, e.g. -o report" in capsys.readouterr().err
    assert main([*verb, str(tmp_path / "report.json")]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_evaluate_says_what_is_wrong_with_its_tables(pipeline, tmp_path, capsys):
    real = pd.read_csv(pipeline.table, dtype=str, keep_default_na=False)

    def told(synthetic: pd.DataFrame, *more: str) -> str:
        synthetic.to_csv(tmp_path / "s.csv", index=False)
        table = str(pipeline.table)
        assert main(["evaluate", "--train", table, "--test", table, "--synthetic", str(tmp_path / "s.csv"),
                     "--scores", "copies", *more]) == 2  # fmt: skip
        return capsys.readouterr().err

    assert "the columns do not match: synthetic lacks 'city', 'day'" in told(
        real.drop(columns=["city", "day"])
    )
    assert "column 'paid': numbers in train, texts in synthetic (row 1: 'much')" in told(
        real.assign(paid="much")
    )
    assert "s.csv has a header" in (said := told(real.iloc[:0])) and "no rows" in said
    assert "target 'city' is not a column of synthetic" in told(real.drop(columns="city"), "--target", "city")


def test_the_same_seed_gives_the_same_file_and_another_does_not(pipeline, tmp_path):
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for file, seed in zip(files, ("5", "5", "6"), strict=True):
        assert main(["generate", str(pipeline.run), "--rows", "100", "--seed", seed, "-o", str(file)]) == 0
    a, b, c = (file.read_bytes() for file in files)
    assert a == b != c


def test_given_fixes_a_column_from_the_line_and_from_a_file(pipeline, tmp_path):
    out, wanted = tmp_path / "out.csv", tmp_path / "wanted.csv"
    assert (
        main(["generate", str(pipeline.run), "--rows", "9", "--given", "city=Köln, Nord", "-o", str(out)])
        == 0
    )
    assert set(pd.read_csv(out)["city"]) == {"Köln, Nord"}
    cities = ["Paris", 'the "Hague"', "Paris"]
    pd.DataFrame({"city": cities}).to_csv(wanted, index=False)
    assert main(["generate", str(pipeline.run), "--given", str(wanted), "-o", str(out)]) == 0
    assert list(pd.read_csv(out)["city"]) == cities


def test_parquet_out_holds_the_schemas_types(pipeline, tmp_path):
    out = tmp_path / "out.parquet"
    assert main(["generate", str(pipeline.run), "--rows", "50", "--top-k", "3", "-o", str(out)]) == 0
    made = pd.read_parquet(out)
    assert len(made) == 50 and made["age"].dtype == "int64" and made["zip"].str.len().eq(5).all()


def test_schema_takes_what_the_user_knows(pipeline, tmp_path, capsys):
    out = tmp_path / "schema.yaml"
    assert main(
        ["schema", str(pipeline.table), "--drop", "day", "--set", "age.codec=digits", "--set",
         "age.options={base: 10, code_len: 2}", "--set", "zip.nullable=true", "-o", str(out)]
    ) == 0  # fmt: skip
    columns = {column["name"]: column for column in yaml.safe_load(out.read_text())["columns"]}
    assert list(columns) == ["city", "age", "paid", "zip"]
    assert columns["age"]["codec"] == "digits" and columns["age"]["options"] == {"base": 10, "code_len": 2}
    assert columns["zip"]["nullable"] is True
    assert "4 columns, from 400 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("day.format=%d/%m/%Y", ("day", "format", "%d/%m/%Y")),
        ("price.decimal=,", ("price", "decimal", ",")),
        ("a.b.kind=code", ("a.b", "kind", "code")),
        ("x.missing_values=[NA, '']", ("x", "missing_values", ["NA", ""])),
        ("x.prefix=#", ("x", "prefix", "#")),
        ("x.format=a=b", ("x", "format", "a=b")),
    ],
)
def test_settings_of_columns_are_texts_unless_they_look_like_yaml(text, parsed):
    assert setting(text) == parsed


def test_a_finished_run_is_not_trained_again(pipeline):
    before = {path: path.stat().st_mtime_ns for path in pipeline.run.rglob("*")}
    assert (
        main(["train", str(pipeline.recipe), f"data.store={pipeline.store}", f"run.dir={pipeline.run}"]) == 0
    )
    assert {path: path.stat().st_mtime_ns for path in pipeline.run.rglob("*")} == before


def test_splits_and_overwriting(pipeline, tmp_path, told, capsys):
    store = tmp_path / "store"
    prepare = ["prepare", str(pipeline.table), "--splits", "0.5,0.25,0.25", "-o", str(store)]
    assert main(prepare) == 0
    assert " train, " in capsys.readouterr().out
    assert {path.stem for path in store.glob("*.bin")} == {"train", "validation", "test"}
    assert "exists and is not empty" in told(*prepare)
    assert main([*prepare, "--overwrite"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "VERB"),
        (["trian"], "invalid choice: 'trian'"),
        (["schema", "table.csv"], "-o/--out"),
        (["schema", "table.csv", "-o", "s.yaml", "--set", "kind=code"], "write it as COLUMN.KEY=VALUE"),
        (["schema", "table.csv", "-o", "s.yaml", "--set", "a.options={base"], "is not YAML"),
        (["prepare", "table.csv", "-o", "store", "--splits", "half"], "numbers with commas between them"),
        (["generate", "run", "--row", "5", "-o", "x.csv"], "unrecognized arguments: --row"),
    ],
)
def test_a_wrong_command_line_is_told_so(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2 and message in capsys.readouterr().err


def test_errors_of_the_user_are_a_message_and_ours_a_traceback(monkeypatch, capsys):
    def fail_with(error):
        def call(arguments):
            raise error

        monkeypatch.setattr(cli.report, "evaluate", call)
        return main(["evaluate", "--train", "a", "--test", "b", "--synthetic", "c"])

    assert fail_with(TabularError("row 3: mend it")) == 2
    assert capsys.readouterr().err == "nemo-tabular evaluate: row 3: mend it\n"
    assert fail_with(KeyboardInterrupt()) == 130
    with pytest.raises(ZeroDivisionError):
        fail_with(ZeroDivisionError("a bug"))


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=120, **options
    )


def test_help_and_version_answer_without_loading_anything_heavy():
    heavy = "{'torch', 'pandas', 'pyarrow', 'numpy', 'megatron'}"
    code = f"import sys; from nemo_tabular import cli; cli.make_parser(); print({heavy} & set(sys.modules))"
    assert run("-c", code).stdout == "set()\n"
    shown = run("-m", "nemo_tabular.cli", "--version")
    assert (shown.returncode, shown.stdout) == (0, f"nemo-tabular {__version__}\n")
    verbs = run("-m", "nemo_tabular.cli", "--help").stdout
    assert all(verb in verbs for verb in ("schema", "prepare", "train", "generate", "evaluate"))


def test_a_reader_that_has_seen_enough_is_no_error(pipeline, tmp_path):
    verb = f"{sys.executable} -m nemo_tabular.cli schema {pipeline.table} -o {tmp_path / 's.yaml'}"
    done = subprocess.run(
        ["bash", "-c", f"{verb} | true; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ctrl_c_saves_and_the_same_command_goes_on(pipeline, tmp_path):
    train = ["-m", "nemo_tabular.cli", "train", pipeline.recipe, f"data.store={pipeline.store}"]
    long = ["trainer.max_steps=400", "trainer.val_check_interval=400"]
    process = subprocess.Popen(
        [
            sys.executable,
            *map(str, train),
            *long,
            f"run.dir={tmp_path / 'run'}",
            "trainer.log_every_n_steps=1",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 20/"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "interrupted: stopped in good order" in rest
    resumed = run(*train, *long, f"run.dir={tmp_path / 'run'}")
    assert resumed.returncode == 0 and "400 steps" in resumed.stdout


def test_a_cgm_goes_the_same_way_and_fills_gaps(pipeline, tmp_path, told):
    out, trained, gaps = tmp_path / "out.csv", tmp_path / "run", tmp_path / "gaps.csv"
    settings = ["model.kind=cgm", f"data.store={pipeline.store}", f"run.dir={trained}"]
    assert main(["train", str(pipeline.recipe), *settings]) == 0
    assert main(["generate", str(trained), "--rows", "40", "--given", "age=33", "-o", str(out)]) == 0
    assert set(pd.read_csv(out)["age"]) == {33}
    assert main(["generate", str(trained), "--rows", "40", "--order", "random", "-o", str(out)]) == 0
    table = pd.read_csv(pipeline.table, dtype=str, keep_default_na=False).head(50)
    table.loc[::3, ["city", "age"]] = ""
    table.to_csv(gaps, index=False)
    assert main(["impute", str(trained), str(gaps), "--seed", "4", "-o", str(out)]) == 0
    filled = pd.read_csv(out, dtype=str, keep_default_na=False)
    assert not (filled[["city", "age"]] == "").any().any()
    there = table["age"] != ""
    assert (filled["age"][there] == table["age"][there]).all() and (filled["zip"] == table["zip"]).all()
    assert "any order: fit the CGM" in told("impute", pipeline.run, gaps, "-o", out)
    assert "age" in told("generate", trained, "--rows", 3, "--given", "age=3000", "-o", out)
