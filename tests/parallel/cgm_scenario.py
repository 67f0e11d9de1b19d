"""A layout enters; losses and gradient norms of ten steps of a small CGM leave, and what it has learnt."""

from typing import Any

import numpy as np
import torch
from parity_scenario import BATCH, RECIPE, SIZES, STEPS, row_batch

from nemo_tabular.batches import SetBatch, micro_batches, set_batch
from nemo_tabular.config import load_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.ranks import join
from nemo_tabular.engine.stage import stages
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.models.cgm import TabularCGM
from nemo_tabular.orders import LAST, THEN, SlotOrders

OWNER = np.array([0, 1, 1, 2, 3])


def cgm_batch(step: int) -> SetBatch:
    """Rows in orders of their own, a fifth of the cells absent."""
    groups_BK = np.where(np.random.default_rng(step).random((BATCH, 4)) < 0.2, LAST, THEN)
    order_SB = SlotOrders(OWNER, seed=2)(step * BATCH + np.arange(BATCH), groups_BK)
    return set_batch(row_batch(step), order_SB, groups_BK[:, OWNER].T == THEN)


def share(batch: SetBatch, groups: Any, micro_batch_size: int) -> list[Any]:
    """This data-parallel rank's micro-batches of a global batch."""
    return micro_batches(micro_batches(batch, BATCH // groups.dp.size())[groups.dp.rank()], micro_batch_size)


def ten_steps(settings: list[str], query: str) -> dict[str, Any]:
    """Losses and norms of each step, what validation and calibration measure, and the weights (rank 0)."""
    torch.set_num_threads(1)
    config = load_config(overrides=[*RECIPE, *settings, "model.kind=cgm", f"model.query={query}"])
    layout = ParallelLayout.of(config.model, join().size)
    groups = start(layout, seed=1)
    chunks = [
        TabularCGM(config.model, "32", SIZES, groups, seed=3, stage=stage)
        for stage in stages(groups, config.model.virtual_pipeline_model_parallel_size)
    ]
    step = TrainStep(chunks, config.optim, groups)
    size = layout.micro_batch_size(BATCH, config.data.micro_batch_size)
    history = [step(share(cgm_batch(n), groups, size), 1e-2) for n in range(STEPS)]
    held_out = share(cgm_batch(99), groups, BATCH)
    counts = step.total(held_out, "counts", (2, chunks[0].offsets[-1]))
    whole = whole_tensors(step.modules, step.weights())
    return {
        "losses": [loss for loss, _ in history],
        "norms": [norm for _, norm in history],
        "by_slot": step.total(held_out, "nats_by_slot", (len(SIZES),)).tolist(),
        "counts": counts.flatten().tolist(),
        "sums": {name: float(tensor.double().abs().sum()) for name, tensor in sorted(whole.items())},
    }
