"""Training state enters and leaves a folder of checkpoints; a checkpoint is whole or does not exist.

checkpoints/step-00000500/   weights.safetensors optimizer.safetensors state.json manifest.json
checkpoints/best/            the weights of the best validation
"""

import json
import logging
import re
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from torch import Tensor

from ..errors import CheckpointError
from ..models.saved import read_folder, tensors_from, tensors_to, write_folder

log = logging.getLogger("nemo_tabular")

KEEP_LAST = 2


@dataclass
class TrainState:
    """Where a run stands. The data of a step depend on (seed, step) only, so the step is the position."""

    phase: str = "fit"
    """"fit", "final" (the fit on all rows) or "done"."""
    step: int = 0
    steps: int = 0
    """Length of the phase's schedule."""
    best_step: int = 0
    best_nll: float = float("inf")
    stale: int = 0
    """Validations since the best."""
    validations: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Snapshot:
    """Everything that a bit-exact continuation needs."""

    state: TrainState
    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, snapshot: Snapshot) -> None:
        """Write a checkpoint, then remove all but the newest few."""
        state = snapshot.state
        write_folder(
            self.folder / f"{_PHASES[state.phase]}-{state.step:08d}",
            {
                "state.json": json.dumps(asdict(state)).encode(),
                "weights.safetensors": tensors_to(snapshot.weights),
                "optimizer.safetensors": tensors_to(snapshot.optimizer),
            },
        )
        for old in self._all()[:-KEEP_LAST]:
            shutil.rmtree(old, ignore_errors=True)

    def save_best(self, weights: dict[str, Tensor]) -> None:
        """Keep these weights as the best so far."""
        write_folder(self.folder / "best", {"weights.safetensors": tensors_to(weights)})

    def best(self) -> dict[str, Tensor]:
        """The weights of the best validation."""
        files = read_folder(self.folder / "best")
        return tensors_from(files["weights.safetensors"], self.folder / "best")

    def latest(self) -> Snapshot | None:
        """The newest whole checkpoint; a damaged one is named in the log and the one before it is taken.

        Raises CheckpointError if there are checkpoints and none is whole.
        """
        damaged = []
        for folder in reversed(self._all()):
            try:
                return _read(folder)
            except CheckpointError as error:
                log.warning("%s; trying the one before", error)
                damaged.append(str(error))
        if damaged:
            raise CheckpointError("no whole checkpoint is left: " + "; ".join(damaged))
        return None

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if re.fullmatch(r"[12]-(fit|final)-\d{8}", p.name))


_PHASES = {"fit": "1-fit", "final": "2-final"}  # so that names sort in the order of time


def _read(folder: Path) -> Snapshot:
    files = read_folder(folder)
    return Snapshot(
        TrainState(**json.loads(files["state.json"])),
        tensors_from(files["weights.safetensors"], folder),
        tensors_from(files["optimizer.safetensors"], folder),
    )
