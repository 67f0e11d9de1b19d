"""The plan's arithmetic against real modules, ours and Megatron's, on fake tensors: single ranks of 512."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from nemo_tabular.config import Config, make_config
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.plan import assumed
from nemo_tabular.plan.memory import (
    activation_bytes,
    chunk_bytes,
    chunks_in_flight,
    hidden_bytes,
    model_parameters,
    positions_of_a_rank,
    rank_parameters,
    state_bytes,
    working_bytes,
)

SHAPES = {
    "5b": {"num_layers": 24, "hidden_size": 4096, "num_attention_heads": 32},
    "20b": {"num_layers": 44, "hidden_size": 6144, "num_attention_heads": 48},
    "175b": {"num_layers": 96, "hidden_size": 12288, "num_attention_heads": 96},
}
VPP = "virtual_pipeline_model_parallel_size"
WORLD, SLOTS, VOCAB, SIZE, MORE = (
    512,
    48,
    9000,
    2,
    32,
)  # more than 32 positions, so that attention is the fused one


def recipe(shape: str, tp: int, pp: int = 1, *, sharded: bool = True, **model: Any) -> Config:
    layout = {"tensor_model_parallel_size": tp, "pipeline_model_parallel_size": pp}
    return make_config(
        {
            "data": {"max_rows": 4},
            "model": SHAPES[shape] | layout | model,
            "optim": {"use_distributed_optimizer": sharded},
            "trainer": {"precision": "bf16-mixed"},
        }
    )


SP: dict[str, Any] = {"sequence_parallel": True}
FULL: dict[str, Any] = {
    "recompute_granularity": "full",
    "recompute_method": "uniform",
    "recompute_num_layers": 3,
}
BLOCK = FULL | {"recompute_method": "block", "recompute_num_layers": 2}
CASES: dict[str, tuple[Config, int, bool]] = {  # configuration, pipeline rank, histories
    "5b TP8": (recipe("5b", 8, **SP), 0, False),
    "5b TP8 without SP": (recipe("5b", 8), 0, False),
    "5b one GPU a model": (recipe("5b", 1, sharded=False), 0, True),
    "20b CP2": (recipe("20b", 4, 4, context_parallel_size=2), 1, False),
    **{f"20b TP8 PP4 stage {p}": (recipe("20b", 8, 4, **SP), p, False) for p in range(4)},
    **{f"175b TP8 PP16 stage {p}": (recipe("175b", 8, 16, **SP), p, True) for p in (0, 1, 15)},
    "175b interleaved": (recipe("175b", 8, 16, virtual_pipeline_model_parallel_size=3, **SP), 0, False),
    "175b recomputing": (recipe("175b", 8, 16, **SP, **FULL), 5, False),
    "175b recomputing some": (recipe("175b", 8, 16, **SP, **BLOCK), 5, False),
}


def work_of(config: Config, histories: bool):
    return assumed(config, SLOTS, VOCAB, histories)


@pytest.fixture(scope="module")
def real() -> dict[str, dict[str, int]]:
    """What the ranks of each case hold, measured in one other process."""
    cases = [
        {
            "config": config.model_dump(mode="json"),
            "work": asdict(work_of(config, histories)),
            "world": WORLD,
            "pipeline_rank": rank,
            "micro_batch_size": SIZE,
        }
        for config, rank, histories in CASES.values()
    ]
    cases += [
        {
            "config": config.model_dump(mode="json"),
            "work": asdict(work_of(config, False)),
            "world": config.model.pipeline_model_parallel_size * config.model.tensor_model_parallel_size,
            "pipeline_rank": rank,
            "micro_batch_size": MORE,
            "micro_batches": count,
        }
        for config, rank, count in (PIPELINES | STEPS).values()
    ]
    script = Path(__file__).with_name("real_modules.py")
    done = subprocess.run(
        [sys.executable, script, json.dumps(cases)], capture_output=True, text=True, timeout=1800
    )
    if done.returncode:
        pytest.fail(done.stderr[-1000:])
    return dict(zip([*CASES, *PIPELINES, *STEPS], json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_parameters_of_a_rank_are_those_of_the_real_modules(real, name):
    config, rank, histories = CASES[name]
    planned = rank_parameters(config.model, work_of(config, histories), rank)
    assert planned.total == real[name]["parameters"]


@pytest.mark.parametrize("name", CASES)
def test_weights_gradients_and_optimizer_take_what_the_real_ones_take(real, name):
    config, rank, histories = CASES[name]
    layout = ParallelLayout.of(config.model, WORLD)
    sharing = layout.data_parallel_size * layout.context_parallel_size
    held = rank_parameters(config.model, work_of(config, histories), rank)
    planned = state_bytes(held, "bf16-mixed", config.optim.use_distributed_optimizer, sharing)
    wanted = [real[name][part] for part in ("weights", "gradients", "optimizer")]
    assert planned == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize("name", CASES)
def test_activations_take_what_autograd_keeps(real, name):
    config, rank, histories = CASES[name]
    model, work, layout = config.model, work_of(config, histories), ParallelLayout.of(config.model, WORLD)
    planned = activation_bytes(model, work, layout, "bf16-mixed", SIZE, 1, rank)
    if model.recompute_granularity:  # one forward pass does not show the layers that are computed again
        tokens = positions_of_a_rank(model, work.positions) * SIZE
        planned = chunk_bytes(model, tokens, "bf16-mixed") + hidden_bytes(model, tokens, "bf16-mixed")
    assert planned == pytest.approx(real[name]["activations"], rel=0.05)


TINY = {"num_layers": 8, "hidden_size": 16, "num_attention_heads": 2}
PIPELINES = {  # configuration, pipeline rank, micro-batches
    f"PP{pp} VPP{vpp} stage {rank}, {count}": (
        make_config({"model": TINY | {"pipeline_model_parallel_size": pp, VPP: vpp}}),
        rank,
        count,
    )
    for pp, vpp, rank, count in [
        (4, None, 0, 8),
        (4, None, 2, 8),
        (4, None, 0, 2),
        (2, 2, 0, 6),
        (4, 2, 1, 8),
    ]
}
STEPS = {  # the same, of the large ones
    "5b TP8, a step": (recipe("5b", 8, **SP), 0, 1),
    "20b TP8 PP4 stage 0, a step": (recipe("20b", 8, 4, **SP), 0, 6),
    "20b TP8 PP4 stage 3, a step": (recipe("20b", 8, 4, **SP), 3, 2),
    "20b interleaved, a step": (recipe("20b", 8, 4, virtual_pipeline_model_parallel_size=11, **SP), 0, 4),
    "175b recomputing, a step": (recipe("175b", 8, 16, **SP, **FULL), 5, 3),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_as_many_micro_batches_wait_as_in_megatrons_schedule(real, name):
    config, rank, count = PIPELINES[name]
    layout = ParallelLayout.of(config.model, config.model.pipeline_model_parallel_size)
    assert chunks_in_flight(layout, rank, count) == real[name]["in_flight"]


@pytest.mark.parametrize("name", STEPS)
def test_a_step_needs_at_its_fullest_what_was_planned(real, name):
    """Activations in flight and working memory together, by the schedule that trains."""
    config, rank, count = STEPS[name]
    model, work = config.model, work_of(config, False)
    layout = ParallelLayout.of(model, model.pipeline_model_parallel_size * model.tensor_model_parallel_size)
    kept = activation_bytes(model, work, layout, "bf16-mixed", MORE, count, rank)
    working = working_bytes(model, work, "bf16-mixed", MORE, rank == layout.pipeline_model_parallel_size - 1)
    assert kept + working == pytest.approx(real[name]["peak"], rel=0.05)


@pytest.mark.parametrize(
    ("shape", "low", "high"), [("5b", 4.7e9, 5.3e9), ("20b", 19e9, 21e9), ("175b", 173e9, 176e9)]
)
def test_models_have_the_size_of_their_name(shape, low, high):
    config = recipe(shape, 8)
    assert low < model_parameters(config.model, work_of(config, False)) < high
