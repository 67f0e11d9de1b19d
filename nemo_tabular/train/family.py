"""A configuration and a token store enter; what a model family makes of them leaves: the plan of its rows,
its network, its batches, and what a saved model has to remember. `FAMILIES` finds it by kind and mode.
"""

import logging
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..batches import Batches, Blend, DocumentBatches, RowBatches, SetBatches, evenly
from ..config import Config
from ..engine.launch import ProcessGroupCollection
from ..engine.stage import Stage
from ..errors import ConfigError, nearest
from ..features import find_feature
from ..models.cgm import NEVER, TabularCGM
from ..models.gpt import TabularGPT
from ..models.order import RowPlan, column_order
from ..models.saved import SavedModel
from ..models.transfer import Transfer, order_after
from ..orders import SlotOrders
from ..schema import Schema
from ..store import TokenStore

log = logging.getLogger("nemo_tabular")

ORDER_SAMPLE = 65_536  # rows that decide the order of the columns
ORDER_DOCUMENTS = 1_024  # of histories: so many of them, the beginning of each


class Family(ABC):
    """One kind of model on one store, which may go on from a saved one. `batch_size`: the resolved global
    batch.
    """

    model_class: ClassVar[type[TabularGPT]] = TabularGPT
    knows_absence: ClassVar[bool] = False
    """Whether cells can be absent: left out, and not a value like others."""

    def __init__(self, config: Config, store: TokenStore, saved: SavedModel | None = None) -> None:
        """Raises CheckpointError where the store contradicts the saved model."""
        self.config, self.store = config, store
        self.plan = self._plan(saved)
        # what is fine-tuned has learnt its rows already: steps along waves would only disturb them
        self.places = self.plan.places(store.tokenizer) if saved is None else []
        self.transfer = (
            None if saved is None else Transfer.of(saved, store.tokenizer, self.plan, config.data.max_rows)
        )
        absent = [column.name for column in store.tokenizer.schema.coded if column.missing == "absent"]
        if absent and not self.knows_absence:
            log.warning(
                "columns %s have missing: absent, which only model.kind cgm knows; this model learns a "
                "missing cell as a value",
                ", ".join(absent),
            )

    @property
    def batch_size(self) -> int:
        """Documents of a step."""
        size = self.config.data.global_batch_size
        assert size is not None, "resolve(config) fills it in"
        return size

    def _sample(self) -> np.ndarray:
        rows = self.store.rows("train")
        return np.asarray(rows[evenly(len(rows), ORDER_SAMPLE)])

    def _plan(self, saved: SavedModel | None) -> RowPlan:
        store, model = self.store, self.config.model
        assert model.order is not None, "resolve(config) fills it in"
        order = "entropy" if model.order in ("random", "mixed", "fixed") else model.order
        codes = store.tokenizer.codes(self._sample())
        columns = column_order(codes, store.tokenizer, order, model.condition_on)
        return RowPlan.of(store.tokenizer, columns if saved is None else order_after(saved, columns))

    def _counts(self) -> list[np.ndarray]:
        """Occurrences of each modelled slot's codes in the training rows."""
        return [self.store.marginal_counts[slot].astype(np.float64) for slot in self.plan.slots]

    def log_marginals(self) -> Tensor:
        """Where the head's bias starts: log shares of each slot's codes, none zero."""
        parts = [np.log((counts + 0.5) / (counts + 0.5).sum()) for counts in self._counts()]
        return torch.from_numpy(np.concatenate(parts)).float()

    def rows(self, split: str) -> Any:
        """The rows of a split; "all": of training and validation."""
        if split != "all":
            return self.store.rows(split)
        return np.concatenate([np.asarray(self.store.rows(name)) for name in self._splits(split)])

    def _splits(self, split: str) -> list[str]:
        return [
            name for name in ("train", "validation") if split in ("all", name) and name in self.store.splits
        ]

    @property
    def exact(self) -> bool:
        """Whether all that is learnt has a likelihood; if not, the last weights are the best that is
        known."""
        dense = self.store.tokenizer.dense
        return all(find_feature(codec.feature, name).exact for name, codec in dense.items())

    def blend(self, split: str) -> Blend | None:
        """How a store's tables are mixed; None: in proportion. Raises ConfigError for names it lacks."""
        weights, tables = self.config.data.table_weights, self.store.manifest.tables
        if weights is None:
            return None
        for name in weights:
            if name not in tables:
                has = f"it holds {', '.join(tables)}" if tables else "it was not made of several tables"
                hint = nearest(name, list(tables))
                raise ConfigError(f"data.table_weights: the store has no table {name!r}{hint}; {has}")
        if missing := [name for name in tables if name not in weights]:
            raise ConfigError(f"data.table_weights leaves out {missing}: say it for every table of the store")
        runs: dict[str, list[tuple[int, int]]] = {name: [] for name in tables}
        first = 0
        for part in self._splits(split):
            for name, sizes in tables.items():
                runs[name].append((first, sizes[part]))
                first += sizes[part]
        named = [name for name in weights if sum(count for _, count in runs[name])]
        return Blend([runs[n] for n in named], [weights[n] for n in named], self.config.run.seed)

    def network(self, groups: ProcessGroupCollection, stage: Stage) -> TabularGPT:
        """One stage of the model, untrained."""
        config = self.config
        return self.model_class(
            config.model,
            config.trainer.precision,
            self.plan.sizes,
            groups,
            log_marginals=self.log_marginals(),
            places=self.places,
            seed=config.run.seed,
            stage=stage,
            **self.model_options(),
        )

    def model_options(self) -> dict[str, Any]:
        """Arguments of the model beyond those that all take."""
        return {}

    @abstractmethod
    def batches(self, split: str) -> Batches:
        """Batches of a split: "train", "validation" or "all"."""

    def calibration_batches(self) -> Batches:
        """What the head's bias is fitted to in the end."""
        return self.batches("all")

    def remembered(self) -> dict[str, Any]:
        """Fields of SavedModel beyond weights and settings."""
        return {"histories": False, "max_rows": 1}


class RowGPT(Family):
    """The GPT of tables whose rows stand alone."""

    def batches(self, split: str) -> Batches:
        return RowBatches(
            self.rows(split),
            self.store.tokenizer,
            self.config.run.seed,
            self.batch_size,
            self.plan.slots,
            self.blend(split),
        )


class HistoryGPT(Family):
    """The GPT of documents of many rows."""

    def __init__(self, config: Config, store: TokenStore, saved: SavedModel | None = None) -> None:
        data = config.data
        if not 0 < data.context_rows < data.max_rows:
            raise ConfigError(
                f"data.context_rows is {data.context_rows}, data.max_rows {data.max_rows}: a "
                "window that continues a history reads at least 1 row again, and fewer than it holds"
            )
        if config.trainer.final_fit:
            raise ConfigError("trainer.final_fit is for tables of single rows; set it to false for histories")
        super().__init__(config, store, saved)

    def _sample(self) -> np.ndarray:
        documents = self.store.documents("train")
        count = min(len(documents), ORDER_DOCUMENTS)
        most = np.minimum(documents.rows[:count], ORDER_SAMPLE // count).tolist()
        return np.concatenate([documents.document(d, rows=rows) for d, rows in enumerate(most)])

    def _counts(self) -> list[np.ndarray]:
        """The end of the document is the last code of slot 0."""
        first, *others = super()._counts()
        return [np.append(first, len(self.store.documents("train"))), *others]

    def model_options(self) -> dict[str, Any]:
        return {"histories": True, "max_rows": self.config.data.max_rows}

    def batches(self, split: str) -> Batches:
        data = self.config.data
        return DocumentBatches(
            self.store.documents(split),
            self.store.tokenizer,
            self.config.run.seed,
            self.batch_size,
            max_rows=data.max_rows,
            stride=data.max_rows - data.context_rows,
            slot_order=self.plan.slots,
        )

    def calibration_batches(self) -> Batches:
        """The training documents."""
        return self.batches("train")

    def remembered(self) -> dict[str, Any]:
        data = self.config.data
        longest = int(self.store.documents("train").rows.max())
        return {
            "histories": True,
            "max_rows": data.max_rows,
            "context_rows": data.context_rows if longest >= data.max_rows else None,
            "longest_document": longest,
        }


class RowCGM(Family):
    """The CGM: rows that stand alone, each a set of columns."""

    model_class = TabularCGM
    knows_absence = True

    @property
    def _absent(self) -> np.ndarray:
        """bool (S,): slots whose code 0 means that the cell is not there."""
        return self.plan.absent_slots(self.store.tokenizer)

    def _counts(self) -> list[np.ndarray]:
        """Those of absent cells are none of the column's."""
        counts = super()._counts()
        for of_slot, absent in zip(counts, self._absent, strict=True):
            of_slot[0] *= not absent
        return counts

    def log_marginals(self) -> Tensor:
        """A code that says "absent" is never predicted."""
        marginals, first = super().log_marginals(), 0
        for size, absent in zip(self.plan.sizes, self._absent, strict=True):
            if absent:
                marginals[first] = NEVER
            first += size
        return marginals

    def batches(self, split: str) -> Batches:
        mixed = self.config.model.fixed_share
        assert mixed is not None, "resolve(config) fills it in"
        share = {"random": 0.0, "fixed": 1.0, "mixed": mixed}
        return self._batches(split, share[str(self.config.model.order)])

    def model_options(self) -> dict[str, Any]:
        return {"dense": self.plan.dense_slots(self.store.tokenizer)}

    def calibration_batches(self) -> Batches:
        """In the order that samples are drawn in: fixed where a share of the rows was."""
        return self._batches("all", 0.0 if self.config.model.order == "random" else 1.0)

    def _batches(self, split: str, fixed_share: float) -> SetBatches:
        seed, tokenizer = self.config.run.seed, self.store.tokenizer
        return SetBatches(
            self.rows(split),
            tokenizer,
            seed,
            self.batch_size,
            self.plan.slots,
            SlotOrders(self.plan.column_of_slot(tokenizer), fixed_share, seed),
            self._absent,
            self.blend(split),
            cells=self.store.cells(*self._splits(split)),
        )


def require_known(kind: str, schema: Schema) -> None:
    """Raise ConfigError for columns that a model of this kind cannot read, FeatureError for a feature that is
    unknown."""
    dense = [column for column in schema.coded if column.feature]
    if dense and kind != "cgm":
        names = ", ".join(column.name for column in dense)
        raise ConfigError(
            f"columns {names} have a feature (images, series, long texts, ...), which model.kind {kind!r} "
            "cannot read: use model.kind=cgm (Synthesizer('cgm')), or leave the columns out of the schema"
        )
    for column in dense:
        find_feature(column.feature, column.name)


FAMILIES: dict[tuple[str, str], type[Family]] = {
    ("gpt", "rows"): RowGPT,
    ("gpt", "documents"): HistoryGPT,
    ("cgm", "rows"): RowCGM,
}


def find_family(kind: str, mode: str) -> type[Family]:
    """The family for models of this kind on stores of this mode. Raises ConfigError where there is none."""
    if (kind, mode) not in FAMILIES:
        raise ConfigError(
            f"model.kind {kind!r} is for tables of single rows, and the store holds histories (its schema "
            "has group_by): use model.kind gpt, or prepare the table without group_by"
        )
    return FAMILIES[kind, mode]
