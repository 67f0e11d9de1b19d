"""Megatron's parallel linear layers with a short way for one tensor-parallel rank: (T, B, in) enters, (T, B,
out) leaves.

Parameters and checkpoints are Megatron's. With one rank there is nobody to exchange with, and
torch's own linear spares the Python of Megatron's autograd function: a tenth of a small model's step.
"""

from typing import Any

from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
from megatron.core.tensor_parallel.layers import set_tensor_model_parallel_attributes
from torch import Tensor
from torch.nn import functional


class ColumnLinear(ColumnParallelLinear):
    """The output features are shared over the tensor-parallel ranks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_tensor_model_parallel_attributes(self.weight, True, 0, 1)

    def forward(
        self, input_: Tensor, weight: Tensor | None = None, runtime_gather_output: bool | None = None
    ) -> tuple[Tensor, Tensor | None]:
        if self.tp_group.size() == 1 and weight is None and self.bias is None:
            return functional.linear(input_, self.weight), None
        return super().forward(input_, weight, runtime_gather_output)


class RowLinear(RowParallelLinear):
    """The input features are shared over the tensor-parallel ranks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        set_tensor_model_parallel_attributes(self.weight, True, 1, 1)

    def forward(self, input_: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.tp_group.size() == 1 and self.bias is None:
            return functional.linear(input_, self.weight), None
        return super().forward(input_)
