"""Heartbeats of all ranks enter; the end of the job leaves where one of them hangs, with its name.

A rank that hangs makes all others wait in the next exchange, silently and for good. Each rank beats from a
thread of its own and listens to the next rank's beat, so the work does not grow with the number of ranks. A
process that is stopped or gone beats no more; one that is alive but stuck stands still in its step.
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch.distributed as dist

log = logging.getLogger("nemo_tabular")

EXIT_HANG = 75  # EX_TEMPFAIL of sysexits.h: the same again may well succeed
BEATS = 10  # in one timeout
STILL = 2  # timeouts; a rank that is silent is found first, and it is the better answer
PARTS = ("reading", "computing", "waiting for the others")
ABORT = "abort"


class Watchdog:
    """Within, the job ends with exit code 75 when a rank has been silent for `timeout` seconds, or all stand
    still for twice as long. `at(step, part)` says how far this rank got; `rest()` that what follows (a
    validation, a save) may take its time.
    """

    def __init__(self, timeout: float, end: Callable[[int], None] = os._exit) -> None:
        self.timeout, self._end = timeout, end
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._place, self._moved, self._resting = 0, time.monotonic(), True
        self._done = threading.Event()
        self._round = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name="watchdog", daemon=True)
            for target in (self._watch, self._oversee)
        ]

    def __enter__(self) -> "Watchdog":
        if self.size > 1:
            # a connection of its own: the others' waits would block it, and it theirs
            store: Any = dist.distributed_c10d._get_default_store()
            store = store.clone()
            store.set_timeout(timedelta(seconds=2 * STILL * self.timeout))
            self._store = dist.PrefixStore("watchdog", store)
            self._store.set(
                f"name/{self.rank}", f"rank {self.rank} (host {os.uname().nodename}, process {os.getpid()})"
            )
            self._beat(f"0 {self._place}")  # at once: a rank that hangs before its first round has begun
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        for thread in self._threads if self.size > 1 else []:
            thread.join(self.timeout)

    def at(self, step: int, part: int) -> None:
        """This rank begins a part (of PARTS) of a step."""
        place = step * len(PARTS) + part
        self._place, self._moved, self._resting = place, time.monotonic(), False

    def rest(self) -> None:
        """Until the next `at` this rank need not get on."""
        self._resting = True

    def _beat(self, text: str) -> None:
        self._store.set(f"beat/{self.rank}", text)

    def _watch(self) -> None:
        heard, at, number = b"", time.monotonic(), 0
        neighbour = (self.rank + 1) % self.size
        try:
            while not self._done.wait(self.timeout / BEATS):
                number, self._round = number + 1, time.monotonic()
                self._beat(f"{number} {self._place}")
                if self._store.check([ABORT]):
                    self._abort(self._store.get(ABORT).decode())
                if not self._store.check([f"beat/{neighbour}"]):
                    at = time.monotonic()  # it has not begun yet
                    continue
                beat = self._store.get(f"beat/{neighbour}")
                if beat != heard or beat == b"done":
                    heard, at = beat, time.monotonic()
                if time.monotonic() - at > self.timeout:
                    self._tell(f"{self._name(neighbour)} has not been heard of for {self.timeout:g} s")
                if not self._resting and time.monotonic() - self._moved > STILL * self.timeout:
                    self._tell(self._stuck())
            self._beat("done")
        except dist.DistError as error:
            if not self._done.is_set():
                self._abort(f"rank 0 or its launcher, where the ranks meet, is gone ({error})")

    def _oversee(self) -> None:
        """Watch the watch: a question to a stopped rank 0, where the ranks meet, is never answered."""
        while not self._done.wait(self.timeout / BEATS):
            if time.monotonic() - self._round > STILL * self.timeout:
                self._abort(f"rank 0, where the ranks meet, has not answered for {STILL * self.timeout:g} s")

    def _name(self, rank: int) -> str:
        return self._store.get(f"name/{rank}").decode()

    def _stuck(self) -> str:
        """Who is furthest behind, where all are alive and none gets on."""
        beats = [self._store.get(f"beat/{rank}").split()[-1] for rank in range(self.size)]
        places = [int(beat) if beat != b"done" else self._place for beat in beats]
        step, part = divmod(min(places), len(PARTS))
        behind = [self._name(rank) for rank, place in enumerate(places) if place == min(places)]
        who = "all ranks hang" if len(behind) == self.size else f"{', '.join(behind)} hangs"
        return f"{who} in step {step + 1}, {PARTS[part]}, for {STILL * self.timeout:g} s"

    def _tell(self, what: str) -> None:
        self._store.set(ABORT, what)
        self._abort(what)

    def _abort(self, what: str) -> None:
        log.error("%s. The job ends here; start it again to go on from the last checkpoint", what)
        logging.shutdown()
        self._end(EXIT_HANG)
