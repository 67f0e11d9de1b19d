"""A saved model and codes of rows enter; the exact negative log-likelihood of every slot leaves. Plain torch,
no Megatron.

Shapes: S slots, B rows, H hidden, N heads, D head size.
"""

import torch
from torch import Tensor
from torch.nn import functional

from .head import Slots, slot_nll
from .weights import DecoderWeights


def _norm(weights: DecoderWeights, x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    if weights.rms:
        return functional.rms_norm(x, (weights.hidden,), scale, weights.eps)
    return functional.layer_norm(x, (weights.hidden,), scale, shift, weights.eps)


def _activation(weights: DecoderWeights, x: Tensor) -> Tensor:
    return functional.relu(x).square() if weights.act == "squared-relu" else functional.gelu(x)


def hidden_states(weights: DecoderWeights, codes_SB: Tensor) -> Tensor:
    """(S, B, H): state s predicts slot s of each row from the slots before it."""
    slots, rows = codes_SB.shape
    shift_S1 = torch.tensor(weights.offsets[:-1], device=codes_SB.device).unsqueeze(1)
    values = functional.embedding(codes_SB[:-1] + shift_S1[:-1], weights.embedding)
    x = torch.cat([weights.begin[:1].expand(1, rows, -1), values]) + weights.position.unsqueeze(1)
    size = weights.hidden // weights.heads
    for block in weights.blocks:
        normed = _norm(weights, x, block["norm1_w"], block.get("norm1_b"))
        qkv = functional.linear(normed, block["qkv"]).view(slots, rows, 3, weights.heads, size)
        q, k, v = (part.permute(1, 2, 0, 3) for part in qkv.unbind(2))
        context = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + functional.linear(context.permute(2, 0, 1, 3).reshape(slots, rows, -1), block["proj"])
        normed = _norm(weights, x, block["norm2_w"], block.get("norm2_b"))
        x = x + functional.linear(_activation(weights, functional.linear(normed, block["fc1"])), block["fc2"])
    return _norm(weights, x, weights.final_w, weights.final_b)


@torch.inference_mode()
def row_nll(weights: DecoderWeights, codes_SB: Tensor, batch_size: int = 2048) -> Tensor:
    """Negative log-likelihood in nats, float32 (S, B), of each slot given those before it in its row; on the
    device of the weights, wherever the codes are.
    """
    parts = []
    for part in codes_SB.split(batch_size, dim=1):
        codes = part.to(weights.embedding.device)
        hidden = hidden_states(weights, codes)
        losses = slot_nll(
            weights.embedding, weights.bias, Slots(weights.sizes), codes.unbind(0), *hidden.unbind(0)
        )
        parts.append(torch.stack(losses))
    return torch.cat(parts, 1)
