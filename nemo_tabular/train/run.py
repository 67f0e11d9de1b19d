"""One training run: a configuration enters, a run folder and the trained model leave. A folder with a run is
resumed.

run.dir/config.yaml  metrics.csv  checkpoints/  model/
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import DocumentBatches, RowBatches
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
from ..models.order import RowPlan, column_order
from ..models.saved import SavedModel
from ..store import TokenStore
from .calibrate import calibrate
from .checkpoints import Checkpoints, Snapshot, TrainState
from .logs import RunLog
from .loop import Loop
from .schedule import num_steps, resolve
from .validate import Validation

log = logging.getLogger("nemo_tabular")

ORDER_SAMPLE = 65_536  # rows that decide the order of the columns
ORDER_DOCUMENTS = 1_024  # of histories: so many of them, the beginning of each


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
        assert config.data.global_batch_size is not None
        self.batch_size, here = config.data.global_batch_size, join()
        self.groups = start(self.layout, config.run.seed)
        self.rank, self.ranks = self.groups.dp.rank(), self.layout.data_parallel_size
        self.device = rank_device()
        self.histories = store.manifest.mode != "rows"
        if self.histories and not 0 < config.data.context_rows < config.data.max_rows:
            raise ConfigError(
                f"data.context_rows is {config.data.context_rows}, data.max_rows {config.data.max_rows}: a "
                "window that continues a history reads at least 1 row again, and fewer than it holds"
            )
        if self.histories and config.trainer.final_fit:
            raise ConfigError("trainer.final_fit is for tables of single rows; set it to false for histories")
        self.plan = self._plan()
        self.main = here.rank == 0
        self.log = RunLog(config.run, folder, quiet=not self.main)
        # checkpoints of this kind hold what one process holds
        alone = here.size == 1 and folder is not None
        self.checkpoints = Checkpoints(folder / "checkpoints") if alone and folder is not None else None

    def _plan(self) -> RowPlan:
        store, model = self.store, self.config.model
        if self.histories:
            documents = store.documents("train")
            count = min(len(documents), ORDER_DOCUMENTS)
            most = np.minimum(documents.rows[:count], ORDER_SAMPLE // count).tolist()
            sample = np.concatenate([documents.document(d, rows=rows) for d, rows in enumerate(most)])
        else:
            sample = np.asarray(store.rows("train")[:ORDER_SAMPLE])
        codes = store.tokenizer.codes(sample)
        order = column_order(codes, store.tokenizer, model.order, model.condition_on)
        return RowPlan.of(store.tokenizer, order)

    def _log_marginals(self) -> Tensor:
        """Where the head's bias starts: log shares of each slot's codes, none zero; EOD of histories last in
        slot 0.
        """
        parts = []
        for s, slot in enumerate(self.plan.slots):
            counts = self.store.marginal_counts[slot].astype(np.float64)
            if self.histories and s == 0:
                counts = np.append(counts, len(self.store.documents("train")))
            parts.append(np.log((counts + 0.5) / (counts + 0.5).sum()))
        return torch.from_numpy(np.concatenate(parts)).float()

    def _chunks(self) -> list[TabularGPT]:
        """This rank's part of a new model."""
        config = self.config
        return [
            TabularGPT(
                config.model,
                config.trainer.precision,
                self.plan.sizes,
                self.groups,
                log_marginals=self._log_marginals(),
                histories=self.histories,
                max_rows=config.data.max_rows if self.histories else 1,
                seed=config.run.seed,
                stage=stage,
            ).to(self.device)
            for stage in stages(self.groups, config.model.virtual_pipeline_model_parallel_size)
        ]

    def _batches(self, split: str) -> RowBatches | DocumentBatches:
        data, tokenizer = self.config.data, self.store.tokenizer
        if self.histories:
            return DocumentBatches(
                self.store.documents(split),
                tokenizer,
                self.config.run.seed,
                self.batch_size,
                max_rows=data.max_rows,
                stride=data.max_rows - data.context_rows,
                slot_order=self.plan.slots,
            )
        rows: Any = (
            self.store.rows(split)
            if split != "all"
            else np.concatenate(
                [
                    np.asarray(self.store.rows(name))
                    for name in ("train", "validation")
                    if name in self.store.splits
                ]
            )
        )
        return RowBatches(rows, tokenizer, self.config.run.seed, self.batch_size, self.plan.slots)

    def _validation(self) -> Validation | None:
        if "validation" not in self.store.splits:
            return None
        limit = self.config.trainer.limit_val_rows
        return Validation(self._batches("validation"), self.store.tokenizer, self.plan, limit, self.device)

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
        batches = self._batches(split)
        state.steps = state.steps or num_steps(self.config.trainer, batches.num_items, self.batch_size)
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
        batches = loop.batches if self.histories else self._batches("all")
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
        data, rows = self.config.data, self.store.documents("train").rows if self.histories else np.ones(1)
        longest = int(rows.max())
        continued = self.histories and longest >= data.max_rows
        saved = SavedModel(
            self.config.model,
            self.plan,
            self.store.tokenizer,
            weights,
            self.histories,
            data.max_rows if self.histories else 1,
            info,
            data.context_rows if continued else None,
            longest,
        )
        if self.folder is not None:
            saved.save(self.folder / "model")
        return TrainResult(saved, True, state.step, state.best_nll)
