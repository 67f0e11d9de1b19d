"""Sizes come in; small synthetic models leave as decoder weights, with a plain forward pass to judge decoders
by."""

import itertools
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nemo_tabular.models.weights import DecoderWeights


def random_weights(
    sizes: list[int],
    *,
    hidden: int = 32,
    heads: int = 4,
    layers: int = 2,
    act: str = "squared-relu",
    rms: bool = False,
    spread: float = 1.0,
    seed: int = 0,
    max_rows: int | None = None,
) -> DecoderWeights:
    """A model whose distributions depend on all earlier codes; `spread` is the standard deviation of its
    biases. With `max_rows` a model of histories, whose sizes[0] counts the end of the document."""
    made = torch.Generator().manual_seed(seed)

    def normal(*shape: int, std: float = 0.64 / math.sqrt(hidden)) -> Tensor:
        return torch.randn(*shape, generator=made) * std

    norms = {"norm1": 1.0, "norm2": 1.0}
    blocks = []
    for _ in range(layers):
        block = {"qkv": normal(3 * hidden, hidden, std=2 / math.sqrt(hidden)), "proj": normal(hidden, hidden)}
        block |= {"fc1": normal(4 * hidden, hidden), "fc2": normal(hidden, 4 * hidden)}
        for norm in norms:
            block[f"{norm}_w"] = 1 + normal(hidden, std=0.1)
            if not rms:
                block[f"{norm}_b"] = normal(hidden, std=0.1)
        blocks.append(block)
    return DecoderWeights(
        hidden=hidden,
        heads=heads,
        sizes=sizes,
        embedding=normal(sum(sizes), hidden, std=0.2),
        position=normal(len(sizes), hidden, std=0.1),
        begin=normal(2 if max_rows else 1, hidden, std=0.1),
        bias=normal(sum(sizes), std=spread),
        blocks=blocks,
        final_w=1 + normal(hidden, std=0.1),
        final_b=None if rms else normal(hidden, std=0.1),
        act=act,
        rms=rms,
        row_position=normal(max_rows + 1, hidden, std=0.2) if max_rows else None,
        histories=max_rows is not None,
    )


# Slots of a census-like table in rising order of entropy: what prefix sharing lives on.
CENSUS = [2, 2, 42, 92, 119, 5, 6, 9, 7, 15, 16, 16, 73, 94, 8, 4, 4]


def census_weights(layers: int = 2, hidden: int = 64, seed: int = 0) -> DecoderWeights:
    """Untrained, but with marginals as skewed as a census': leading slots nearly constant."""
    weights = random_weights(CENSUS, hidden=hidden, layers=layers, seed=seed)
    falls = [3.0, 1.0, 1.6, 1.9, 1.8, 1.6, 1.2, 1.0, 1.2, 1.2, 0.9, 0.9, 0.8, 0.3, 0.2, 0.2, 0.1]
    steps = [-fall * np.log1p(np.arange(size)) for fall, size in zip(falls, CENSUS, strict=True)]
    weights.bias.copy_(torch.from_numpy(np.concatenate(steps)).float())
    return weights


def log_probs(weights: DecoderWeights, codes: np.ndarray) -> np.ndarray:
    """float64 (rows,): log-probability of whole rows, by one plain forward pass in float64."""
    w, codes_NS = weights, torch.from_numpy(codes.astype(np.int64))
    rows, slots = codes_NS.shape
    values = w.embedding.double()[codes_NS[:, :-1] + torch.tensor(w.offsets[: slots - 1], dtype=torch.int64)]
    begin = w.begin[:1].double().expand(rows, 1, -1)
    hidden_NSH = transformed(w, torch.cat([begin, values], 1) + w.position.double())
    total = torch.zeros(rows, dtype=torch.float64)
    for s in range(slots):
        total += slot_log_probs(w, hidden_NSH[:, s], s).gather(1, codes_NS[:, s : s + 1]).squeeze(1)
    return total.numpy()


def next_log_probs(
    weights: DecoderWeights, window: np.ndarray, row: list[int], continues: bool
) -> np.ndarray:
    """float64 (codes,): of the slot after `row`, the codes so far of the row after `window` (rows, S)."""
    w, slots = weights, weights.slots
    codes = torch.tensor([*window.reshape(-1).tolist(), *row], dtype=torch.int64)
    slot = torch.arange(len(codes) + 1) % slots
    values = w.embedding.double()[codes + torch.tensor(w.offsets)[slot[:-1]]]
    x = torch.cat([w.begin[int(continues)].double().unsqueeze(0), values]) + w.position.double()[slot]
    x = x + w.row_position.double()[torch.arange(len(slot)) // slots]
    return slot_log_probs(w, transformed(w, x.unsqueeze(0))[:, -1], len(row))[0].numpy()


def slot_log_probs(w: DecoderWeights, hidden: Tensor, slot: int) -> Tensor:
    """float64 (rows, codes) of one slot's codes."""
    ids = slice(w.offsets[slot], w.offsets[slot + 1])
    return (hidden @ w.embedding[ids].double().T + w.bias[ids].double()).log_softmax(1)


def transformed(w: DecoderWeights, x: Tensor) -> Tensor:
    """The transformer's output (rows, positions, H) in float64, causal."""
    rows, slots = x.shape[:2]
    for block in w.blocks:
        qkv = _norm(w, x, block, "norm1") @ block["qkv"].double().T
        q, k, v = (y.view(rows, slots, w.heads, -1).transpose(1, 2) for y in qkv.split(w.hidden, 2))
        scores = q @ k.transpose(2, 3) / math.sqrt(w.hidden // w.heads)
        scores = scores.masked_fill(torch.ones(slots, slots).triu(1).bool(), -torch.inf)
        x = x + (scores.softmax(3) @ v).transpose(1, 2).reshape(rows, slots, -1) @ block["proj"].double().T
        inner = _norm(w, x, block, "norm2") @ block["fc1"].double().T
        inner = functional.gelu(inner) if w.act == "gelu" else functional.relu(inner).square()
        x = x + inner @ block["fc2"].double().T
    return _norm(w, x, {"final_w": w.final_w, "final_b": w.final_b}, "final")


def _norm(w: DecoderWeights, x: Tensor, block: dict, name: str) -> Tensor:
    weight = block[f"{name}_w"].double()
    if w.rms:
        return functional.rms_norm(x, (w.hidden,), weight, w.eps)
    return functional.layer_norm(x, (w.hidden,), weight, block[f"{name}_b"].double(), w.eps)


def every_row(sizes: list[int]) -> np.ndarray:
    """All rows of a small alphabet, int64 (product of sizes, slots)."""
    return np.array(list(itertools.product(*map(range, sizes))))
