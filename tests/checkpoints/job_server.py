"""Lines of JSON enter on stdin, each a command line of `nemo-tabular`; process numbers and exit codes leave.

Torch and Megatron are imported once; each job is a fork of this process in a session of its own, and from
there on what a user starts: launcher, ranks, signals, exit codes. `hooks` names functions of hooks.py to call
first.
"""

import json
import os
import resource
import select
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def run(request: dict) -> int:
    """The life of a job, in its own process."""
    os.setsid()
    with open(request["log"], "ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    if request.get("largest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["largest_file"], resource.RLIM_INFINITY))
    for name, arguments in request["hooks"].items():
        import hooks

        getattr(hooks, name)(**arguments)
    from nemo_tabular.cli import main

    return main(request["argv"])


def serve() -> None:
    import nemo_tabular.train.run  # noqa: F401  what every job needs

    lines = os.fdopen(os.dup(0), "rb", buffering=0)
    running = set()
    while True:
        ready, _, _ = select.select([lines], [], [], 0.01)
        if ready:
            line = lines.readline()
            if not line:
                return
            process = os.fork()
            if not process:
                code = 1
                try:
                    code = run(json.loads(line))
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 1
                except BaseException:
                    import traceback

                    traceback.print_exc()
                finally:
                    sys.stderr.flush()
                    os._exit(code)
            running.add(process)
            print(json.dumps({"started": process}), flush=True)
        for process in list(running):
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                running.remove(process)
                print(json.dumps({"ended": process, "code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    serve()
