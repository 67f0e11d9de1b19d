"""The training loop: a model, batches and a state enter; trained weights leave. It knows nothing of parallel
layouts.

Each step's data and learning rate depend on (seed, step) only, so a run that was stopped anywhere ends where
it would have ended.
"""

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..batches import Batches, DocumentBatches, micro_batches
from ..config import Config
from ..engine.control import Control
from ..engine.step import TrainStep
from ..errors import ConfigError
from .checkpoints import Checkpoints, TrainState
from .logs import RunLog
from .schedule import learning_rate, parse_time
from .validate import Validation, to_device, worse_beyond_chance
from .watchdog import Watchdog

log = logging.getLogger("nemo_tabular")


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
    by_length: bool
    """Whether micro-batches may differ in length, so that histories need little padding."""
    batches: Batches
    validation: Validation | None
    state: TrainState
    log: RunLog
    checkpoints: Checkpoints | None
    control: Control
    watchdog: Watchdog
    stopped: Callable[[], bool]
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
        deadline = self.started + parse_time(trainer.max_time)
        interrupted = False
        histories = isinstance(self.batches, DocumentBatches)
        size = self.batches.global_batch_size
        self.log.begin(state.phase, state.step, state.steps, size, histories=histories)
        while state.step < state.steps:
            self._count_bad(*self._one_step())
            # a signal may have reached one rank only, and clocks differ
            self.watchdog.at(state.step, 2)
            (stop,) = self.control.any(self.stopped() or time.monotonic() > deadline)
            self.watchdog.rest()
            ended = state.step == state.steps
            better, stale = False, False
            if self.validation and (ended or state.step % interval == 0):
                better, stale = self._validate()
            interrupted = stop and not ended and not stale
            due = state.step % save_every == 0 and not ended and not stale
            if interrupted or better or due:
                self._save(best=better, last=interrupted)
            if interrupted or stale:
                break
        self.log.end()
        return not interrupted

    def _count_bad(self, loss: float, norm: float) -> None:
        """Tell of a step that was skipped. Raises ConfigError when there were too many running."""
        state, trainer = self.state, self.config.trainer
        bad = not (math.isfinite(loss) and math.isfinite(norm))
        state.bad = state.bad + 1 if bad else 0
        if state.bad >= trainer.max_bad_steps:
            raise ConfigError(
                f"step {state.step}: loss or gradient not finite {state.bad} times running; the last good "
                f"checkpoint is kept. Lower optim.lr (now {self.config.optim.lr})"
            )
        if bad and not self.log.quiet:
            log.warning("step %d: loss or gradient not finite; the step is skipped", state.step)

    def _one_step(self) -> tuple[float, float]:
        state = self.state
        self.watchdog.at(state.step, 0)
        batch = to_device(self.batches.batch_at(state.step, self.rank, self.ranks), self.device)
        pieces = micro_batches(batch, self.micro_batch_size, by_length=self.by_length)
        lr = learning_rate(self.config.optim, state.step, state.steps)
        self.watchdog.at(state.step, 1)
        loss, norm = self.step(pieces, lr)
        state.step += 1
        last = state.step == state.steps
        self.log.step(
            state.step, loss, lr, norm, last or state.step % self.config.trainer.log_every_n_steps == 0
        )
        return loss, norm

    def _validate(self) -> tuple[bool, bool]:
        """Validate and remember the best weights: whether these are, and whether it is time to stop early.

        The best are the last that are not worse than the lowest beyond chance: of few rows the lowest is
        often from before the rate has come down, and lower by nothing but chance.
        """
        state = self.state
        assert self.validation is not None
        found = self.validation(self.step, self.rank, self.ranks)
        finite = math.isfinite(found.nll)
        if finite and (not state.lowest or sum(found.folds) < sum(state.lowest)):
            state.lowest = found.folds
        worse = not finite or worse_beyond_chance(found.folds, state.lowest)
        better = not worse or not self.validation.decides
        state.validations.append((state.step, found.nll))
        state.stale = 0 if better else state.stale + 1
        if better:
            state.best_nll, state.best_step = found.nll, state.step
            if self.checkpoints is None:
                self.best = {name: t.clone() for name, t in self.step.weights().items()}
        self.log.validation(state.step, found.nll, found.by_column, better)
        return better, state.stale >= self.config.trainer.patience

    def _save(self, *, best: bool, last: bool) -> None:
        if self.checkpoints is not None:
            position = {"position": self.state.step * self.batches.global_batch_size}
            self.state.data = self.batches.state_dict() | position
            self.checkpoints.save(self.step, self.state, best=best, last=last)

    def use_best(self) -> None:
        """Make the weights those of the best validation, where there was one."""
        if self.best is not None:
            self.step.load_weights(self.best)
        elif self.checkpoints is not None:
            self.checkpoints.load_best(self.step, self.state)
