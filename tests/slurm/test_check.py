"""Faults put into a good script, one at a time: each is named with its line and what to do."""

from pathlib import Path

import pytest

from nemo_tabular.cli import main
from nemo_tabular.slurm.check import faults, seconds
from nemo_tabular.slurm.script import Cluster
from nemo_tabular.slurm.submit import plan


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A script for 2 x 2 tasks of a TP2 recipe, whose log folder is there."""
    recipe = tmp_path / "tp2.yaml"
    recipe.write_text(
        f"data: {{store: {tmp_path}/store, global_batch_size: 8}}\n"
        f"model: {{tensor_model_parallel_size: 2}}\nrun: {{dir: {tmp_path}/run}}\n"
    )
    submission = plan(str(recipe), [], Cluster(nodes=2, tasks_per_node=2, time="1:00:00"))
    submission.write()
    return submission.scripts["train"]


def test_a_good_script_has_no_faults(good):
    assert faults(good, "x.sbatch") == []


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("#SBATCH --requeue", "# SBATCH --requeue", "# SBATCH", "is a comment to sbatch"),
        ("#SBATCH --requeue", "  #SBATCH --requeue", "  #SBATCH", "is a comment to sbatch"),
        ("#SBATCH --requeue", "#Sbatch --requeue", "#Sbatch", "is a comment to sbatch"),
        ("pipefail", "pipefail\n#SBATCH --mem=0", "#SBATCH --mem=0", "stands after the first command"),
        (
            "--nodes=2",
            "--nodes=2 -n 3",
            "COMMAND=",
            "parallel = 2 ranks do not divide the 3",
        ),
        ("--nodes=2", "--nodes=5", "COMMAND=", "global_batch_size 8"),
        ("/tp2.yaml", "/tp2.yaml model.tensor_model_parallel_size=3", "COMMAND=", "num_attention_heads"),
        ("/tp2.yaml", "/gone.yaml", "COMMAND=", "gone.yaml: no such file"),
        ("B:USR1@", "USR1@", "#SBATCH --signal", "would not save"),
        ("--time=1:00:00", "--time=5", "#SBATCH --signal", "asks to save 300 s before the end"),
        ("/slurm/%x", "/logs/%x", "#SBATCH --output", "does not exist; the job would end at once"),
        ("/slurm/%x", "/%j/%x", "#SBATCH --output", "SLURM makes no folders"),
    ],
)
def test_a_fault_is_named_with_its_line(good, old, new, line, complaint):
    assert old in good
    bad = good.replace(old, new, 1)
    (said,) = faults(bad, "x.sbatch")
    file, number, what = said.split(":", 2)
    assert file == "x.sbatch" and complaint in what
    assert bad.splitlines()[int(number) - 1].startswith(line)


def test_several_faults_are_told_at_once(good):
    bad = good.replace("#SBATCH --requeue", "# SBATCH --requeue").replace("/slurm/%x", "/logs/%x")
    assert len(faults(bad, "x")) == 2


def test_a_script_that_runs_something_else_is_checked_as_far_as_it_goes(tmp_path):
    assert faults("#!/bin/bash\n#SBATCH --nodes=3\nsrun hostname\n", "x") == []


@pytest.mark.parametrize(
    ("time", "wanted"),
    [("5", 300), ("5:30", 330), ("1:00:00", 3600), ("2-0", 172800), ("1-1:1:1", 90061), ("UNLIMITED", None)],
)
def test_times_are_read_as_sbatch_reads_them(time, wanted):
    assert seconds(time) == wanted


def test_the_verb_checks_an_edited_script(good, tmp_path, told, capsys):
    file = tmp_path / "edited.sbatch"
    file.write_text(good)
    assert main(["submit", "--check", str(file)]) == 0
    assert "no faults" in capsys.readouterr().out
    file.write_text(good.replace("#SBATCH --requeue", "# SBATCH --requeue"))
    assert "edited.sbatch:" in told("submit", "--check", file)
