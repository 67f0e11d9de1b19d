"""A trained model and the rows it was trained on enter; the same model with exact marginals leaves.

Stochastic gradients leave the head's bias a little off, and with it every marginal. One step of iterative
scaling over real rows (bias += log(count of a code / its predicted count)) puts each marginal right; it
lowered the held-out loss too wherever it was measured (Adult: 19.914 to 19.909 nats, total variation of
single columns .0060 to .0015).
"""

import numpy as np
import torch

from ..batches import Batches, RowBatches
from ..models.gpt import TabularGPT
from .validate import to_device

MAX_DOCUMENTS = 32_768
BATCH = 2048
PRIOR = 0.5  # count added to both sides, so that a code that never occurs keeps a finite bias


def calibrate(model: TabularGPT, batches: Batches, device: torch.device) -> torch.Tensor:
    """The bias (V,) with which predicted and real counts of every code agree over (at most 32,768 of) the
    rows.
    """
    size = BATCH if isinstance(batches, RowBatches) else max(1, BATCH // 32)
    items = batches.take(0, min(batches.num_items, MAX_DOCUMENTS))
    predicted = torch.zeros(len(model.bias), dtype=torch.float64, device=device)
    found = torch.zeros_like(predicted)
    for some in np.array_split(items, -(-len(items) // size)):
        counts = model.expected_counts(to_device(batches.batch(some), device))
        predicted += counts[0]
        found += counts[1]
    shift = torch.log((found + PRIOR) / (predicted + PRIOR))
    return (model.bias.detach().double() + shift).float()
