"""The import hook, our attention and norm inside Megatron's block, and one optimizer step."""

import sys

import pytest
import torch

from nemo_tabular.config import ModelConfig, OptimConfig
from nemo_tabular.engine import cpu, launch
from nemo_tabular.engine.attention import CoreAttention
from nemo_tabular.engine.block import transformer_block, transformer_config
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.gpt import TabularGPT


@pytest.fixture(scope="module")
def groups():
    return launch.start(ParallelLayout(), seed=1)


def test_the_hook_leaves_torch_alone_and_acts_once():
    assert not cpu.install()
    assert torch.cuda.__name__ == "torch.cuda"
    if not torch.cuda.is_available():
        import megatron.core.parallel_state as state

        assert state._CPU_CUDA is cpu.CPU_CUDA


def test_the_hook_refuses_to_come_too_late(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(RuntimeError, match=r"before megatron\.core"):
        cpu.install()


@pytest.mark.parametrize("length", [1, 7, 15, 16, 32, 33, 50])
def test_attention_is_causal_softmax_attention_at_every_length(groups, length):
    config = transformer_config(ModelConfig(), "32")
    from megatron.core.transformer.enums import AttnMaskType

    core = CoreAttention(config, 1, AttnMaskType.causal, "self")
    q, k, v = torch.randn(3, length, 5, 4, 16, dtype=torch.float64).float()
    got = core(q, k, v)
    scores = torch.einsum("tbnd,sbnd->bnts", q, k) / 4.0
    scores = scores.masked_fill(torch.ones(length, length).triu(1).bool(), -torch.inf)
    wanted = torch.einsum("bnts,sbnd->tbnd", scores.softmax(-1), v).reshape(length, 5, 64)
    assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("normalization", ["LayerNorm", "RMSNorm"])
def test_the_block_is_causal(groups, normalization):
    config = transformer_config(ModelConfig(normalization=normalization), "32")
    block = transformer_block(config, groups)
    x = torch.randn(12, 3, 64)
    changed = x.clone()
    changed[7:] += 1
    before, after = block(x, attention_mask=None), block(changed, attention_mask=None)
    assert torch.equal(before[:7], after[:7])
    assert not torch.allclose(before[7:], after[7:])


def test_a_step_that_is_not_finite_changes_nothing(groups):
    model = TabularGPT(ModelConfig(num_layers=1), "32", [3, 4], groups)
    step = TrainStep(model, OptimConfig(), groups)
    codes = torch.zeros(2, 8, dtype=torch.int64)
    step([codes], 1e-2)
    before = {n: p.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        model.bias[0] = torch.nan
        before["bias"] = model.bias.clone()
    _loss, norm = step([codes], 1e-2)
    assert not norm < float("inf")
    assert all(torch.equal(before[n], p) or n == "bias" for n, p in model.named_parameters())


def test_micro_batches_add_up_to_the_whole_batch(groups):
    codes = torch.randint(0, 3, (2, 12))
    norms = []
    for pieces in ([codes], list(codes.split(4, dim=1))):
        torch.manual_seed(0)
        model = TabularGPT(ModelConfig(num_layers=1), "32", [3, 4], groups)
        norms.append(TrainStep(model, OptimConfig(clip_grad=0.0), groups)(pieces, 1e-3))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)
