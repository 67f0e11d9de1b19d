"""Megatron's TransformerConfig and TransformerBlock from our settings; hidden states (T, B, H) enter and
leave.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..config import ModelConfig

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.transformer_block import TransformerBlock, TransformerBlockSubmodules

from .attention import CoreAttention
from .linear import ColumnLinear, RowLinear
from .norm import Norm


class _SquaredRelu(torch.autograd.Function):
    """relu(x)^2 in two passes forward and one backward; Megatron's own is jit-compiled, which is slower on a
    CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = functional.relu(x)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (positive,) = ctx.saved_tensors
        return (grad * positive).mul_(2)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "squared-relu": _SquaredRelu.apply,
    "gelu": functional.gelu,
}


def transformer_config(model: ModelConfig, precision: str) -> TransformerConfig:
    """Megatron's configuration object. No linear biases and no dropout: both were measured to be useless on
    tables.
    """
    bf16 = precision == "bf16-mixed"
    dtype = torch.bfloat16 if bf16 else torch.float32
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        ffn_hidden_size=model.ffn_hidden_size or 4 * model.hidden_size,
        normalization=model.normalization,
        activation_func=ACTIVATIONS[model.activation],
        init_method_std=model.init_method_std or 0.64 / math.sqrt(model.hidden_size),
        add_bias_linear=False,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        bf16=bf16,
        params_dtype=dtype,
        pipeline_dtype=dtype,
        use_cpu_initialization=True,
        tensor_model_parallel_size=model.tensor_model_parallel_size,
        pipeline_model_parallel_size=model.pipeline_model_parallel_size,
        context_parallel_size=model.context_parallel_size,
        sequence_parallel=model.sequence_parallel,
        # fused kernels of these names are CUDA's or jit-compiled; plain torch is faster on a CPU
        gradient_accumulation_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
    )


def transformer_block(config: TransformerConfig, groups: ProcessGroupCollection) -> TransformerBlock:
    """The stack of this rank's layers with the final norm, on our attention and norm."""
    layer = get_gpt_layer_local_spec(normalization=config.normalization)
    attention, mlp = layer.submodules.self_attention.submodules, layer.submodules.mlp.submodules
    attention.core_attention = CoreAttention
    attention.linear_qkv, mlp.linear_fc1 = ColumnLinear, ColumnLinear
    attention.linear_proj, mlp.linear_fc2 = RowLinear, RowLinear
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = Norm
    spec = TransformerBlockSubmodules(layer_specs=[layer] * config.num_layers, layer_norm=Norm)
    return TransformerBlock(config, spec, pg_collection=groups)
