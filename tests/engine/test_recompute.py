"""Recomputation of layers: the same numbers, and the layers run once more in the backward pass."""

import pytest
import torch

from nemo_tabular.config import ModelConfig, OptimConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.gpt import TabularGPT


@pytest.mark.parametrize(("method", "count"), [("uniform", 1), ("uniform", 2), ("block", 1)])
def test_recomputing_layers_changes_no_bit(method, count):
    groups = launch.start(ParallelLayout(), seed=1)
    codes = torch.randint(0, 3, (3, 12))
    results, passes = [], []
    for recompute in ({}, {"granularity": "full", "method": method, "num_layers": count}):
        settings = {f"recompute_{name}": value for name, value in recompute.items()}
        model = TabularGPT(ModelConfig(num_layers=2, **settings), "32", [3, 4, 5], groups, seed=1)
        calls: list[int] = []
        for layer in model.blocks.layers:
            layer.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        loss_and_norm = TrainStep(model, OptimConfig(clip_grad=0.0), groups)([codes], 1e-3)
        results.append((loss_and_norm, [p.detach().clone() for p in model.parameters()]))
        passes.append(len(calls))
    assert results[0][0] == results[1][0]
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    assert passes == [2, 4 if method == "uniform" else 3]
