"""The state of a run enters and leaves a folder of checkpoints; a checkpoint is whole on all ranks, or it
does not exist.

checkpoints/step-00000500/   manifest.json: sha256 and size of every other file, and its own
                             state.json: step, schedule, position in the data, best so far, layout
                             tokenizer.json: schema and codecs
                             megatron/: weights, optimizer and generators, Megatron's distributed checkpoint
checkpoints/latest, best     links to two of these

Steps are counted over both phases of a run, so that names sort in the order of time.
"""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..engine import checkpoint as distributed
from ..engine.checkpoint import Stamp
from ..engine.control import Control
from ..engine.step import TrainStep
from ..errors import CheckpointError
from .lock import FolderLock

log = logging.getLogger("nemo_tabular")

FORMAT = 1
SHARDS, MANIFEST = "megatron", "manifest.json"
HASH_BYTES = 1 << 20


@dataclass
class TrainState:
    """Where a run stands. The data of a step depend on (seed, step) only, so the step is the position."""

    phase: str = "fit"
    """"fit" or "final" (the fit on all rows)."""
    step: int = 0
    steps: int = 0
    """Length of the phase's schedule."""
    before: int = 0
    """Steps of the phase before this one."""
    best_step: int = 0
    best_nll: float = float("inf")
    lowest: list[float] = field(default_factory=list)
    """The lowest validation so far, by folds."""
    stale: int = 0
    """Validations since the best."""
    bad: int = 0
    """Steps since the last one whose loss and gradient were finite."""
    validations: list[tuple[int, float]] = field(default_factory=list)
    data: dict[str, int] = field(default_factory=dict)
    """The loader's position, and what it is a position in."""

    def forget_best(self) -> None:
        """It cannot be gone back to: the next validation sets the best."""
        self.best_step, self.best_nll, self.lowest = 0, float("inf"), []


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole on all ranks."""

    folder: Path
    state: TrainState
    about: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run. Methods are collective unless they say otherwise: all ranks call them
    together.

    `about`: JSON that must be the same when the run goes on (layout apart); `files`: what goes into every
    checkpoint as it is. `go_on`: a checkpoint that cannot be written is told and training goes on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep_last: int = 2,
        asynchronous: bool = False,
        go_on: bool = False,
        about: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        self.folder, self.keep_last, self.asynchronous, self.go_on = folder, keep_last, asynchronous, go_on
        self.about, self.files = dict(about or {}), dict(files or {})
        self.control, self._writers = Control(), Control()
        self._thread: threading.Thread | None = None
        self._error: str | None = None
        self._crash: BaseException | None = None
        self._writing_best = self._validated = False
        self._lock = FolderLock(folder)
        self.control.on_first(self._open)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        for rest in self.folder.glob(".step-*.tmp"):  # of a run that was killed while it wrote
            shutil.rmtree(rest, ignore_errors=True)

    def close(self) -> None:
        """Let others have the folder. Not collective; waits for what is being written."""
        if self._thread is not None:
            self._thread.join()
        self._lock.release()

    # ---- saving ----

    def save(self, trained: TrainStep, state: TrainState, *, best: bool = False, last: bool = False) -> None:
        """Write a checkpoint, or (asynchronous) take a copy of everything and write it while training goes
        on.

        `best` makes it the best so far. `last`: training stops here, so wait for it, and a failure is an
        error in any case. Raises CheckpointError for this one or for the one before.
        """
        self._settle(state, forgive=self.go_on)
        number = state.before + state.step
        if self.control.any(not distributed.finite(trained))[0]:
            if self.control.rank == 0:
                log.warning("step %d: some weight is not finite; the last checkpoint is kept instead", number)
            return
        now, self._writing_best = replace(state, validations=list(state.validations)), best
        target = self.folder / f"step-{number:08d}"
        temporary = self.folder / f".{target.name}.tmp"
        try:
            self.control.on_first(lambda: (temporary / SHARDS).mkdir(parents=True, exist_ok=True))
            copy = self.asynchronous and not last
            shards = distributed.Shards(trained, temporary / SHARDS, copy=copy, validate=not self._validated)
            self._validated = True
            write = functools.partial(self._write, shards, now, temporary, target)
            if copy:
                self._thread = threading.Thread(target=self._guard, args=(write,), name=f"save {target.name}")
                self._thread.start()
                return
            write()
        except OSError as error:
            self._error = self._failure(target, [_reason(error)])
        self._settle(state, forgive=self.go_on and not last)

    def _guard(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:
            self._crash = error

    def _settle(self, state: TrainState, forgive: bool) -> None:
        """Wait for the checkpoint being written. Raises CheckpointError, or warns, where it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._crash is not None:  # such as another rank's death in the middle
            raise self._crash
        error, self._error = self._error, None
        if error is None:
            return
        if not forgive:
            raise CheckpointError(error)
        if self.control.rank == 0:
            log.warning("%s; training goes on (trainer.on_save_error)", error)
        if self._writing_best:
            state.forget_best()

    def _write(self, shards: distributed.Shards, state: TrainState, temporary: Path, target: Path) -> None:
        stamps: dict[str, Stamp] = {}
        results: list[Any] = []
        error = None
        try:
            stamps, results = shards.write(temporary / SHARDS)
        except (OSError, RuntimeError) as raised:
            error = _reason(raised)
        every = self._writers.gather((stamps, results, error))
        errors = [f"rank {rank}: {why}" for rank, (_, _, why) in enumerate(every) if why]
        if self._writers.rank == 0 and not errors:
            try:
                self._complete(shards, every, state, temporary, target)
            except (OSError, RuntimeError) as raised:
                errors = [_reason(raised)]
        if self._writers.rank == 0 and errors:
            shutil.rmtree(temporary, ignore_errors=True)
        errors = self._writers.from_first(errors)
        if errors:
            self._error = self._failure(target, errors)

    def _failure(self, target: Path, errors: list[str]) -> str:
        return (
            f"{target}: cannot be written: {'; '.join(errors)}; what was saved before is untouched. Make "
            "room (or mend the permissions) and start again: the run resumes"
        )

    def _complete(
        self, shards: distributed.Shards, every: list[Any], state: TrainState, temporary: Path, target: Path
    ) -> None:
        """On rank 0, when all shards are on disk: the manifest, then the name."""
        stamps = shards.finish(temporary / SHARDS, [results for _, results, _ in every])
        for shard_stamps, _, _ in every:
            stamps |= shard_stamps
        manifest = {f"{SHARDS}/{name}": stamp for name, stamp in stamps.items()}
        content = {"format": FORMAT, "state": asdict(state), "about": self.about}
        for name, data in {**self.files, "state.json": json.dumps(content, indent=1).encode()}.items():
            _write_through(temporary / name, data)
            manifest[name] = (hashlib.sha256(data).hexdigest(), len(data))
        listed = {"sha256": _own_digest(manifest), "files": manifest}
        _write_through(temporary / MANIFEST, json.dumps(listed, indent=1).encode())
        _flush(temporary / SHARDS)
        _flush(temporary)
        if target.exists():  # left by a run that had to go back further than this
            shutil.rmtree(target)
        temporary.rename(target)
        _flush(self.folder)
        self._link("latest", target.name)
        best = f"step-{state.best_step:08d}"
        if (self.folder / best).is_dir():
            self._link("best", best)
        every = self._all()
        place = every.index(target)
        # those that are newer were found damaged, or the run would not be here
        for other in every[: max(place + 1 - self.keep_last, 0)] + every[place + 1 :]:
            if other.name != best:
                _remove(other)

    def _link(self, name: str, target: str) -> None:
        new = self.folder / f".{name}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(target)
        new.replace(self.folder / name)

    # ---- loading ----

    def newest(self) -> Found | None:
        """The newest checkpoint that is whole, the same on all ranks; damaged ones are named in the log.

        Raises CheckpointError if there are checkpoints and none is whole.
        """
        names = self.control.on_first(lambda: [folder.name for folder in self._all()])
        damaged = []
        for name in reversed(names):
            try:
                found = self._found(self.folder / name)
            except CheckpointError as error:
                if self.control.rank == 0:
                    log.warning("%s; trying the one before", error)
                damaged.append(str(error))
                continue
            return self._with_best(found)
        if damaged:
            raise CheckpointError("no whole checkpoint is left: " + "; ".join(damaged))
        return None

    def _found(self, folder: Path) -> Found:
        """Check every file; the ranks share the work. Raises CheckpointError, the same on all of them."""
        manifest = self.control.on_first(lambda: _manifest(folder))
        mine = sorted(manifest)[self.control.rank :: self.control.size]
        problems = [
            problem for problem in (_damage(folder, name, manifest[name]) for name in mine) if problem
        ]
        problems = [problem for some in self.control.gather(problems) for problem in some]
        if problems:
            raise CheckpointError("; ".join(problems))
        content = self.control.on_first(lambda: json.loads((folder / "state.json").read_bytes()))
        if content["format"] > FORMAT:
            raise CheckpointError(
                f"{folder}: written by a newer version (format {content['format']}); upgrade"
            )
        return Found(folder, TrainState(**content["state"]), content["about"])

    def _with_best(self, found: Found) -> Found:
        """As it is where its best checkpoint is whole too; else the next validation sets the best."""
        state = found.state
        if state.phase != "fit" or not state.best_step or state.best_step == state.step:
            return found
        try:
            self._found(self.folder / f"step-{state.best_step:08d}")
        except CheckpointError as error:
            if self.control.rank == 0:
                log.warning("%s; it was the best so far: the next validation sets another", error)
            state.forget_best()
        return found

    def restore(self, found: Found, trained: TrainStep) -> None:
        """Fill weights, optimizer and, with the same number of ranks in the same layout, the generators."""
        same = found.about.get("layout") == self.about.get("layout")
        distributed.load(trained, found.folder / SHARDS, rng=same)

    def load_best(self, trained: TrainStep, state: TrainState) -> bool:
        """Fill the weights with those of the best validation. False where it could not be saved."""
        self._settle(state, forgive=self.go_on)
        if not state.best_step:
            return False
        distributed.load(
            trained, self._found(self.folder / f"step-{state.best_step:08d}").folder / SHARDS, optimizer=False
        )
        return True

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        folders = [p for p in self.folder.iterdir() if re.fullmatch(r"step-\d{8,}", p.name)]
        return sorted(folders, key=lambda p: int(p.name.removeprefix("step-")))


def _manifest(folder: Path) -> dict[str, Stamp]:
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_bytes())
        files = {str(name): (str(digest), int(size)) for name, (digest, size) in content["files"].items()}
        whole = content["sha256"] == _own_digest(files)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: missing") from None
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path}: damaged: {error}") from None
    if not whole:
        raise CheckpointError(f"{path}: damaged (its sha256 is not that of what was written)")
    return files


def _own_digest(files: dict[str, Stamp]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def _damage(folder: Path, name: str, stamp: Stamp) -> str | None:
    """What is wrong with a file, or None."""
    digest, path = hashlib.sha256(), folder / name
    try:
        size = path.stat().st_size
        if size != stamp[1]:
            return f"{path}: damaged ({size} bytes, {stamp[1]} were written)"
        with open(path, "rb") as file:
            while piece := file.read(HASH_BYTES):
                digest.update(piece)
    except FileNotFoundError:
        return f"{path}: missing"
    except OSError as error:
        return f"{path}: cannot be read: {error.strerror or error}"
    if digest.hexdigest() != stamp[0]:
        return f"{path}: damaged (its sha256 is not that of what was written)"
    return None


def _reason(error: BaseException) -> str:
    """The system's own words where there are any: torch wraps them into its own."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)[:500]


def _write_through(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(folder: Path) -> None:
    """Under another name first: a killed removal must not leave half a checkpoint behind."""
    rest = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(rest, ignore_errors=True)
    folder.rename(rest)
    shutil.rmtree(rest, ignore_errors=True)
