"""Megatron's core attention on plain torch: queries, keys and values enter as (T, B, heads, D), the context
leaves as (T, B, H).

Which kernel runs follows from the length in hand, because on a CPU the differences are large (measured):
below 16 keys a softmax over the leading dimension, up to 32 keys plain matrix products, above that
`scaled_dot_product_attention`. On CUDA it is always the latter (flash).

Under context parallelism a rank holds two chunks of every sequence (sequence.py); it gathers the keys and
values of the others, and each chunk looks at those up to its own end.

Shapes: T positions, B rows, N heads, D head size, H = N * D.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import launch as _launch  # prepares the import of megatron on a CPU  # noqa: F401  isort: skip
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer import TransformerConfig
from megatron.core.transformer.enums import AttnMaskType
from megatron.core.transformer.module import MegatronModule

PACKED_SOFTMAX_BELOW = 16
SDPA_ABOVE = 32


def _causal_bias(length: int, like: Tensor, _made: dict[tuple[object, ...], Tensor] = {}) -> Tensor:  # noqa: B006
    """(T, T) matrix: 0 where a position may look, a large negative number above the diagonal; made once a
    length.
    """
    key = (length, like.dtype, like.device)
    if key not in _made:
        full = torch.full((length, length), -1e9, dtype=like.dtype, device=like.device)
        _made[key] = full.triu_(1)
    return _made[key]


def _matmul_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention by two batched products; q, k, v and the result are (B, N, T, D)."""
    rows, heads, length, size = q.shape
    q, k, v = (x.reshape(rows * heads, length, size) for x in (q, k, v))
    weights = torch.baddbmm(_causal_bias(length, q), q, k.transpose(1, 2), alpha=scale)
    if length < PACKED_SOFTMAX_BELOW or weights.dtype == torch.bfloat16:
        # torch's softmax over a short last dimension is not vectorised; over the first it is
        weights = weights.permute(2, 0, 1).contiguous().softmax(0).permute(1, 2, 0)
    else:
        weights = weights.softmax(-1)
    return torch.bmm(weights, v).view(rows, heads, length, size)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    """Causal attention by the kernel that is fastest at this length; q and the result are (B, N, T, D)."""
    grouped = k.shape[1] != q.shape[1]
    if q.shape[2] > SDPA_ABOVE or q.is_cuda or grouped:
        return functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scale, enable_gqa=grouped
        )
    return _matmul_attention(q, k, v, scale)


def in_order(gathered_T: Tensor, parts: int) -> Tensor:
    """Positions 0, 1, ... of what was gathered from `parts` context-parallel ranks, each with chunks r and
    2 * parts - 1 - r.
    """
    chunks = gathered_T.chunk(2 * parts)
    return torch.cat([*chunks[::2], *chunks[::-2]])


def shared_causal_attention(
    q_TBND: Tensor, k_TBND: Tensor, v_TBND: Tensor, scale: float, group: Any
) -> Tensor:
    """Causal attention of this context-parallel rank's positions to those of all; the result is
    (B, N, T, D).
    """
    from torch.nn.attention.bias import causal_lower_right  # brings torch's compiler: half a second

    parts, part = group.size(), group.rank()
    k, v = (
        in_order(gather_from_sequence_parallel_region(x, group=group), parts).permute(1, 2, 0, 3)
        for x in (k_TBND, v_TBND)
    )
    half = len(q_TBND) // 2
    out = []
    for chunk, own_TBND in zip((part, 2 * parts - 1 - part), q_TBND.split(half), strict=True):
        q, seen = own_TBND.permute(1, 2, 0, 3), half * (chunk + 1)
        out.append(
            functional.scaled_dot_product_attention(
                q,
                k[:, :, :seen],
                v[:, :, :seen],
                attn_mask=causal_lower_right(half, seen),
                scale=scale,
                enable_gqa=k.shape[1] != q.shape[1],
            )
        )
    return torch.cat(out, 2)


class CoreAttention(MegatronModule):
    """Causal self-attention for Megatron's layer spec. Dropout of attention weights is not offered."""

    def __init__(
        self,
        config: TransformerConfig,
        layer_number: int,
        attn_mask_type: AttnMaskType,
        attention_type: str,
        softmax_scale: float | None = None,
        pg_collection: ProcessGroupCollection | None = None,
        **_: object,
    ) -> None:
        super().__init__(config=config)
        if attn_mask_type != AttnMaskType.causal:
            raise NotImplementedError("only causal attention is built")
        self.cp: Any = None if pg_collection is None else pg_collection.cp
        self.scale = softmax_scale or 1.0 / math.sqrt(config.kv_channels or 1)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        attn_mask_type: AttnMaskType | None = None,
        attention_bias: Tensor | None = None,
        packed_seq_params: object = None,
    ) -> Tensor:
        length, rows, heads, size = query.shape
        if self.cp is not None and self.cp.size() > 1:
            context = shared_causal_attention(query, key, value, self.scale, self.cp)
        else:
            q, k, v = (x.permute(1, 2, 0, 3) for x in (query, key, value))
            context = causal_attention(q, k, v, self.scale)
        return context.permute(2, 0, 1, 3).reshape(length, rows, heads * size)
