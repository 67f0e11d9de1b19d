"""Cross-attention with a residual, built from the engine's parts: queries and states (T, B, H)
enter, a vector for each query leaves. Query t attends to the states 0 ... t.
"""

from typing import Any

from torch import Tensor

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule

from .attention import CoreAttention
from .initial import draw_
from .linear import ColumnLinear, RowLinear
from .norm import Norm


class CrossAttention(MegatronModule):
    """The paper's last step: nothing but the states tells the query what was seen.

    Under sequence parallelism queries, states and the result are this rank's part of the sequence. The
    initial weights follow from `seed`, `prefix` and each one's name.
    """

    def __init__(
        self,
        config: TransformerConfig,
        groups: ProcessGroupCollection,
        *,
        seed: int = 0,
        prefix: str = "cross",
    ) -> None:
        super().__init__(config=config)
        hidden, tp = config.hidden_size, groups.tp
        self.heads = config.num_attention_heads // tp.size()
        shared: dict[str, Any] = {"config": config, "init_method": config.init_method, "bias": False}
        shared |= {"skip_bias_add": True, "tp_group": tp}
        self.query_norm, self.final_layernorm = Norm(config, hidden), Norm(config, hidden)
        self.linear_q = ColumnLinear(hidden, hidden, gather_output=False, **shared)
        self.linear_k = ColumnLinear(hidden, hidden, gather_output=False, **shared)
        self.linear_v = ColumnLinear(hidden, hidden, gather_output=False, **shared)
        self.linear_proj = RowLinear(hidden, hidden, input_is_parallel=True, **shared)
        self.core = CoreAttention(config, 1, AttnMaskType.causal, "cross")
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                draw_(parameter, f"cross.{name}", seed, config.init_method_std, tp)

    def forward(self, query_TBH: Tensor, states_TBH: Tensor) -> Tensor:
        query_TBH = query_TBH.to(states_TBH.dtype)
        q = self.linear_q(self.query_norm(query_TBH))[0]
        k, v = self.linear_k(states_TBH)[0], self.linear_v(states_TBH)[0]
        context = self.core(*(x.view(*x.shape[:2], self.heads, -1) for x in (q, k, v)))
        return self.final_layernorm(query_TBH + self.linear_proj(context)[0])
