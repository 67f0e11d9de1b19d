"""A model and held-out documents enter; nats a document, in total and by column, leave.

The figure is exact at the resolution of the data: the uniform remainder of a number costs log(width of its
cell).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ..batches import Batch, Batches, RowBatches, evenly
from ..engine.step import TrainStep
from ..models.order import RowPlan
from ..tokenizer import TableTokenizer

BATCH = 2048
LEAST_DOCUMENTS = 64
FOLDS = 16


@dataclass(frozen=True)
class Judged:
    """What one validation found."""

    nll: float
    """Nats a document."""
    by_column: dict[str, float]
    folds: list[float]
    """Nats of every FOLDS-th document, beginning with the first, the second, ...: how much of a difference
    between two validations is chance."""


def worse_beyond_chance(folds: Sequence[float], others: Sequence[float]) -> bool:
    """Whether the nats are more than the others by more than a standard error of the difference."""
    more = np.subtract(folds, others)
    return bool(more.sum() > more.std(ddof=1) * len(more) ** 0.5)


class Validation:
    """Holds what does not change from one validation to the next."""

    def __init__(
        self,
        batches: Batches,
        tokenizer: TableTokenizer,
        plan: RowPlan,
        limit: int,
        device: torch.device,
        decides: bool = True,
    ) -> None:
        """`decides`: whether its figure says which weights are best."""
        self.batches, self.device, self.decides = batches, device, decides
        if isinstance(batches, RowBatches):
            # spread over them all: a store of several tables has one after the other
            self.items = evenly(len(batches.rows), limit)
            self.documents = len(self.items)
        else:
            # the windows of a document follow each other: judged is the whole of it, or nothing
            rows = batches.documents.rows
            fitting = int(np.searchsorted(np.cumsum(rows), limit, side="right"))
            self.documents = min(len(rows), max(fitting, LEAST_DOCUMENTS))
            windows = batches.windows
            # those of like lengths together: little padding
            self.items = np.argsort(
                windows.rows[: np.searchsorted(windows.document, self.documents)], kind="stable"
            )
        self.columns = plan.columns
        self.owner = torch.from_numpy(plan.column_of_slot(tokenizer))
        self.residual = self._residual(tokenizer)

    def __bool__(self) -> bool:
        return self.documents > 0

    def _batches(self, fold: int, rank: int, ranks: int) -> Iterator[Batch]:
        """The fold's batches that are the rank's own."""
        size = BATCH if isinstance(self.batches, RowBatches) else max(1, BATCH // 32)
        items = self.items[fold::FOLDS]
        for n, start in enumerate(range(0, len(items), size)):
            if (fold + n) % ranks == rank:
                yield to_device(self.batches.batch(items[start : start + size]), self.device)

    def _residual(self, tokenizer: TableTokenizer) -> np.ndarray:
        """Mean nats a document of each column's remainder (columns in the model's order)."""
        log_widths = np.zeros(len(tokenizer.columns))
        if isinstance(self.batches, RowBatches):
            documents = [np.asarray(self.batches.rows[self.items])]
        else:
            documents = [self.batches.documents.document(d) for d in range(self.documents)]
        for rows in documents if tokenizer.residual.any() else []:
            widths = tokenizer.widths(tokenizer.codes(rows)).astype(np.float64)
            log_widths += np.log(widths).sum(0) / self.documents
        names = tokenizer.columns
        return np.array([log_widths[names.index(name)] for name in self.columns])

    def __call__(self, step: TrainStep, rank: int = 0, ranks: int = 1) -> Judged:
        """The same on all ranks; data-parallel places share the work."""
        slots = (len(self.owner),)
        folds = [step.total(self._batches(f, rank, ranks), "nats_by_slot", slots).cpu() for f in range(FOLDS)]
        sums = torch.stack(folds)
        by_column = torch.zeros(len(self.columns), dtype=torch.float64).index_add_(0, self.owner, sums.sum(0))
        nats = by_column.numpy() / self.documents + self.residual
        columns = dict(zip(self.columns, nats.tolist(), strict=True))
        return Judged(float(nats.sum()), columns, sums.sum(1).tolist())


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the model is."""
    if device.type == "cpu":
        return batch
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    return replace(batch, **{name: part.to(device) for name, part in vars(batch).items() if part is not None})
