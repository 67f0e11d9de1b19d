"""Ranks as srun starts them, and a generation that they share."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from nemo_tabular.engine.ranks import join, place
from nemo_tabular.synthesizer import Synthesizer


def meet_as_srun_does() -> list[int]:
    """Only srun's variables are there; gives rank, size and the sum of all ranks."""
    ours = {name: os.environ.pop(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR")}
    os.environ |= {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": ours["RANK"],
        "SLURM_LOCALID": ours["LOCAL_RANK"],
        "SLURM_STEP_NUM_TASKS": ours["WORLD_SIZE"],
        "SLURM_STEP_NODELIST": "localhost",
    }
    here = join()
    total = torch.tensor([here.rank])
    dist.all_reduce(total)
    return [here.rank, here.size, int(total)]


def generated(run: str, out: str, **arguments: Any) -> int:
    """Rows that were written, as every rank knows."""
    torch.set_num_threads(1)
    return Synthesizer.load(run).write(out, **arguments)


def generated_where_a_rank_fails(run: str, out: str) -> str:
    """What is said on each rank when the second cannot make its share."""
    synthesizer = Synthesizer.load(run)
    if place().rank == 1:
        synthesizer.stream().tables = _refuse  # type: ignore[method-assign]
    try:
        synthesizer.write(out, 9000)
    except ValueError as error:
        return f"{error} ({Path(out).exists()})"
    return "written"


def _refuse(request: Any) -> Any:
    from nemo_tabular.errors import GenerationError

    raise GenerationError("out of luck")
    yield
