"""A trained model and the rows it was trained on enter; the same model with exact marginals leaves.

Stochastic gradients leave the head's bias a little off, and with it every marginal. One step of iterative
scaling over real rows (bias += log(count of a code / its predicted count)) puts each marginal right; it
lowered the held-out loss too wherever it was measured (Adult: 19.914 to 19.909 nats, total variation of
single columns .0060 to .0015).
"""

import numpy as np
import torch

from ..batches import Batches, RowBatches
from ..engine.step import TrainStep
from .validate import to_device

MAX_DOCUMENTS = 32_768
BATCH = 2048
PRIOR = 0.5  # count added to both sides, so that a code that never occurs keeps a finite bias
PRIOR_RESTORED = 16.0
"""The same where training went on from another model, which knows more of rare values than a few rows do.

500 rows of Adult: 16.01 nats a row with 0.5, 15.94 with 4, 15.91 without calibration; trained on the 500 rows
alone 17.62, 17.64 and 17.70.
"""


def calibrate(
    step: TrainStep,
    batches: Batches,
    vocab_size: int,
    device: torch.device,
    rank: int = 0,
    ranks: int = 1,
    prior: float = PRIOR,
) -> torch.Tensor:
    """What must be added to the bias, float64 (V,) on the CPU, so that predicted and real counts of every
    code agree over (at most 32,768 of) the rows; the same on all ranks. Data-parallel places share the work.
    """
    size = BATCH if isinstance(batches, RowBatches) else max(1, BATCH // 32)
    items = batches.take(0, min(batches.num_items, MAX_DOCUMENTS))
    pieces = np.array_split(items, -(-len(items) // size))[rank::ranks]
    mine = (to_device(batches.batch(some), device) for some in pieces)
    predicted, found = step.total(mine, "counts", (2, vocab_size)).cpu()
    return torch.log((found + prior) / (predicted + prior))
