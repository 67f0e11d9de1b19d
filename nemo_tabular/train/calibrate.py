"""A trained model and the rows it was trained on enter; the same model with exact marginals leaves.

Stochastic gradients leave the head's bias a little off, and with it every marginal. One step of iterative
scaling over real rows (bias += log(count of a code / its predicted count)) puts each marginal right; it
lowered the held-out loss too wherever it was measured (Adult: 19.914 to 19.909 nats, total variation of
single columns .0060 to .0015).
"""

import numpy as np
import torch

from ..batches import DocumentBatches, RowBatches
from ..engine.step import TrainStep
from .validate import codes_of, to_device

MAX_DOCUMENTS = 32_768
BATCH = 2048
PRIOR = 0.5  # count added to both sides, so that a code that never occurs keeps a finite bias


def calibrate(
    step: TrainStep,
    batches: RowBatches | DocumentBatches,
    vocab_size: int,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
) -> torch.Tensor:
    """What must be added to the bias, float64 (V,) on the CPU, so that predicted and real counts of every
    code agree over (at most 32,768 of) the rows; the same on all ranks. Data-parallel places share the work.
    """
    size = BATCH if isinstance(batches, RowBatches) else max(1, BATCH // 32)
    read = codes_of(batches)
    items = batches.take(0, min(batches.num_items, MAX_DOCUMENTS))
    pieces = np.array_split(items, -(-len(items) // size))[rank::ranks]
    mine = (to_device(read(some), device) for some in pieces)
    predicted, found = step.total(mine, "counts", (2, vocab_size)).cpu()
    return torch.log((found + PRIOR) / (predicted + PRIOR))
