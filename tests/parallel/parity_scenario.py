"""A layout enters; losses and gradient norms of ten steps of a small GPT leave, and what it has learnt."""

from typing import Any

import torch

from nemo_tabular.batches import DocumentBatch
from nemo_tabular.config import load_config
from nemo_tabular.engine.launch import start
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.ranks import join
from nemo_tabular.engine.stage import stages
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.engine.whole import whole_tensors
from nemo_tabular.models.gpt import TabularGPT

SIZES = [3, 41, 7, 5, 2]  # 58 ids: two tensor-parallel ranks share the second slot
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


def share(batch: Any, rank: int, ranks: int, micro_batch_size: int) -> list[Any]:
    """A data-parallel rank's micro-batches of a global batch."""
    mine = batch.split(BATCH // ranks) if isinstance(batch, DocumentBatch) else batch.split(BATCH // ranks, 1)
    piece = mine[rank]
    return list(
        piece.split(micro_batch_size)
        if isinstance(piece, DocumentBatch)
        else piece.split(micro_batch_size, 1)
    )


def ten_steps(settings: list[str], documents: bool) -> dict[str, Any]:
    """Losses and norms of each step, the total loss of one more batch by slot, and the weights (rank 0)."""
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
    rank, ranks = groups.dp.rank(), groups.dp.size()
    history = [step(share(make(n), rank, ranks, size), 1e-2) for n in range(STEPS)]
    held_out = share(make(99), rank, ranks, BATCH // ranks)
    by_slot = step.total(held_out, "nats_by_slot", (len(SIZES),))
    counts = step.total(held_out, "counts", (2, step.modules[0].offsets[-1]))
    whole = whole_tensors(chunks, step.weights())
    return {
        "losses": [loss for loss, _ in history],
        "norms": [norm for _, norm in history],
        "by_slot": by_slot.tolist(),
        "counts": counts.flatten().tolist(),
        "shapes": {name: list(tensor.shape) for name, tensor in sorted(whole.items())},
        "sums": {name: float(tensor.double().abs().sum()) for name, tensor in sorted(whole.items())},
    }
