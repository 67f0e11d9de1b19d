"""Training on a real SLURM, through `nemo-tabular submit`: 2 nodes x 2 tasks, interrupted in every way that a
cluster has, end where the uninterrupted run ends."""

import contextlib
import io
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from mini_slurm import MiniSlurm, until
from small_table import small_table

from nemo_tabular.cli import main

pytestmark = pytest.mark.slurm

STEPS = 40
TP2_DP2 = f"""\
model: {{num_layers: 1, hidden_size: 16, num_attention_heads: 2, tensor_model_parallel_size: 2}}
data: {{global_batch_size: 32}}
optim: {{lr: 0.01}}
trainer: {{max_steps: {STEPS}, final_fit: false, num_threads: 1, log_every_n_steps: 1, val_check_interval: 20,
          save_every_n_steps: 5}}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """The store and the recipe that the runs share."""
    folder = tmp_path_factory.mktemp("shared")
    small_table(400, seed=1).to_csv(folder / "table.csv", index=False)
    (folder / "tiny.yaml").write_text(TP2_DP2)
    assert main(["prepare", str(folder / "table.csv"), "-o", str(folder / "store")]) == 0
    return folder / "store"


class Run:
    """A run that `nemo-tabular submit` sent off."""

    def __init__(self, cluster: MiniSlurm, store: Path, folder: Path, *options: str) -> None:
        self.cluster, self.folder = cluster, folder
        told = submit(
            cluster, str(store.parent / "tiny.yaml"), "--nodes", "2", "--tasks-per-node", "2", "--time", "20",
            *options, f"data.store={store}", f"run.dir={folder}",
        )  # fmt: skip
        self.number = int(re.findall(r"train: job (\d+)", told)[0])

    def log(self) -> str:
        files = list((self.folder / "slurm").glob("*.log"))
        return files[0].read_text() if files else ""

    def until_step(self, step: int) -> None:
        """Wait until the log has told of a step, or of a later one."""

        def reached() -> bool:
            job = self.cluster.job(self.number)
            assert job["JobState"] in ("PENDING", "RUNNING", "CONFIGURING"), self.log()
            return max(map(int, re.findall(r"step (\d+)/", self.log())), default=0) >= step

        until(reached, 200, lambda: f"step {step} is not reached:\n{self.log()}")

    def losses(self) -> dict[int, str]:
        """Training loss by step, the last one told, to the last digit."""
        metrics = pd.read_csv(self.folder / "metrics.csv", dtype=str)
        told = metrics[metrics["metric"] == "train_nll"]
        return dict(zip(told["step"].astype(int), told["value"], strict=True))


def submit(cluster: MiniSlurm, *arguments: str) -> str:
    """`nemo-tabular submit` as a user of the cluster would call it; gives what it prints."""
    before, out = dict(os.environ), io.StringIO()
    os.environ.update(cluster.environment)
    try:
        with contextlib.redirect_stdout(out):
            assert main(["submit", *arguments]) == 0
    finally:
        os.environ.clear()
        os.environ.update(before)
    return out.getvalue()


@pytest.fixture(scope="module")
def uninterrupted(cluster, store, tmp_path_factory) -> Run:
    run = Run(cluster, store, tmp_path_factory.mktemp("runs") / "whole")
    assert cluster.wait(run.number, seconds=200)["JobState"] == "COMPLETED", run.log()
    return run


def test_two_nodes_of_two_tasks_train_one_model(cluster, uninterrupted):
    log = uninterrupted.log()
    assert sorted(uninterrupted.losses()) == list(range(1, STEPS + 1))
    assert all(f"{name} is fit: no GPUs; folder shared" in log for name in cluster.names[:2])
    assert log.splitlines()[-1].endswith(f"finished: {uninterrupted.folder}/model")
    assert log.count("steps, validation") == 1  # one rank speaks for all


def test_asked_to_save_it_goes_back_to_the_queue_and_ends_with_the_same_loss(
    cluster, store, uninterrupted, tmp_path
):
    run = Run(cluster, store, tmp_path / "run")
    run.until_step(8)
    cluster.run("scancel", "--batch", "--signal=USR1", str(run.number))  # what --signal=B:USR1@N sends
    job = cluster.wait(run.number, seconds=200)
    assert job["JobState"] == "COMPLETED" and job["Restarts"] == "1", run.log()
    assert "stopped in time (exit code 0): back to the queue" in run.log()
    assert run.losses() == uninterrupted.losses()


def test_a_node_that_dies_costs_the_steps_since_the_last_checkpoint_and_no_more(
    cluster, store, uninterrupted, tmp_path
):
    run = Run(cluster, store, tmp_path / "run")
    run.until_step(12)
    batch, dead = cluster.job(run.number)["BatchHost"], ""
    dead = next(name for name in cluster.names[:2] if name != batch)
    cluster.kill_node(dead)
    try:
        job = cluster.wait(run.number, seconds=200)
    finally:
        cluster.start_node(dead)
    assert job["JobState"] == "COMPLETED" and int(job["Restarts"]) >= 1, run.log()
    resumed = run.log().split(", start 2, ")[1]
    assert f"{dead} is fit" not in resumed
    first = min(map(int, re.findall(r"step (\d+)/", resumed)))
    assert 10 < first <= STEPS  # step 10 was saved
    assert run.losses() == uninterrupted.losses()


def test_from_a_table_to_a_scored_synthetic_one(cluster, tmp_path):
    for name, seed in (("real", 1), ("test", 2)):
        small_table(300, seed=seed).to_csv(tmp_path / f"{name}.csv", index=False)
    (tmp_path / "one.yaml").write_text(TP2_DP2.replace("size: 2}", "size: 1}"))
    told = submit(
        cluster, str(tmp_path / "one.yaml"), "--time", "20", "--chain", str(tmp_path / "real.csv"),
        "--rows", "50", "--test", str(tmp_path / "test.csv"), f"data.store={tmp_path}/store",
        f"run.dir={tmp_path}/run", "trainer.max_steps=5",
    )  # fmt: skip
    jobs = dict(re.findall(r"(\w+): job (\d+)", told))
    assert list(jobs) == ["prepare", "train", "generate", "evaluate"]
    last = cluster.wait(int(jobs["evaluate"]), seconds=230)
    logs = {log.name: log.read_text() for log in (tmp_path / "run/slurm").glob("*.log")}
    assert last["JobState"] == "COMPLETED", logs
    assert len(pd.read_csv(tmp_path / "run/synthetic.csv")) == 50
    assert (tmp_path / "run/report/report.json").read_text().startswith("{")


def test_a_failing_stage_says_why_and_stops_those_after_it(cluster, tmp_path):
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n3,4,5\n")
    (tmp_path / "one.yaml").write_text(TP2_DP2.replace("size: 2}", "size: 1}"))
    told = submit(
        cluster, str(tmp_path / "one.yaml"), "--time", "20", "--chain", str(tmp_path / "bad.csv"),
        "--rows", "50",
        f"data.store={tmp_path}/store", f"run.dir={tmp_path}/run",
    )  # fmt: skip
    jobs = dict(re.findall(r"(\w+): job (\d+)", told))
    assert cluster.wait(int(jobs["prepare"]))["JobState"] == "FAILED"
    (log,) = (tmp_path / "run/slurm").glob("*.log")
    end = "\n".join(log.read_text().splitlines()[-4:])
    assert "FAILED: the command ended with exit code 2" in end and "3 fields where the header has 2" in end
    for stage in ("train", "generate"):
        assert cluster.wait(int(jobs[stage]))["JobState"] == "CANCELLED"
