"""Training jobs, started, signalled, killed and waited for as a user would; and what they left behind."""

import csv
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nemo_tabular.models.saved import SavedModel

HERE = Path(__file__).parent
TINY = """\
model: {num_layers: 2, hidden_size: 16, num_attention_heads: 2}
data: {global_batch_size: 16, micro_batch_size: 8}
trainer: {max_steps: 15, val_check_interval: 5, save_every_n_steps: 3, log_every_n_steps: 1, final_fit: false,
          num_threads: 1, patience: 99}
"""


@dataclass
class Job:
    """One running `nemo-tabular train`."""

    server: "JobServer"
    process: int
    log: Path

    def wait(self, timeout: float = 60) -> int:
        """Its exit code."""
        return self.server.code(self.process, timeout)

    def ranks(self, count: int, timeout: float = 20) -> list[int]:
        """The processes of its ranks, once all are there."""
        until, children = (
            time.monotonic() + timeout,
            Path(f"/proc/{self.process}/task/{self.process}/children"),
        )
        while time.monotonic() < until:
            found = [int(child) for child in children.read_text().split()]
            if len(found) == count:
                return found
            time.sleep(0.005)
        raise AssertionError(f"{count} ranks expected, found {found}: {self.log.read_text()}")

    def until(self, text: str, timeout: float = 120) -> None:
        """Wait until it has said so."""
        until = time.monotonic() + timeout
        while text not in self.log.read_text():
            assert time.monotonic() < until, f"{text!r} never came: {self.log.read_text()}"
            time.sleep(0.005)

    def kill(self, process: int | None = None) -> None:
        """SIGKILL to the launcher, or to one of its processes; waits until the whole job is gone."""
        os.kill(process or self.process, signal.SIGKILL)
        self.wait()


@dataclass
class JobServer:
    """Starts jobs by fork; see job_server.py."""

    folder: Path
    store: Path
    recipe: Path
    process: Any = None
    """The server."""
    ended: dict[int, int] = field(default_factory=dict)
    started: int = 0

    def __enter__(self) -> "JobServer":
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "job_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def start(
        self,
        run: Path,
        *overrides: str,
        ranks: int | None = None,
        hooks: dict[str, dict[str, Any]] | None = None,
        **more: Any,
    ) -> Job:
        """`nemo-tabular train` in the folder `run`. `hooks`: functions of hooks.py and their arguments."""
        self.started += 1
        log = self.folder / f"job{self.started}.log"
        log.touch()
        argv = ["train", str(self.recipe), f"data.store={self.store}", f"run.dir={run}", *overrides]
        argv += [] if ranks is None else ["--ranks", str(ranks)]
        request = {"argv": argv, "log": str(log), "hooks": hooks or {}, **more}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Job(self, self._read("started"), log)

    def run(self, run: Path, *overrides: str, **more: Any) -> str:
        """A job from start to good end; what it said."""
        job = self.start(run, *overrides, **more)
        assert job.wait() == 0, job.log.read_text()
        return job.log.read_text()

    def _read(self, word: str) -> int:
        while True:
            answer = json.loads(self.process.stdout.readline())
            if "ended" in answer:
                self.ended[answer["ended"]] = answer["code"]
            if word in answer:
                return answer[word]

    def code(self, process: int, timeout: float) -> int:
        watch = time.monotonic() + timeout
        while process not in self.ended:
            poll = select.poll()
            poll.register(self.process.stdout, select.POLLIN)
            assert poll.poll(1000 * max(watch - time.monotonic(), 0)), (
                f"job {process} has not ended in {timeout} s"
            )
            self._read("ended")
        return self.ended[process]


def digest(run: Path) -> str:
    """sha256 of the finished model's weights and of every validation on the way."""
    model = SavedModel.load(run / "model")
    hashed = hashlib.sha256(json.dumps(model.info["validations"]).encode())
    for _, tensor in sorted(model.tensors.items()):
        hashed.update(tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()


def checkpoints(run: Path) -> list[str]:
    """Names of the checkpoints, oldest first."""
    return sorted(p.name for p in (run / "checkpoints").glob("step-*"))


def losses(run: Path) -> dict[int, str]:
    """Training loss of each step, as written; no step is told twice."""
    with open(run / "metrics.csv", newline="") as file:
        told = [(int(x["step"]), x["value"]) for x in csv.DictReader(file) if x["metric"] == "train_nll"]
    assert len(dict(told)) == len(told)
    return dict(told)
