"""Lines of JSON enter on stdin, each asking for a function to be called on so many ranks; the ranks' results
leave on stdout.

Torch and Megatron are imported once; each call forks its ranks from here, which costs a fraction of a second
where new interpreters would cost ten. The ranks are real processes that meet over gloo on loopback.
"""

import contextlib
import importlib
import io
import json
import multiprocessing.resource_tracker
import multiprocessing.util
import os
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

GRACE = 3.0  # seconds that the others have once one rank has failed: they wait for it in vain


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_main(rank: int, request: dict, port: int, out: Path) -> None:
    """In the forked process: join, call, write {"result"} or {"error"}."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(request["ranks"]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    noise = io.StringIO()
    try:
        module, _, name = request["call"].rpartition(".")
        with contextlib.redirect_stdout(noise):
            answer = {"result": getattr(importlib.import_module(module), name)(**request["arguments"])}
    except BaseException:
        answer = {"error": f"rank {rank}:\n{traceback.format_exc()}"}
    temporary = out.with_suffix(".part")
    temporary.write_text(json.dumps(answer))
    temporary.rename(out)
    end_helpers()
    os._exit("error" in answer)


def end_helpers() -> None:
    """End what Megatron started to write a checkpoint: os._exit runs no exit handlers, and it would stay."""
    with contextlib.suppress(Exception):
        multiprocessing.util._exit_function()
        multiprocessing.resource_tracker._resource_tracker._stop()


def serve(request: dict) -> list[dict]:
    """Fork, wait, collect. A rank that is killed or too late is an error with its name."""
    port, deadline = free_port(), time.monotonic() + request["timeout"]
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.json" for rank in range(request["ranks"])]
        running = {}
        for rank, file in enumerate(files):
            process = os.fork()
            if not process:
                rank_main(rank, request, port, file)
            running[process] = rank
        while running and time.monotonic() < deadline:
            for process in list(running):
                done, status = os.waitpid(process, os.WNOHANG)
                if done:
                    del running[process]
                    if status:
                        deadline = min(deadline, time.monotonic() + GRACE)
            time.sleep(0.005)
        for process in running:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        lost = {"error": "no answer: killed, or still at it when the time was up"}
        return [json.loads(file.read_text()) if file.exists() else lost for file in files]


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is not an answer
    for module in sys.argv[1:]:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
