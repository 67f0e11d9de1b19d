"""LayerNorm or RMSNorm in plain torch, in the shape Megatron's layer spec asks for.

Megatron's own torch norm refuses sequence parallelism; this one marks its parameters so that Megatron reduces
them.
"""

import torch
from megatron.core.transformer import TransformerConfig
from torch import Tensor
from torch.nn import functional


class Norm(torch.nn.Module):
    """`config.normalization` chooses "LayerNorm" or "RMSNorm"; input and output (..., hidden_size)."""

    def __init__(self, config: TransformerConfig, hidden_size: int, eps: float = 1e-5, **_: object) -> None:
        super().__init__()
        self.rms, self.eps, self.shape = config.normalization == "RMSNorm", eps, (hidden_size,)
        self.weight = torch.nn.Parameter(torch.ones(hidden_size, dtype=config.params_dtype))
        if not self.rms:
            self.bias = torch.nn.Parameter(torch.zeros(hidden_size, dtype=config.params_dtype))
        for parameter in self.parameters():
            parameter.sequence_parallel = config.sequence_parallel  # type: ignore[attr-defined]

    def forward(self, x: Tensor) -> Tensor:
        if self.rms:
            return functional.rms_norm(x, self.shape, self.weight, self.eps)
        return functional.layer_norm(x, self.shape, self.weight, self.bias, self.eps)
