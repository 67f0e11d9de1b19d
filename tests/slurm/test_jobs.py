"""Rendered scripts in a real SLURM, around a stand-in for the training: what the script itself promises."""

from pathlib import Path

import pytest
from mini_slurm import MiniSlurm, until

from nemo_tabular.slurm.check import command
from nemo_tabular.slurm.script import Cluster, Job, script

pytestmark = pytest.mark.slurm

# Stopped by USR1 it saves and ends well; started again after that it comes to its end.
TRAINER = """\
mkdir -p checkpoints
trap 'kill $! 2>/dev/null; touch checkpoints/step-00000001; echo "task $SLURM_PROCID saved"; exit 0' USR1
echo "task $SLURM_PROCID started, port $MASTER_PORT, on $SLURMD_NODENAME"
if [ -e checkpoints/step-00000001 ]; then mkdir -p model; exit 0; fi
while :; do sleep 100 & wait; done  # the signal reaches sleep too, and perhaps first
"""


class Trial:
    """A folder with a script whose command is a few lines of shell, and its log."""

    def __init__(self, cluster: MiniSlurm, folder: Path, shell: str, asked: Cluster, preflight: bool) -> None:
        self.cluster, self.folder = cluster, folder
        (folder / "task.sh").write_text(shell)
        (folder / "slurm").mkdir()
        job = Job(("train", "x.yaml"), folder / "model", folder / "checkpoints")
        text = script(job, asked, name="trial", run=folder, folder=folder)
        program = " ".join(command(text)[1][:1])
        text = text.replace(f"{program} train x.yaml", "bash task.sh")
        if not preflight:
            text = text.replace(f"{program} preflight", "true")
        self.file = folder / "trial.sbatch"
        self.file.write_text(text)

    def submit(self) -> int:
        self.number = int(self.cluster.run("sbatch", "--parsable", str(self.file)))
        return self.number

    def log(self) -> str:
        file = self.folder / f"slurm/trial-{self.number}.log"
        return file.read_text() if file.exists() else ""

    def until_said(self, text: str, times: int = 1, seconds: float = 120) -> None:
        until(lambda: self.log().count(text) >= times, seconds, lambda: f"{text!r} is not in\n{self.log()}")

    def end(self, seconds: float = 120) -> dict[str, str]:
        return self.cluster.wait(self.number, seconds=seconds)


@pytest.fixture
def trial(cluster, tmp_path):
    """A function from lines of shell to a submitted job of 2 x 2 tasks."""

    def make(shell: str, *, preflight: bool = False, **asked) -> Trial:
        wanted = {"nodes": 2, "tasks_per_node": 2, "time": "10", **asked}
        made = Trial(cluster, tmp_path, shell, Cluster(**wanted), preflight)
        made.submit()
        return made

    return make


def test_sbatch_accepts_the_script(cluster, trial):
    made = trial("mkdir -p model")
    cluster.run("sbatch", "--test-only", str(made.file))
    assert made.end()["JobState"] == "COMPLETED"


def test_before_the_time_is_up_the_tasks_save_and_the_job_goes_on_later(trial):
    """SLURM's own clock sends the signal: 1 minute is the shortest time that it gives."""
    made = trial(TRAINER, time="1", save_seconds=45)
    made.until_said("back to the queue")
    assert made.end()["JobState"] == "COMPLETED"
    log = made.log()
    assert log.count("asking the tasks to save") == 1
    assert all(f"{task}: task {task} saved" in log for task in range(4)), log
    assert ", start 1, " in log and ", start 2, " in log and log.count(" started, port ") == 8
    assert f"port {20000 + made.number % 10000}" in log
    assert log.splitlines()[-1].endswith(f"finished: {made.folder}/model")
    made.submit()  # by hand, once more
    assert made.end()["JobState"] == "COMPLETED"
    assert "nothing left to do" in made.log() and "started" not in made.log()


def test_a_crash_without_a_new_checkpoint_fails_the_job_and_the_log_ends_with_the_reason(cluster, trial):
    made = trial(
        'echo "nemo-tabular train: x.yaml: unknown setting" >&2; [ "$SLURM_PROCID" = 3 ] && exit 7; sleep 100'
    )
    after = ("--dependency", f"afterok:{made.number}", "--kill-on-invalid-dep=yes")
    dependent = int(cluster.run("sbatch", "--parsable", *after, "-o", "/dev/null", "--wrap", "true"))
    job = made.end()
    assert job["JobState"] == "FAILED" and job["ExitCode"] != "0:0" and job["Restarts"] == "0"
    assert "FAILED: the command ended with exit code" in made.log()
    assert "nemo-tabular train: x.yaml: unknown setting" in "\n".join(made.log().splitlines()[-4:])
    assert cluster.wait(dependent)["JobState"] == "CANCELLED"


def test_a_crash_after_a_new_checkpoint_is_tried_again_but_not_for_ever(trial):
    made = trial(
        'mkdir -p checkpoints; touch "checkpoints/step-$(date +%s)"; sleep 1; exit 9', nodes=1, max_restarts=2
    )
    job = made.end()
    assert job["JobState"] == "FAILED" and job["Restarts"] == "2"
    assert "this was restart 2 of at most 2" in "\n".join(made.log().splitlines()[-4:])


def test_a_command_that_ends_without_its_result_is_a_failure(trial):
    made = trial("true", nodes=1)
    assert made.end()["JobState"] == "FAILED"
    assert "FINISHED and COMMAND do not belong together" in made.log()


def test_cancelled_is_cancelled(trial):
    made = trial(TRAINER.replace("USR1", "TERM"))
    made.until_said(" started, ", 4)
    made.cluster.run("scancel", str(made.number))
    assert made.end()["JobState"] == "CANCELLED"
    assert "back to the queue" not in made.log()


def test_a_node_whose_gpu_does_not_work_stops_the_job_before_the_start(trial):
    """The cluster's nodes are said to have a GPU each, and have none."""
    made = trial(TRAINER, preflight=True, gpus_per_node=1)
    assert made.end()["JobState"] == "FAILED"
    end = "\n".join(made.log().splitlines()[-6:])
    assert "FAILED: a node is not fit to run on" in end
    assert all(f"node {name}: 0 of 1 GPUs work" in end for name in made.cluster.names[:2])
    assert "started" not in made.log()
