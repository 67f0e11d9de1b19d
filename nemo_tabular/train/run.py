"""One training run: a configuration enters, a run folder and the trained model leave. A folder with a run is
resumed.

run.dir/config.yaml  metrics.csv  checkpoints/  model/
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..config import Config, load_config
from ..engine.control import Control
from ..engine.launch import start
from ..engine.layout import ParallelLayout
from ..engine.ranks import device as rank_device
from ..engine.ranks import join
from ..engine.stage import stages
from ..engine.step import TrainStep
from ..engine.whole import take_over, whole_tensors
from ..errors import ConfigError, StoreError
from ..models.curves import Curves
from ..models.gpt import DRAWN, TabularGPT
from ..models.saved import SavedModel
from ..models.transfer import restored
from ..store import TokenStore
from .calibrate import PRIOR, PRIOR_RESTORED, calibrate
from .checkpoints import Checkpoints, Found, TrainState
from .family import find_family, require_known
from .logs import RunLog
from .loop import Loop, stop_signals
from .schedule import num_steps, resolve
from .validate import Validation
from .watchdog import Watchdog

log = logging.getLogger("nemo_tabular")

FREE = {
    *("max_time", "log_every_n_steps", "num_threads", "hang_timeout"),
    *("save_every_n_steps", "keep_last", "async_save", "on_save_error", "max_bad_steps"),
    *("tensor_model_parallel_size", "pipeline_model_parallel_size", "context_parallel_size"),
    *("virtual_pipeline_model_parallel_size", "sequence_parallel", "micro_batch_size"),
    *("overlap_grad_reduce", "overlap_param_gather"),
}
"""Settings that may change from one start of a run to the next: the result is the same, up to rounding."""


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
    histories = store.manifest.mode != "rows"
    config, saved = restored(config)
    tokenizer, documents = store.tokenizer, store.manifest.splits["train"].documents
    ids = int(tokenizer.slot_sizes[~tokenizer.residual].sum())
    config = resolve(config, documents, histories, len(tokenizer.columns), ids)
    find_family(config.model.kind, store.manifest.mode)  # or it is refused before anything is made
    require_known(config.model.kind, store.schema)
    _layout(config)  # one that cannot be is refused before the folder is anybody's
    folder = None if config.run.dir is None else Path(config.run.dir)
    control = Control()
    with stop_signals() as stopped:
        if folder is not None and control.on_first(lambda: _claim(folder, config, store)):
            log.info("%s holds a finished run; train elsewhere (run.dir=...) or delete it", folder)
            done = SavedModel.load(folder / "model")
            return TrainResult(done, True, done.info["steps"], done.info["best_nll"])
        return _Run(config, store, saved, folder, started, control, stopped).run()


def _layout(config: Config) -> tuple[ParallelLayout, int]:
    """How the ranks share the model, and documents at a time on one of them. Raises ConfigError."""
    layout, data = ParallelLayout.of(config.model, join().size), config.data
    assert data.global_batch_size is not None, "resolve(config) fills it in"
    return layout, layout.micro_batch_size(data.global_batch_size, data.micro_batch_size)


def _claim(folder: Path, config: Config, store: TokenStore) -> bool:
    """Make the folder this run's, or see that it already is. Returns whether the run is finished."""
    recipe = folder / "config.yaml"
    if recipe.exists():
        _same_run(load_config(recipe), config, recipe)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        # a process that is killed here must not leave half of it
        new = recipe.with_suffix(".new")
        new.write_text(config.to_yaml())
        new.replace(recipe)
    if not (folder / "model").is_dir():
        return False
    store.require(SavedModel.load(folder / "model").tokenizer)
    return True


def _same_run(old: Config, new: Config, where: Path) -> None:
    """Raise ConfigError listing what differs between a run and its continuation in ways that change the
    result.
    """
    before, after = old.model_dump(), new.model_dump()
    differing = [
        f"{section}.{name}: {before[section][name]!r} there, {after[section][name]!r} now"
        for section in ("data", "model", "optim", "trainer")
        for name in after[section]
        if before[section][name] != after[section][name]
        and name not in FREE
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

    def __init__(
        self,
        config: Config,
        store: TokenStore,
        saved: SavedModel | None,
        folder: Path | None,
        started: float,
        control: Control,
        stopped: Callable[[], bool],
    ) -> None:
        self.config, self.store, self.folder = config, store, folder
        self.started, self.control, self.stopped = started, control, stopped
        if config.trainer.num_threads is not None:
            torch.set_num_threads(config.trainer.num_threads)
        self.layout, self.micro_batch_size = _layout(config)
        self.groups = start(self.layout, config.run.seed)
        self.rank, self.ranks = self.groups.dp.rank(), self.layout.data_parallel_size
        self.device = rank_device()
        self.family = find_family(config.model.kind, store.manifest.mode)(config, store, saved)
        self.log = RunLog(config.run, folder, quiet=control.rank != 0)

    def _checkpoints(self) -> Checkpoints | None:
        if self.folder is None:
            return None
        trainer, tokenizer = self.config.trainer, self.store.tokenizer
        return Checkpoints(
            self.folder / "checkpoints",
            keep_last=trainer.keep_last,
            asynchronous=trainer.async_save,
            go_on=trainer.on_save_error == "continue",
            about={"store": self.store.fingerprint(), "layout": asdict(self.layout)},
            files={"tokenizer.json": json.dumps(tokenizer.to_json(), indent=1).encode()},
        )

    def _chunks(self) -> list[TabularGPT]:
        """This rank's part of a new model."""
        parts = stages(self.groups, self.config.model.virtual_pipeline_model_parallel_size)
        chunks = [self.family.network(self.groups, stage) for stage in parts]
        if self.family.transfer is not None:
            take_over(chunks, self.family.transfer.saved.tensors, self.family.transfer.rows, DRAWN)
        return [chunk.to(self.device) for chunk in chunks]

    def _validation(self) -> Validation | None:
        if "validation" not in self.store.splits:
            return None
        limit = self.config.trainer.limit_val_rows
        batches, plan = self.family.batches("validation"), self.family.plan
        return Validation(batches, self.store.tokenizer, plan, limit, self.device, self.family.exact)

    def run(self) -> TrainResult:
        self.checkpoints = self._checkpoints()
        try:
            with Watchdog(self.config.trainer.hang_timeout) as self.watchdog:
                return self._phases()
        finally:
            if self.checkpoints is not None:
                self.checkpoints.close()

    def _resumed(self) -> Found | None:
        found = None if self.checkpoints is None else self.checkpoints.newest()
        if found is not None and found.about["store"] != self.store.fingerprint():
            raise StoreError(
                f"{found.folder} is of another store than {self.store.path}: resume with the store that the "
                "run began with, or start a new run (run.dir=...)"
            )
        return found

    def _phases(self) -> TrainResult:
        resumed = self._resumed()
        state = TrainState() if resumed is None else resumed.state
        if resumed is None and self.family.transfer is not None and self.control.rank == 0:
            log.info("from %s: %s", self.config.model.restore_from_path, self.family.transfer)
        if state.phase == "fit":
            loop = self._loop("train", state, resumed, self._validation())
            if not loop.run():
                return TrainResult(None, False, state.step, state.best_nll)
            weights, resumed = self._calibrated(loop), None
            if self.config.trainer.final_fit and loop.validation:
                # as many passes, not steps: .26 nats a row better on titanic, .11 on insurance (3 seeds each)
                more = self.family.batches("all").num_items / loop.batches.num_items
                state = replace(
                    state,
                    phase="final",
                    step=0,
                    steps=round((state.best_step or state.step) * more),
                    before=state.step,
                    data={},
                )
        if state.phase == "final":
            loop = self._loop("all", state, resumed, None)
            if not loop.run():
                return TrainResult(None, False, state.step, state.best_nll)
            weights = self._calibrated(loop)
        return self._finish(weights, state)

    def _loop(
        self, split: str, state: TrainState, resumed: Found | None, validation: Validation | None
    ) -> Loop:
        step = TrainStep(self._chunks(), self.config.optim, self.groups)
        batches = self.family.batches(split)
        if resumed is not None and self.checkpoints is not None:
            self.checkpoints.restore(resumed, step)
            batches.load_state_dict(state.data)
        state.steps = state.steps or num_steps(self.config.trainer, batches.num_items, self.family.batch_size)
        return Loop(
            config=self.config,
            step=step,
            micro_batch_size=self.micro_batch_size,
            by_length=self.layout.pipeline_model_parallel_size == 1,
            batches=batches,
            validation=validation,
            state=state,
            log=self.log,
            checkpoints=self.checkpoints,
            control=self.control,
            watchdog=self.watchdog,
            stopped=self.stopped,
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
        loop.use_best()
        batches = self.family.calibration_batches()
        vocab = loop.step.modules[0].offsets[-1]
        prior = PRIOR if self.family.transfer is None else PRIOR_RESTORED
        shift = calibrate(loop.step, batches, vocab, self.device, self.rank, self.ranks, prior)
        whole = whole_tensors(loop.step.modules, loop.step.weights())
        if not whole:
            return {}
        curves = Curves(loop.step.modules[0].offsets, self.family.places)
        rows = {
            "embedding": curves.folded(whole["embedding"]),
            "bias": (whole["bias"][:vocab].double() + shift).float(),
        }
        return whole | rows

    def _finish(self, weights: dict[str, Tensor], state: TrainState) -> TrainResult:
        if self.control.rank:
            return TrainResult(None, True, state.step, state.best_nll)
        info: dict[str, Any] = {
            "steps": state.step,
            "best_step": state.best_step,
            "best_nll": state.best_nll if np.isfinite(state.best_nll) else None,
            "validations": state.validations,
            "store": self.store.fingerprint(),
            "seed": self.config.run.seed,
        }
        if self.family.transfer is not None:
            info["restored_from"] = self.family.transfer.to_json()
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
