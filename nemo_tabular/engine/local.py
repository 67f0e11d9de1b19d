"""A function and a number of ranks enter; that many processes of this machine run it and one exit code
leaves.

What torchrun does on one machine, with three differences: signals are handed on to the ranks and an orderly
stop counts as success (torchrun reports a signal as its own failure, and dies of SIGUSR1); what was imported
before is shared by all ranks; and no rank outlives its launcher, however that ends.
"""

import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

HANDED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
GRACE = 3.0  # seconds for the others to tell their side when one rank has failed
POLL = 0.02
PR_SET_PDEATHSIG = 1


def run_ranks(count: int, call: Callable[[], int]) -> int:
    """Run `call` in `count` forked processes under torchrun's environment variables. Returns 0 where all
    returned 0, else the first failure's code (128 + number for a signal); the other ranks are ended then.
    """
    port, launcher = _free_port(), os.getpid()
    ranks: dict[int, int] = {}

    def hand_on(number: int, _frame: FrameType | None) -> None:
        for process in list(ranks):
            os.kill(process, number)

    before = {number: signal.signal(number, hand_on) for number in HANDED_ON}
    try:
        for rank in range(count):
            process = os.fork()
            if process == 0:
                for number, handler in before.items():
                    signal.signal(number, handler)
                _be_rank(rank, count, port, launcher, call)
            ranks[process] = rank
        return _wait(ranks)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in ranks:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _wait(ranks: dict[int, int]) -> int:
    """Until all have ended, or one has failed and the others had their grace; takes the ended ones out."""
    failure, until = 0, float("inf")
    while ranks and time.monotonic() < until:
        for process in list(ranks):
            ended, status = os.waitpid(process, os.WNOHANG)
            if not ended:
                continue
            rank, code = ranks.pop(process), os.waitstatus_to_exitcode(status)
            if code and not failure:
                failure, until = code if code > 0 else 128 - code, time.monotonic() + GRACE
                how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
                print(f"rank {rank} (process {process}) ended with {how}; ending the others", file=sys.stderr)
        time.sleep(POLL)
    return failure


def _be_rank(rank: int, count: int, port: int, launcher: int, call: Callable[[], int]) -> None:
    """The life of one rank; does not return."""
    _die_with(launcher)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    code = 1
    try:
        code = call()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # a fork's exit handlers are its launcher's


def _die_with(launcher: int) -> None:
    """Have the system end this process when the launcher ends, even by SIGKILL (Linux; a no-op elsewhere)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:  # it ended before the line above
        os._exit(1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
