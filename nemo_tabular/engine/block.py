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
from megatron.core.transformer.transformer_block import (
    TransformerBlock,
    TransformerBlockSubmodules,
    get_num_layers_to_build,
)

from .attention import CoreAttention
from .initial import draw_
from .linear import ColumnLinear, RowLinear
from .norm import Norm
from .stage import WHOLE, Stage, name_in_whole


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
    virtual = model.virtual_pipeline_model_parallel_size
    return TransformerConfig(
        num_layers=model.num_layers,
        hidden_size=model.hidden_size,
        num_attention_heads=model.num_attention_heads,
        ffn_hidden_size=model.feed_forward_size,
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
        perform_initialization=False,  # see initial.py
        tensor_model_parallel_size=model.tensor_model_parallel_size,
        pipeline_model_parallel_size=model.pipeline_model_parallel_size,
        context_parallel_size=model.context_parallel_size,
        virtual_pipeline_model_parallel_size=virtual,
        # interleaved and batched, Megatron trains wrong without an error
        overlap_p2p_comm=virtual is not None,
        batch_p2p_comm=virtual is None,
        sequence_parallel=model.sequence_parallel,
        recompute_granularity=model.recompute_granularity,
        recompute_method=model.recompute_method,
        recompute_num_layers=model.recompute_num_layers,
        # fused kernels of these names are CUDA's or jit-compiled; plain torch is faster on a CPU
        gradient_accumulation_fusion=False,
        bias_dropout_fusion=False,
        bias_activation_fusion=False,
        masked_softmax_fusion=False,
        persist_layer_norm=False,
    )


def transformer_block(
    config: TransformerConfig,
    groups: ProcessGroupCollection,
    *,
    seed: int = 0,
    stage: Stage = WHOLE,
    prefix: str = "blocks",
) -> TransformerBlock:
    """The layers of this rank's `stage`, with the final norm at the end, on our attention and norm.

    The initial weights follow from `seed`, `prefix` and each one's name: the same whatever the layout.
    """
    layer = get_gpt_layer_local_spec(normalization=config.normalization)
    attention, mlp = layer.submodules.self_attention.submodules, layer.submodules.mlp.submodules
    attention.core_attention = CoreAttention
    attention.linear_qkv, mlp.linear_fc1 = ColumnLinear, ColumnLinear
    attention.linear_proj, mlp.linear_fc2 = RowLinear, RowLinear
    layer.submodules.input_layernorm = layer.submodules.pre_mlp_layernorm = Norm
    count = get_num_layers_to_build(config, stage.vp_stage, groups.pp.rank())
    block = TransformerBlock(
        config,
        TransformerBlockSubmodules(layer_specs=[layer] * count, layer_norm=Norm),
        pre_process=stage.first,
        post_process=stage.last,
        pg_collection=groups,
        vp_stage=stage.vp_stage,
    )
    for name, parameter in block.named_parameters():
        if parameter.dim() > 1:
            whole = name_in_whole(name, block)
            last = whole.endswith(("linear_proj.weight", "linear_fc2.weight"))
            std = config.init_method_std / math.sqrt(2 * config.num_layers if last else 1)
            draw_(parameter, f"{prefix}.{whole}", seed, std, groups.tp)
    return block
