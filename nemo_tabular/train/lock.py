"""A folder enters; the right to write in it leaves, for one process at a time.

What a killed launcher left behind may still be writing when the same run is started again.
"""

import fcntl
import logging
import os
import time
from pathlib import Path
from typing import IO

from ..errors import CheckpointError

log = logging.getLogger("nemo_tabular")

PATIENCE = 60.0  # seconds; what dies with its launcher is gone by then
POLL = 0.05


class FolderLock:
    """A lock that the system frees when its holder dies. A file system without locks is taken on trust."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".lock"
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Wait a minute for whoever has it. Raises CheckpointError that names them."""
        file = open(self.path, "a+")  # noqa: SIM115  closing it gives the lock back
        waiting_until, told = time.monotonic() + PATIENCE, False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
            except OSError:
                break
            if not told:
                log.info("%s is held by %s; waiting for it to end", self.path.parent, holder)
                told = True
            if time.monotonic() > waiting_until:
                raise CheckpointError(
                    f"{self.path.parent} is being written by {holder}: wait until it ends, or set "
                    "another run.dir"
                )
            time.sleep(POLL)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give it back; harmless where it was never acquired."""
        if self._file is not None:
            self._file.close()
            self._file = None
