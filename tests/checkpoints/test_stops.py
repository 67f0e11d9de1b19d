"""What ends a run before its time: signals, a hung rank, losses that are no numbers, a full disk."""

import os
import shutil
import signal
import time

import pytest
from jobs import checkpoints, digest, losses


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("to", ["launcher", "one rank"])
def test_signals_save_within_the_grace_time_and_end_well(jobs, finished, tmp_path, number, to):
    run = tmp_path / "run"
    if to == "launcher":
        job = jobs.start(run, ranks=2, hooks={"slow": {"seconds": 0.05}})
        job.until("step 4/")
        os.kill(job.process, number)
    else:
        job = jobs.start(run, ranks=2, hooks={"send": {"number": int(number), "at": 4, "to": 1}})
    assert job.wait(timeout=30) == 0, job.log.read_text()
    said = job.log.read_text()
    assert "the same command goes on from there" in said
    step = max(losses(run))
    assert f"stopped at step {step}" in said
    assert checkpoints(run)[-1] == f"step-{step:08d}"
    jobs.run(run, ranks=2)
    assert digest(run) == digest(finished(ranks=2))


@pytest.mark.alone
@pytest.mark.parametrize("to", [0, 1])
def test_a_hung_rank_is_named_and_the_job_ends(jobs, tmp_path, to):
    """Rank 0 keeps the ranks' meeting point, so its silence shows in another way."""
    settings = ["trainer.hang_timeout=3", "data.global_batch_size=12"]
    job = jobs.start(tmp_path / "run", *settings, ranks=3, hooks={"hang": {"at": 4, "to": to}})
    job.until("step 3/")
    began = time.monotonic()
    assert job.wait(timeout=40) == 75, job.log.read_text()
    assert time.monotonic() - began < 30
    said = job.log.read_text()
    assert f"rank {to}" in said.split("The job ends here")[0].splitlines()[-1], said
    assert checkpoints(tmp_path / "run") == ["step-00000003"]


@pytest.mark.alone
def test_a_rank_that_lives_but_stands_still_ends_the_job(jobs, tmp_path):
    hang = {"hang": {"at": 4, "to": 1, "seconds": 60}}
    job = jobs.start(tmp_path / "run", "trainer.hang_timeout=2", ranks=2, hooks=hang)
    assert job.wait(timeout=40) == 75, job.log.read_text()
    said = job.log.read_text()
    assert "rank 1" in said
    assert "hangs in step 4, computing, for 4 s" in said


@pytest.mark.parametrize("what", ["loss", "norm"])
def test_a_step_that_is_not_finite_is_skipped_and_told(jobs, tmp_path, what):
    run = tmp_path / "run"
    said = jobs.run(run, ranks=2, hooks={"not_finite": {"steps": [4], "what": what}})
    assert said.count("step 5: loss or gradient not finite; the step is skipped") == 1
    assert (run / "model").exists()


def test_steps_that_are_not_finite_end_the_run_and_leave_the_last_good_checkpoint(jobs, finished, tmp_path):
    run, bad = tmp_path / "run", {"not_finite": {"steps": list(range(7, 99)), "what": "loss"}}
    job = jobs.start(run, "trainer.max_bad_steps=3", ranks=2, hooks=bad)
    assert job.wait() == 2
    assert "step 10: loss or gradient not finite 3 times running" in job.log.read_text()
    jobs.run(run, ranks=2)  # without the fault it ends where it would have ended, but for the skipped steps
    assert set(losses(run)) == set(losses(finished(ranks=2)))


def test_weights_that_are_not_finite_are_not_saved(jobs, tmp_path):
    run = tmp_path / "run"
    job = jobs.start(run, "optim.lr=1e38", "optim.clip_grad=0", "trainer.save_every_n_steps=1")
    assert job.wait() == 2
    said = job.log.read_text()
    assert "some weight is not finite; the last checkpoint is kept instead" in said or not checkpoints(run)


FULL = 60_000  # bytes: a log grows, the recipe and the metrics fit, a shard does not


def test_a_full_disk_is_told_and_what_was_saved_stays(jobs, finished, tmp_path):
    run = tmp_path / "run"
    jobs.run(run, ranks=2, hooks={"send": {"number": signal.SIGTERM, "at": 4}})
    before = checkpoints(run)
    job = jobs.start(run, ranks=2, largest_file=FULL)
    assert job.wait() == 2
    said = job.log.read_text()
    assert "step-00000005: cannot be written: rank 0: File too large" in said
    assert "what was saved before is untouched" in said
    assert checkpoints(run) == before
    assert not list((run / "checkpoints").glob(".step-*"))
    jobs.run(run, ranks=2)
    assert digest(run) == digest(finished(ranks=2))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_training_goes_on_with_a_full_disk_if_told_to(jobs, tmp_path, asynchronous):
    run = tmp_path / "run"
    settings = ["trainer.on_save_error=continue", f"trainer.async_save={asynchronous}"]
    said = jobs.run(run, *settings, ranks=2, hooks={"full_disk": {"saves": [0, 1, 2]}})
    assert said.count("No space left on device") >= 3
    assert "training goes on (trainer.on_save_error)" in said
    assert checkpoints(run)[-1] == "step-00000015"
    assert (run / "model").exists()
    assert not list((run / "checkpoints").glob(".step-*"))


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_best_that_found_no_room_is_not_looked_for(jobs, tmp_path, asynchronous):
    """The seventh and last checkpoint of the run, which would be the best."""
    run = tmp_path / "run"
    settings = ["trainer.on_save_error=continue", f"trainer.async_save={asynchronous}"]
    said = jobs.run(run, *settings, hooks={"full_disk": {"saves": [6]}})
    assert said.count("step-00000015: cannot be written: rank 0: No space left on device") == 1
    assert checkpoints(run)[-1] == "step-00000012"
    assert (run / "model").exists()


@pytest.mark.skipif(
    not shutil.which("mount") or os.geteuid() != 0, reason="mounting a small tmpfs needs root"
)
def test_a_really_full_disk(jobs, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=1200k tmpfs {disk}"):
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        job = jobs.start(disk / "run", "trainer.keep_last=9")
        assert job.wait() == 2
        assert "No space left on device" in job.log.read_text()
        kept = checkpoints(disk / "run")
        assert kept and not list((disk / "run" / "checkpoints").glob(".step-*"))
        jobs.run(tmp_path / "elsewhere")
    finally:
        os.system(f"umount {disk}")
