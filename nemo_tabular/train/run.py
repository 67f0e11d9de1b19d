"""One training run: a configuration enters, a run folder and the trained model leave. A folder with a run is
resumed.

run.dir/config.yaml  metrics.csv  checkpoints/  model/
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..config import Config, load_config
from ..engine.launch import start
from ..engine.layout import ParallelLayout
from ..engine.ranks import device as rank_device
from ..engine.ranks import first_then_others, join
from ..engine.stage import stages
from ..engine.step import TrainStep
from ..engine.whole import whole_tensors
from ..errors import ConfigError
from ..models.gpt import TabularGPT
from ..models.saved import SavedModel
from ..store import TokenStore
from .calibrate import calibrate
from .checkpoints import Checkpoints, Snapshot, TrainState
from .family import find_family
from .logs import RunLog
from .loop import Loop
from .schedule import num_steps, resolve
from .validate import Validation

log = logging.getLogger("nemo_tabular")


@dataclass(frozen=True)
class TrainResult:
    """What a run made. `finished` is False after a signal or the time limit: start it again to go on."""

    model: SavedModel | None
    """The whole model, on rank 0; None on other ranks and after an unfinished run."""
    finished: bool
    steps: int
    best_nll: float
    """Validation, nats a row (histories: a document); infinite without validation rows."""


def train(config: Config, store: TokenStore | None = None) -> TrainResult:
    """Train as `config` says on `store` (or the one at data.store). Raises ConfigError, StoreError,
    CheckpointError.
    """
    started = time.monotonic()
    if store is None:
        if config.data.store is None:
            raise ConfigError("data.store is not set: name the folder that `nemo-tabular prepare` wrote")
        store = TokenStore.open(config.data.store)
    find_family(config.model.kind, store.manifest.mode)  # or it is refused before anything is made
    histories = store.manifest.mode != "rows"
    config = resolve(config, store.manifest.splits["train"].documents, histories)
    _layout(config)  # one that cannot be is refused before the folder is anybody's
    folder = None if config.run.dir is None else Path(config.run.dir)
    if folder is not None:
        done = first_then_others(lambda: _claim(folder, config, store))
        if done is not None:
            log.info("%s holds a finished run; train elsewhere (run.dir=...) or delete it", folder)
            info = done.info
            return TrainResult(done, True, info["steps"], info["best_nll"])
    return _Run(config, store, folder, started).run()


def _layout(config: Config) -> tuple[ParallelLayout, int]:
    """How the ranks share the model, and documents at a time on one of them. Raises ConfigError."""
    layout, data = ParallelLayout.of(config.model, join().size), config.data
    assert data.global_batch_size is not None, "resolve(config) fills it in"
    return layout, layout.micro_batch_size(data.global_batch_size, data.micro_batch_size)


def _claim(folder: Path, config: Config, store: TokenStore) -> SavedModel | None:
    """Make the folder this run's, or see that it already is. Returns the model of a finished run."""
    recipe = folder / "config.yaml"
    if recipe.exists():
        _same_run(load_config(recipe), config, recipe)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(config.to_yaml())
    if not (folder / "model").is_dir():
        return None
    model = SavedModel.load(folder / "model")
    store.require(model.tokenizer)
    return model


def _same_run(old: Config, new: Config, where: Path) -> None:
    """Raise ConfigError listing what differs between a run and its continuation in ways that change the
    result.
    """
    free = {"max_time", "log_every_n_steps", "num_threads", "save_every_n_steps"}
    before, after = old.model_dump(), new.model_dump()
    differing = [
        f"{section}.{name}: {before[section][name]!r} there, {after[section][name]!r} now"
        for section in ("data", "model", "optim", "trainer")
        for name in after[section]
        if before[section][name] != after[section][name]
        and name not in free
        and (section, name) != ("data", "store")
    ]
    if before["run"]["seed"] != after["run"]["seed"]:
        differing.append(f"run.seed: {before['run']['seed']} there, {after['run']['seed']} now")
    if differing:
        raise ConfigError(
            f"{where} is of a run with other settings:\n  " + "\n  ".join(differing) + "\n"
            "use the same settings to resume it, or another run.dir for a new run"
        )


class _Run:
    """The pieces of one run, built once: groups, plan, batches; then its phases."""

    def __init__(self, config: Config, store: TokenStore, folder: Path | None, started: float) -> None:
        self.config, self.store, self.folder, self.started = config, store, folder, started
        if config.trainer.num_threads is not None:
            torch.set_num_threads(config.trainer.num_threads)
        self.layout, self.micro_batch_size = _layout(config)
        here = join()
        self.groups = start(self.layout, config.run.seed)
        self.rank, self.ranks = self.groups.dp.rank(), self.layout.data_parallel_size
        self.device = rank_device()
        self.family = find_family(config.model.kind, store.manifest.mode)(config, store)
        self.main = here.rank == 0
        self.log = RunLog(config.run, folder, quiet=not self.main)
        # checkpoints of this kind hold what one process holds
        alone = here.size == 1 and folder is not None
        self.checkpoints = Checkpoints(folder / "checkpoints") if alone and folder is not None else None

    def _chunks(self) -> list[TabularGPT]:
        """This rank's part of a new model."""
        parts = stages(self.groups, self.config.model.virtual_pipeline_model_parallel_size)
        return [self.family.network(self.groups, stage).to(self.device) for stage in parts]

    def _validation(self) -> Validation | None:
        if "validation" not in self.store.splits:
            return None
        limit = self.config.trainer.limit_val_rows
        batches, plan = self.family.batches("validation"), self.family.plan
        return Validation(batches, self.store.tokenizer, plan, limit, self.device)

    def run(self) -> TrainResult:
        resumed = self.checkpoints.latest() if self.checkpoints is not None else None
        state = TrainState() if resumed is None else resumed.state
        if state.phase == "fit":
            loop = self._loop("train", state, resumed, self._validation())
            if not loop.run():
                return TrainResult(None, False, state.step, state.best_nll)
            weights, resumed = self._calibrated(loop), None
            if self.config.trainer.final_fit and loop.validation:
                state = replace(state, phase="final", step=0, steps=state.best_step)
        if state.phase == "final":
            loop = self._loop("all", state, resumed, None)
            if not loop.run():
                return TrainResult(None, False, state.step, state.best_nll)
            weights = self._calibrated(loop)
        return self._finish(weights, state)

    def _loop(
        self, split: str, state: TrainState, resumed: Snapshot | None, validation: Validation | None
    ) -> Loop:
        step = TrainStep(self._chunks(), self.config.optim, self.groups)
        if resumed is not None:
            step.load_weights(resumed.weights)
            step.load_optimizer_state(resumed.optimizer)
        batches = self.family.batches(split)
        state.steps = state.steps or num_steps(self.config.trainer, batches.num_items, self.family.batch_size)
        return Loop(
            config=self.config,
            step=step,
            micro_batch_size=self.micro_batch_size,
            batches=batches,
            validation=validation,
            state=state,
            log=self.log,
            checkpoints=self.checkpoints,
            rank=self.rank,
            ranks=self.ranks,
            device=self.device,
            started=self.started,
        )

    def _calibrated(self, loop: Loop) -> dict[str, Tensor]:
        """The phase's whole weights, on rank 0, with the head's bias made to fit the marginals; empty
        elsewhere, and where a final fit to come makes it needless.
        """
        if loop.validation and self.config.trainer.final_fit:
            return {}
        weights = loop.result()
        loop.step.load_weights(weights)
        batches = self.family.calibration_batches()
        vocab = loop.step.modules[0].offsets[-1]
        shift = calibrate(loop.step, batches, vocab, self.device, self.rank, self.ranks)
        whole = whole_tensors(loop.step.modules, weights)
        return whole and whole | {"bias": (whole["bias"].double() + shift).float()}

    def _finish(self, weights: dict[str, Tensor], state: TrainState) -> TrainResult:
        if not self.main:
            return TrainResult(None, True, state.step, state.best_nll)
        info = {
            "steps": state.step,
            "best_step": state.best_step,
            "best_nll": state.best_nll if np.isfinite(state.best_nll) else None,
            "validations": state.validations,
            "store": self.store.fingerprint(),
            "seed": self.config.run.seed,
        }
        saved = SavedModel(
            config=self.config.model,
            plan=self.family.plan,
            tokenizer=self.store.tokenizer,
            tensors=weights,
            info=info,
            **self.family.remembered(),
        )
        if self.folder is not None:
            saved.save(self.folder / "model")
        return TrainResult(saved, True, state.step, state.best_nll)
