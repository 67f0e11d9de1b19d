"""A run that is stopped and goes on: bit for bit in the same layout, to rounding in any other, on the same
data.
"""

import json
import os
import signal
from collections import Counter

import pytest
import torch
from jobs import checkpoints, digest, losses

TP2, PP2 = "model.tensor_model_parallel_size=2", "model.pipeline_model_parallel_size=2"
CP2, SP = "model.context_parallel_size=2", "model.sequence_parallel=true"
VPP2 = ("model.virtual_pipeline_model_parallel_size=2", "model.num_layers=4")
SHARDED = "optim.use_distributed_optimizer=true"
AT = 5  # steps before the stop, ten after it


def stop(to: int = 0) -> dict[str, dict[str, int]]:
    return {"send": {"number": signal.SIGTERM, "at": AT, "to": to}}


SAME = {
    "one process": (None, []),
    "bf16": (None, ["trainer.precision=bf16-mixed"]),
    "dp2 async": (2, ["trainer.async_save=true"]),
    "dp2 sharded": (2, [SHARDED]),
    "dp2 sharded bf16": (2, [SHARDED, "trainer.precision=bf16-mixed"]),
    "tp2pp2": (4, [TP2, PP2, SP]),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_layout_goes_on_bit_for_bit(jobs, finished, tmp_path, name):
    ranks, settings = SAME[name]
    whole, parts = finished(*settings, ranks=ranks), tmp_path / "run"
    assert f"stopped at step {AT}" in jobs.run(parts, *settings, ranks=ranks, hooks=stop())
    assert not (parts / "model").exists()
    jobs.run(parts, *settings, ranks=ranks)
    assert digest(parts) == digest(whole)
    assert losses(parts) == losses(whole)
    last = checkpoints(whole)[-1]
    assert last == "step-00000015"
    # weights, moments, step counts and generators: the very bytes of every rank's file
    shards = [
        {name: stamp for name, stamp in manifest["files"].items() if name.endswith(".distcp")}
        for manifest in (
            json.loads((run / "checkpoints" / last / "manifest.json").read_text()) for run in (whole, parts)
        )
    ]
    assert shards[0] == shards[1]
    assert shards[0]


OTHER = {
    "tp2 to pp2": (2, [TP2], 2, [PP2]),
    "tp2 to tp2pp2": (2, [TP2], 4, [TP2, PP2]),
    "tp2 to dp4": (2, [TP2], 4, []),
    "tp2 to one process": (2, [TP2], None, []),
    "one process to tp2pp2 interleaved": (None, VPP2[1:], 4, [TP2, PP2, SP, *VPP2]),
    "pp2 to cp2": (2, [PP2], 2, [CP2]),
    "sharded: tp2dp2 to pp2dp2": (4, [TP2, SHARDED], 4, [PP2, SHARDED]),
    "sharded: dp4 to dp2": (4, [SHARDED], 2, [SHARDED]),
    "sharded: dp2 to one process": (2, [SHARDED], None, [SHARDED]),
}


@pytest.mark.parametrize("name", OTHER)
def test_another_layout_goes_on_to_rounding(jobs, finished, tmp_path, name):
    ranks, settings, other_ranks, other_settings = OTHER[name]
    run, keep = tmp_path / "run", {"keep_weights": {"folder": str(tmp_path)}}
    jobs.run(run, *settings, ranks=ranks, hooks=keep | stop())
    assert checkpoints(run)[-1] == f"step-{AT:08d}"
    jobs.run(run, *other_settings, ranks=other_ranks, hooks=keep)
    saved, restored = (torch.load(tmp_path / f"{what}-{AT}") for what in ("saved", "restored"))
    assert saved.keys() == restored.keys()
    assert all(torch.equal(saved[name], restored[name]) for name in saved)
    layers = [s for s in settings if s.startswith("model.num_layers")]
    whole = {step: float(loss) for step, loss in losses(finished(*layers)).items()}
    assert {step: float(loss) for step, loss in losses(run).items()} == pytest.approx(whole, rel=1e-5)
    assert len(whole) == AT + 10


def test_a_sharded_optimizer_is_not_taken_for_a_whole_one(jobs, tmp_path):
    jobs.run(tmp_path / "run", SHARDED, hooks=stop())
    job = jobs.start(tmp_path / "run")
    assert job.wait() == 2
    assert "optim.use_distributed_optimizer: True there, False now" in job.log.read_text()


def test_each_row_is_read_once_an_epoch_whatever_happens(jobs, token_store, tmp_path):
    """Killed on one process, stopped on four, ended on two: what the steps of the whole run were made of."""
    run, rows = tmp_path / "run", token_store.manifest.splits["train"].documents
    steps = 2 * rows // 16
    settings = [f"trainer.max_steps={steps}", "trainer.val_check_interval=1000"]
    note = {"hooks": {"note_items": {"folder": str(tmp_path)}}}
    job = jobs.start(run, *settings, **note)
    job.until("step 10/")
    job.kill()
    job = jobs.start(run, *settings, ranks=4, **note)
    job.until("step 20/")
    os.kill(job.process, signal.SIGTERM)
    assert job.wait() == 0
    jobs.run(run, *settings, ranks=2, **note)
    read: dict[int, set[int]] = {}
    for file in tmp_path.glob("items-*"):
        for step, items in map(json.loads, file.read_text().splitlines()):
            read.setdefault(step, set()).update(items)
    # a step that was done twice, by other ranks, was made of the same rows
    assert all(len(items) == 16 for step, items in read.items() if (step + 1) * 16 <= rows)
    epochs = Counter(item for step in range(steps) for item in read[step])
    assert sorted(read) == list(range(steps))
    assert set(epochs) == set(range(rows))
    first = [item for step in range(rows // 16) for item in read[step]]
    assert len(first) == len(set(first)) == rows // 16 * 16
    assert sum(epochs.values()) >= steps * 16 - 16  # the step across two epochs may hold a row twice
