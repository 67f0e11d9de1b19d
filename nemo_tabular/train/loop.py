"""The training loop: a model, batches and a state enter; trained weights leave. It knows nothing of parallel
layouts.

Each step's data and learning rate depend on (seed, step) only, so a run that was stopped anywhere ends where
it would have ended.
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batches import DocumentBatches, RowBatches
from ..config import Config
from ..engine.step import TrainStep
from ..errors import ConfigError
from .checkpoints import Checkpoints, Snapshot, TrainState
from .logs import RunLog
from .schedule import learning_rate, parse_time
from .validate import Validation, codes_of, to_device

MAX_BAD_STEPS = 5


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within, SIGINT, SIGTERM and SIGUSR1 only raise a flag, which the yielded function reads.

    Leaving after a SIGINT (Ctrl-C, a notebook's stop button) raises the KeyboardInterrupt that was held back.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {s: signal.signal(s, lambda number, _frame: received.append(number)) for s in wanted}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGINT in received:
        raise KeyboardInterrupt("stopped in good order; the same again goes on from there")


@dataclass
class Loop:
    """One phase of training: `run` goes on from `state` to its end, or to a signal or the time limit."""

    config: Config
    step: TrainStep
    micro_batch_size: int
    batches: RowBatches | DocumentBatches
    validation: Validation | None
    state: TrainState
    log: RunLog
    checkpoints: Checkpoints | None
    rank: int
    """Place in the data-parallel group, which says what is read."""
    ranks: int
    device: torch.device
    started: float
    best: dict[str, Tensor] | None = None

    def run(self) -> bool:
        """True if the phase came to its end; False if it was stopped (and saved) on the way."""
        trainer, state = self.config.trainer, self.state
        interval = trainer.val_check_interval or max(1, math.ceil(state.steps / 10))
        save_every = trainer.save_every_n_steps or interval
        deadline, bad = self.started + parse_time(trainer.max_time), 0
        self.log.begin(state.phase, state.step, state.steps, self.batches.global_batch_size)
        with stop_signals() as stopped:
            while state.step < state.steps:
                loss, norm = self._one_step()
                bad = 0 if math.isfinite(loss) and math.isfinite(norm) else bad + 1
                if bad >= MAX_BAD_STEPS:
                    raise ConfigError(
                        f"step {state.step}: loss or gradient not finite {bad} times running; "
                        "the last good weights "
                        f"are kept. Lower optim.lr (now {self.config.optim.lr})"
                    )
                ended = state.step == state.steps
                if self.validation and (ended or state.step % interval == 0) and not self._validate():
                    break
                interrupted = not ended and (stopped() or time.monotonic() > deadline)
                if interrupted or (state.step % save_every == 0 and not ended):
                    self._save()
                if interrupted:
                    self.log.end()
                    return False
        self.log.end()
        return True

    def _one_step(self) -> tuple[float, float]:
        state = self.state
        codes = to_device(
            codes_of(self.batches)(self.batches.at(state.step, self.rank, self.ranks)), self.device
        )
        size = self.micro_batch_size
        pieces = codes.split(size, dim=1) if isinstance(codes, Tensor) else codes.split(size)
        lr = learning_rate(self.config.optim, state.step, state.steps)
        loss, norm = self.step(pieces, lr)
        state.step += 1
        last = state.step == state.steps
        self.log.step(
            state.step, loss, lr, norm, last or state.step % self.config.trainer.log_every_n_steps == 0
        )
        return loss, norm

    def _validate(self) -> bool:
        """Validate and remember the best weights. False when it is time to stop early."""
        state = self.state
        assert self.validation is not None
        total, by_column = self.validation(self.step, self.rank, self.ranks)
        better = total < state.best_nll
        state.validations.append((state.step, total))
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best_nll, state.best_step = total, state.step
            self.best = {name: t.clone() for name, t in self.step.weights().items()}
            if self.checkpoints is not None:
                self.checkpoints.save_best(self.best)
        self.log.validation(state.step, total, by_column, better)
        return state.stale < self.config.trainer.patience

    def _save(self) -> None:
        if self.checkpoints is not None:
            self.checkpoints.save(Snapshot(self.state, self.step.weights(), self.step.optimizer_state()))

    def result(self) -> dict[str, Tensor]:
        """This rank's part of the best weights where there was validation, else of the last."""
        if self.best is None and self.validation and self.checkpoints is not None:
            self.best = self.checkpoints.best()
        return self.best if self.best is not None else self.step.weights()
