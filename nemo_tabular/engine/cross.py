"""Cross-attention with a residual, built from the engine's parts: queries and states (T, B, H)
enter, a vector for each query leaves. Query t attends to the states 0 ... t.
"""

import torch
from torch import Tensor

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType

from .attention import CoreAttention
from .linear import ColumnLinear, RowLinear
from .norm import Norm


class CrossAttention(torch.nn.Module):
    """The paper's last step: nothing but the states tells the query what was seen."""

    def __init__(self, config: TransformerConfig, groups: ProcessGroupCollection) -> None:
        super().__init__()
        hidden, tp = config.hidden_size, groups.tp
        self.heads = config.num_attention_heads // tp.size()
        column = {"config": config, "init_method": config.init_method, "bias": False, "skip_bias_add": True}
        self.query_norm, self.final_layernorm = Norm(config, hidden), Norm(config, hidden)
        self.linear_q = ColumnLinear(hidden, hidden, gather_output=False, tp_group=tp, **column)
        self.linear_k = ColumnLinear(hidden, hidden, gather_output=False, tp_group=tp, **column)
        self.linear_v = ColumnLinear(hidden, hidden, gather_output=False, tp_group=tp, **column)
        self.linear_proj = RowLinear(
            hidden,
            hidden,
            config=config,
            init_method=config.output_layer_init_method,
            bias=False,
            input_is_parallel=True,
            skip_bias_add=True,
            tp_group=tp,
        )
        self.core = CoreAttention(config, 1, AttnMaskType.causal, "cross")

    def forward(self, query_TBH: Tensor, states_TBH: Tensor) -> Tensor:
        length, rows = query_TBH.shape[:2]
        query_TBH = query_TBH.to(states_TBH.dtype)
        q = self.linear_q(self.query_norm(query_TBH))[0]
        k, v = self.linear_k(states_TBH)[0], self.linear_v(states_TBH)[0]
        context = self.core(*(x.view(length, rows, self.heads, -1) for x in (q, k, v)))
        return self.final_layernorm(query_TBH + self.linear_proj(context)[0])
