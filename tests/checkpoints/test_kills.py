"""kill -9 at any moment, of launcher and ranks: nothing is lost but the steps since the last save."""

import json
import os
import random
import signal
import time

import pytest
from jobs import checkpoints, digest

KILLS = 40


def whole_checkpoint(run) -> int:
    """Step of the newest checkpoint, every file of which is as it was written; 0 where there is none yet."""
    names = checkpoints(run)
    for name in names:
        folder = run / "checkpoints" / name
        manifest = json.loads((folder / "manifest.json").read_text())["files"]
        assert all((folder / file).stat().st_size == size for file, (_, size) in manifest.items())
    return int(names[-1].removeprefix("step-")) if names else 0


def test_forty_kills_cost_only_the_steps_since_the_last_save(jobs, finished, tmp_path):
    """Two ranks, saving every second step, every other run asynchronously. The launcher and a rank are killed
    in turn, at moments drawn from the time that a whole run takes, start and end included.
    """
    settings = ["trainer.save_every_n_steps=2"]
    slow = {"slow": {"seconds": 0.01}}
    whole = digest(finished(*settings, ranks=2))
    started = time.monotonic()
    jobs.run(tmp_path / "timed", *settings, ranks=2, hooks=slow)
    length = time.monotonic() - started
    draw, kills, runs, resumed = random.Random(5), 0, 0, 0
    while kills < KILLS:
        run, reached = tmp_path / f"run{runs}", 0
        runs += 1
        asynchronous = [f"trainer.async_save={runs % 2 == 0}"]
        while not (run / "model").exists():
            job = jobs.start(run, *settings, *asynchronous, ranks=2, hooks=slow)
            if kills < KILLS:
                ranks = job.ranks(2)
                time.sleep(draw.uniform(0, 0.9 * length))
                victim = job.process if kills % 2 else ranks[draw.randrange(2)]
                try:
                    os.kill(victim, signal.SIGKILL)
                    kills += 1
                except ProcessLookupError:
                    pass
            code, said = job.wait(), job.log.read_text()
            assert code in (0, 1, -signal.SIGKILL, 128 + signal.SIGKILL), said
            assert "damaged" not in said
            if reached and code == 0 and "fit: steps" in said:
                assert f"fit: steps {reached} to" in said, said
                resumed += 1
            now = whole_checkpoint(run) if (run / "checkpoints").exists() else 0
            assert now >= reached
            reached = now
        assert digest(run) == whole
        assert not [p for p in (run / "checkpoints").glob(".step-*") if p.name != ".lock"]
    assert kills == KILLS
    assert resumed


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_kill_in_the_middle_of_a_save_leaves_the_one_before(jobs, finished, tmp_path, asynchronous):
    settings = ["trainer.save_every_n_steps=2", f"trainer.async_save={asynchronous}"]
    run = tmp_path / "run"
    job = jobs.start(run, *settings, ranks=2)
    job.until("step 4/")
    job.kill()
    before = checkpoints(run)
    job = jobs.start(run, *settings, ranks=2, hooks={"slow_writes": {"seconds": 30}})
    while not list((run / "checkpoints").glob(".step-*.tmp/megatron/writing-1")):
        time.sleep(0.005)
    job.kill(job.ranks(2)[1])
    assert checkpoints(run) == before
    assert list((run / "checkpoints").glob(".step-*.tmp"))
    jobs.run(run, *settings, ranks=2)
    assert not list((run / "checkpoints").glob(".step-*"))
    assert digest(run) == digest(finished("trainer.save_every_n_steps=2", ranks=2))
