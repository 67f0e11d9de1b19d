"""A layout enters; losses and gradient norms of ten steps of a small GPT leave, and what it has learnt."""

from typing import Any

import numpy as np
import torch

from nemo_tabular.batches import DocumentBatch, micro_batches
from nemo_tabular.config import load_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.ranks import join
from nemo_tabular.engine.stage import stages
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.models.gpt import TabularGPT

SIZES = [3, 41, 7, 5, 2]  # 58 ids and 16 waves: two tensor-parallel ranks share the second slot
PLACES = [None, np.linspace(0, 1, 41)]
BATCH, STEPS, ROWS = 8, 10, 4
RECIPE = ["model.num_layers=4", "model.hidden_size=32", "model.num_attention_heads=4"]


def row_batch(step: int) -> torch.Tensor:
    """Codes (S, B) with dependence between the slots."""
    generator = torch.Generator().manual_seed(1000 + step)
    first = torch.randint(0, 3, (BATCH,), generator=generator)
    noise = [torch.randint(0, size, (BATCH,), generator=generator) for size in SIZES]
    return torch.stack([first, *((noise[s] // 2 + first) % SIZES[s] for s in range(1, len(SIZES)))])


def document_batch(step: int) -> DocumentBatch:
    """Windows of 1 to ROWS rows: some begin, some go on with a row of context, some end."""
    generator = torch.Generator().manual_seed(2000 + step)
    codes = torch.stack([torch.randint(0, size, (ROWS, BATCH), generator=generator) for size in SIZES], 1)
    lengths = torch.randint(1, ROWS + 1, (BATCH,), generator=generator)
    begins, ends = (torch.randint(0, 2, (BATCH,), generator=generator).bool() for _ in range(2))
    row_R1 = torch.arange(ROWS).unsqueeze(1)
    scored = (row_R1 < lengths) & (row_R1 >= (~begins & (lengths > 1)).long())
    codes = codes * (row_R1 < lengths).unsqueeze(1)
    return DocumentBatch(codes, codes, lengths, scored, begins, ends)


def share(batch: Any, groups: Any, micro_batch_size: int) -> list[Any]:
    """This data-parallel rank's micro-batches of a global batch."""
    size = BATCH // groups.dp.size()
    return micro_batches(micro_batches(batch, size)[groups.dp.rank()], micro_batch_size)


def trained(settings: list[str], documents: bool, steps: int) -> tuple[TrainStep, list[tuple[float, float]]]:
    """The model after some steps, and each step's loss and norm."""
    torch.set_num_threads(1)
    config = load_config(overrides=[*RECIPE, *settings])
    layout = ParallelLayout.of(config.model, join().size)
    groups = start(layout, seed=1)
    chunks = [
        TabularGPT(
            config.model,
            config.trainer.precision,
            SIZES,
            groups,
            places=PLACES,
            histories=documents,
            max_rows=ROWS if documents else 1,
            seed=3,
            stage=stage,
        )
        for stage in stages(groups, config.model.virtual_pipeline_model_parallel_size)
    ]
    step = TrainStep(chunks, config.optim, groups)
    size = layout.micro_batch_size(BATCH, config.data.micro_batch_size)
    make = document_batch if documents else row_batch
    return step, [step(share(make(n), groups, size), 1e-2) for n in range(steps)]


def mark(tensor: torch.Tensor) -> float:
    """One number that hardly any change of the tensor, or of the order of its elements, leaves as it is."""
    flat = tensor.double().flatten()
    return float(flat @ torch.cos(torch.arange(len(flat), dtype=torch.float64)))


def held_out(step: TrainStep, documents: bool) -> list[float]:
    """Nats of one more batch by slot, summed over all ranks."""
    batch = document_batch(99) if documents else row_batch(99)
    return step.total(share(batch, step.groups, BATCH), "nats_by_slot", (len(SIZES),)).tolist()


def ten_steps(settings: list[str], documents: bool) -> dict[str, Any]:
    """Losses and norms of each step, what validation and calibration measure, and the weights (rank 0)."""
    step, history = trained(settings, documents, STEPS)
    whole = whole_tensors(step.modules, step.weights())  # first: new weights may still be on their way
    batch = document_batch(99) if documents else row_batch(99)
    counts = step.total(share(batch, step.groups, BATCH), "counts", (2, step.modules[0].offsets[-1]))
    return {
        "losses": [loss for loss, _ in history],
        "norms": [norm for _, norm in history],
        "by_slot": held_out(step, documents),
        "counts": counts.flatten().tolist(),
        "shapes": {name: list(tensor.shape) for name, tensor in sorted(whole.items())},
        "marks": {name: mark(tensor) for name, tensor in sorted(whole.items())},
    }
