"""A saved model and codes of rows enter; the exact negative log-likelihood of every slot leaves. Plain torch,
no Megatron.

Shapes: S slots, B rows, H hidden, N heads, D head size.
"""

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from ..batches import SetBatch, micro_batches
from .head import Slots, slot_nll
from .lineup import by_slot, line_up
from .weights import DecoderWeights, SetWeights


def normed(weights: DecoderWeights, x: Tensor, scale: Tensor, shift: Tensor | None) -> Tensor:
    if weights.rms:
        return functional.rms_norm(x, (weights.hidden,), scale, weights.eps)
    return functional.layer_norm(x, (weights.hidden,), scale, shift, weights.eps)


def activated(weights: DecoderWeights, x: Tensor) -> Tensor:
    return functional.relu(x).square() if weights.act == "squared-relu" else functional.gelu(x)


def transformed(weights: DecoderWeights, x: Tensor) -> Tensor:
    """What the blocks and the final norm make of (T, B, H), causally."""
    length, rows, _ = x.shape
    size = weights.hidden // weights.heads
    for block in weights.blocks:
        inner = normed(weights, x, block["norm1_w"], block.get("norm1_b"))
        qkv = functional.linear(inner, block["qkv"]).view(length, rows, 3, weights.heads, size)
        context = _attended(*qkv.unbind(2))
        x = x + functional.linear(context, block["proj"])
        inner = normed(weights, x, block["norm2_w"], block.get("norm2_b"))
        x = x + functional.linear(activated(weights, functional.linear(inner, block["fc1"])), block["fc2"])
    return normed(weights, x, weights.final_w, weights.final_b)


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Causal attention; q, k, v are (T, B, N, D), the result (T, B, N * D)."""
    q, k, v = (part.permute(1, 2, 0, 3) for part in (q, k, v))
    context = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    return context.permute(2, 0, 1, 3).flatten(2)


def hidden_states(weights: DecoderWeights, codes_SB: Tensor) -> Tensor:
    """(S, B, H): state s predicts slot s of each row from the slots before it."""
    rows = codes_SB.shape[1]
    shift_S1 = torch.tensor(weights.offsets[:-1], device=codes_SB.device).unsqueeze(1)
    values = functional.embedding(codes_SB[:-1] + shift_S1[:-1], weights.embedding)
    begin = weights.begin[:1].expand(1, rows, -1)
    return transformed(weights, torch.cat([begin, values]) + weights.position.unsqueeze(1))


def set_hidden_states(weights: SetWeights, batch: SetBatch) -> Tensor:
    """(S, B, H): the state that predicts each slot of each row from the slots before it in its order."""
    base = weights.base
    shift_S1 = torch.tensor(base.offsets[:-1]).unsqueeze(1)
    x = line_up(
        batch, shift_S1, partial(functional.embedding, weight=base.embedding), weights.column, base.begin
    )
    x = x if weights.features is None else weights.features.seen(x, batch)
    query = functional.embedding(batch.order, base.position)
    if weights.cross is None:
        return by_slot(transformed(base, x + query), batch)
    return by_slot(_crossed(base, weights.cross, query, transformed(base, x)), batch)


def _crossed(base: DecoderWeights, cross: Mapping[str, Tensor], query: Tensor, states: Tensor) -> Tensor:
    shape = (*query.shape[:2], base.heads, -1)
    q = functional.linear(normed(base, query, cross["query_norm_w"], cross.get("query_norm_b")), cross["q"])
    k, v = functional.linear(states, cross["k"]), functional.linear(states, cross["v"])
    context = _attended(q.view(shape), k.view(shape), v.view(shape))
    out = query + functional.linear(context, cross["proj"])
    return normed(base, out, cross["final_w"], cross.get("final_b"))


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


@torch.inference_mode()
def set_nll(weights: SetWeights, batch: SetBatch, batch_size: int = 2048) -> Tensor:
    """Negative log-likelihood in nats, float32 (S, B), of each slot given those before it in its row's order;
    0 where `scored` says so."""
    base, parts, slots = weights.base, [], Slots(weights.base.sizes)
    for piece in micro_batches(batch, batch_size):
        assert isinstance(piece, SetBatch)
        hidden = set_hidden_states(weights, piece).unbind(0)
        losses = torch.stack(slot_nll(base.embedding, base.bias, slots, piece.codes.unbind(0), *hidden))
        for place, rows, nats in [] if weights.features is None else weights.features.losses(hidden, piece):
            losses[place.slot] += torch.zeros_like(losses[place.slot]).index_add(0, rows, nats)
        parts.append(losses if piece.scored is None else losses * piece.scored)
    return torch.cat(parts, 1)
