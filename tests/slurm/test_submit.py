"""What `submit` writes, prints and refuses, where there is no cluster."""

import pytest

from nemo_tabular.cli import main
from nemo_tabular.slurm.check import command


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yaml").write_text("data: {store: store}\n")
    return "tiny.yaml"


def test_a_dry_run_prints_the_script_and_leaves_nothing(recipe, tmp_path, capsys):
    assert main(["submit", recipe, "--nodes", "2", "--time", "1:00:00", "--dry-run", "run.dir=run"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("#!/usr/bin/env bash\n")
    assert command(printed)[1][-3:] == ["train", "tiny.yaml", "run.dir=run"]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_the_chain_is_four_scripts(recipe, tmp_path, capsys):
    chain = [
        "--chain",
        "real.csv",
        "--rows",
        "99",
        "--test",
        "test.csv",
        "--target",
        "y",
        "--gpus-per-node",
        "4",
    ]
    assert main(["submit", recipe, "--time", "1:00:00", *chain, "--dry-run", "run.dir=run"]) == 0
    scripts = [text for text in capsys.readouterr().out.split("#!/usr/bin/env bash\n") if text]
    assert [command(text)[1][1:] for text in scripts] == [
        ["prepare", "real.csv", "-o", f"{tmp_path}/store"],
        ["train", "tiny.yaml", "run.dir=run"],
        ["generate", f"{tmp_path}/run", "--rows", "99", "-o", f"{tmp_path}/run/synthetic.csv"],
        ["evaluate", "--train", "real.csv", "--test", "test.csv", "--synthetic",
         f"{tmp_path}/run/synthetic.csv", "--target", "y", "-o", f"{tmp_path}/run/report"],
    ]  # fmt: skip
    assert ["--ntasks-per-node=4" in text for text in scripts] == [False, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run.dir=run"], "--time"),
        (["--time", "1:00:00"], "run.dir is not set"),
        (["--time", "1:00:00", "run.dir=run", "--chain", "x.csv"], "--rows"),
        (["--time", "1:00:00", "run.dir=run", "model.tensor_model_parallel_size=2"], "do not divide the 1"),
        (["--time", "2", "run.dir=run"], "asks to save 300 s before the end"),
        (["--time", "1:00:00", "run.dir=run", "model.num_layer=2"], "did you mean 'num_layers'?"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(recipe, tmp_path, arguments, message, told):
    assert message in told("submit", recipe, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_without_sbatch_the_scripts_are_left_to_be_carried_over(recipe, tmp_path, monkeypatch, told):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "no sbatch here" in told("submit", recipe, "--time", "1:00:00", "run.dir=run")
    assert (tmp_path / "run/slurm/train.sbatch").exists()


def test_a_word_that_is_no_setting_is_not_swallowed(recipe, capsys):
    with pytest.raises(SystemExit):
        main(["submit", recipe, "--time", "1:00:00", "rundir"])
    assert "unrecognized arguments: rundir" in capsys.readouterr().err
