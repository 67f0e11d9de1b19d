"""What a run's folder of checkpoints holds; asynchronous saves; one job a folder."""

import json
import os
import signal

import torch
from jobs import checkpoints, digest

from nemo_tabular.tokenizer import TableTokenizer


def test_latest_best_and_the_last_few_are_kept(jobs, token_store, tmp_path):
    run = tmp_path / "run"
    jobs.run(run, "trainer.keep_last=3", "optim.lr=0.3", "trainer.val_check_interval=1")
    kept, folder = checkpoints(run), run / "checkpoints"
    assert (folder / "latest").resolve().name == kept[-1]
    state = json.loads((folder / "latest" / "state.json").read_text())["state"]
    best = (folder / "best").resolve().name
    assert best == f"step-{state['best_step']:08d}"
    assert kept == sorted({*kept[-3:], best})
    assert state["data"] == {
        "position": state["step"] * 16,
        "seed": 1,
        "num_items": state["data"]["num_items"],
    }
    tokenizer = TableTokenizer.from_json(json.loads((folder / best / "tokenizer.json").read_text()))
    assert tokenizer.fingerprint() == token_store.tokenizer.fingerprint()


def test_an_asynchronous_save_holds_the_moment_it_was_taken(jobs, finished, tmp_path):
    """While a slow disk writes step 4, three more steps change every weight."""
    run, keep = tmp_path / "run", {"keep_weights": {"folder": str(tmp_path)}}
    settings = ["trainer.save_every_n_steps=4", "trainer.val_check_interval=100"]
    more = {"slow_writes": {"seconds": 2.0}, "send": {"number": signal.SIGTERM, "at": 7, "to": 0}}
    said = jobs.run(run, *settings, "trainer.async_save=true", ranks=2, hooks=keep | more)
    assert "stopped at step 7" in said
    (run / "checkpoints" / "step-00000007" / "state.json").unlink()
    jobs.run(run, *settings, ranks=2, hooks=keep)
    saved, later, restored = (torch.load(tmp_path / name) for name in ("saved-4", "saved-7", "restored-4"))
    for name in saved:
        assert torch.equal(saved[name], restored[name])
        assert not torch.equal(saved[name], later[name])
    assert digest(run) == digest(finished(*settings, ranks=2))


def test_two_jobs_do_not_write_in_one_folder(jobs, finished, tmp_path):
    """The second waits for the first to end."""
    run = tmp_path / "run"
    first = jobs.start(run, hooks={"slow": {"seconds": 0.1}})
    first.until("step 2/")
    second = jobs.start(run)
    second.until("waiting for it to end")
    assert f"held by process {first.process}" in second.log.read_text()
    os.kill(first.process, signal.SIGTERM)
    assert (first.wait(), second.wait()) == (0, 0)
    assert digest(run) == digest(finished())
