"""A layout enters; losses and gradient norms of ten steps of a small CGM leave, and what it has learnt."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from parity_scenario import BATCH, RECIPE, SIZES, STEPS, row_batch

from nemo_tabular.batches import DenseCells, SetBatch, micro_batches, set_batch
from nemo_tabular.codecs import ArrayCodec
from nemo_tabular.config import load_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.ranks import join
from nemo_tabular.engine.stage import stages
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.features.image import ImageFeature
from nemo_tabular.models.cgm import TabularCGM
from nemo_tabular.orders import LAST, THEN, SlotOrders
from nemo_tabular.profile import profile

OWNER = np.array([0, 1, 1, 2, 3])


DENSE_SLOT = 4
"""The last slot has two codes: missing, and there."""


def picture_codec() -> ArrayCodec:
    """Of 2 by 3 pixels of 3 levels."""
    column, cells = ImageFeature.example(30, 0)
    column = replace(column, nullable=True)
    return ArrayCodec.fit(column, profile([pa.record_batch([cells], names=["picture"])]).columns["picture"])


def with_pictures(batch: SetBatch, step: int) -> SetBatch:
    """The same rows with cells of the dense column, which follow from the first slot."""
    generator = torch.Generator().manual_seed(3000 + step)
    noise = torch.randint(0, 2, (BATCH, 2, 3), generator=generator)
    cells = (batch.codes[0][:, None, None] + noise) % 3
    return replace(batch, dense=DenseCells({"picture": cells.to(torch.uint8)}))


def cgm_batch(step: int) -> SetBatch:
    """Rows in orders of their own, a fifth of the cells absent."""
    groups_BK = np.where(np.random.default_rng(step).random((BATCH, 4)) < 0.2, LAST, THEN)
    order_SB = SlotOrders(OWNER, seed=2)(step * BATCH + np.arange(BATCH), groups_BK)
    return set_batch(row_batch(step), order_SB, groups_BK[:, OWNER].T == THEN)


def share(batch: SetBatch, groups: Any, micro_batch_size: int) -> list[Any]:
    """This data-parallel rank's micro-batches of a global batch."""
    return micro_batches(micro_batches(batch, BATCH // groups.dp.size())[groups.dp.rank()], micro_batch_size)


def ten_steps(settings: list[str], query: str, pictures: bool = False) -> dict[str, Any]:
    """Losses and norms of each step, what validation and calibration measure, and the weights (rank 0)."""
    torch.set_num_threads(1)
    config = load_config(overrides=[*RECIPE, *settings, "model.kind=cgm", f"model.query={query}"])
    layout = ParallelLayout.of(config.model, join().size)
    groups = start(layout, seed=1)
    dense = {DENSE_SLOT: picture_codec()} if pictures else None
    make = (lambda n: with_pictures(cgm_batch(n), n)) if pictures else cgm_batch
    chunks = [
        TabularCGM(config.model, "32", SIZES, groups, seed=3, stage=stage, dense=dense)
        for stage in stages(groups, config.model.virtual_pipeline_model_parallel_size)
    ]
    step = TrainStep(chunks, config.optim, groups)
    size = layout.micro_batch_size(BATCH, config.data.micro_batch_size)
    lr = 2e-3 if pictures else 1e-2  # a pace at which rounding stays rounding
    history = [step(share(make(n), groups, size), lr) for n in range(STEPS)]
    held_out = share(make(99), groups, BATCH)
    counts = step.total(held_out, "counts", (2, chunks[0].offsets[-1]))
    whole = whole_tensors(step.modules, step.weights())
    return {
        "losses": [loss for loss, _ in history],
        "norms": [norm for _, norm in history],
        "by_slot": step.total(held_out, "nats_by_slot", (len(SIZES),)).tolist(),
        "counts": counts.flatten().tolist(),
        "sums": {name: float(tensor.double().abs().sum()) for name, tensor in sorted(whole.items())},
    }
