"""What a job is made to do besides training: each function is called in the job's process before it begins,
and its ranks inherit what it changed.
"""

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from nemo_tabular.engine import checkpoint
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.train.checkpoints import Checkpoints
from nemo_tabular.train.loop import Loop


def after_steps(call: Any) -> None:
    """`call(loop)` after every step."""
    real = Loop._one_step

    def step(self: Loop) -> tuple[float, float]:
        out = real(self)
        call(self)
        return out

    Loop._one_step = step


def rank() -> int:
    return int(os.environ.get("RANK", "0"))


def slow(seconds: float) -> None:
    """Steps take this much longer."""
    after_steps(lambda loop: time.sleep(seconds))


def send(number: int, at: int, to: int = 0) -> None:
    """After step `at`, rank `to` sends itself a signal."""
    after_steps(lambda loop: os.kill(os.getpid(), number) if (loop.state.step, rank()) == (at, to) else None)


def hang(at: int, to: int, seconds: float = 0) -> None:
    """After step `at`, rank `to` is stopped; or, with `seconds`, lives on but does nothing."""

    def stop(loop: Loop) -> None:
        if (loop.state.step, rank()) == (at, to):
            if seconds:
                time.sleep(seconds)
            os.kill(os.getpid(), signal.SIGSTOP)

    after_steps(stop)


def not_finite(steps: list[int], what: str) -> None:
    """The "loss" or the "norm" of these steps (from 0) is no number."""
    real = TrainStep._totals
    count = [0]

    def totals(self: TrainStep, sums: Any, documents: int) -> tuple[float, float]:
        loss, norm = real(self, sums, documents)
        bad = count[0] in steps
        count[0] += 1
        return (float("inf") if bad and what == "loss" else loss), (
            float("nan") if bad and what == "norm" else norm
        )

    TrainStep._totals = totals


def slow_writes(seconds: float) -> None:
    """Each rank's part of a checkpoint takes this long on its way to the disk."""
    real = checkpoint.Shards.write

    def write(self: checkpoint.Shards, folder: Path) -> Any:
        (folder / f"writing-{rank()}").touch()
        time.sleep(seconds)
        (folder / f"writing-{rank()}").unlink()
        return real(self, folder)

    checkpoint.Shards.write = write


def note_items(folder: str) -> None:
    """One line a step and rank: the step, and the numbers of the rows that it was made of there."""

    def note(loop: Loop) -> None:
        items = loop.batches.at(loop.state.step - 1, loop.rank, loop.ranks).tolist()
        with open(Path(folder) / f"items-{rank()}-{os.getpid()}", "a") as file:
            file.write(json.dumps([loop.state.step - 1, items]) + "\n")

    after_steps(note)


def keep_weights(folder: str) -> None:
    """The whole model at each save and each restore, in files `saved-STEP` and `restored-STEP`."""
    save, restore = Checkpoints.save, Checkpoints.restore

    def keep(name: str, trained: TrainStep) -> None:
        whole = whole_tensors(trained.modules, trained.weights())
        if whole:
            torch.save(whole, Path(folder) / name)

    def save_and_keep(self: Checkpoints, trained: TrainStep, state: Any, **how: Any) -> None:
        keep(f"saved-{state.step}", trained)
        save(self, trained, state, **how)

    def restore_and_keep(self: Checkpoints, found: Any, trained: TrainStep) -> None:
        restore(self, found, trained)
        keep(f"restored-{found.state.step}", trained)

    Checkpoints.save, Checkpoints.restore = save_and_keep, restore_and_keep


def full_disk(saves: list[int]) -> None:
    """These saves of each rank (from 0) find no room."""
    real = checkpoint.Shards.write
    count = [0]

    def write(self: checkpoint.Shards, folder: Path) -> Any:
        count[0] += 1
        if count[0] - 1 in saves:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, folder)

    checkpoint.Shards.write = write
