"""The places of a batch come in, each with a document at a position of its own; the codes of one slot leave.
Torch operations with a preallocated cache; compiled.py does the same in C.

The same numbers whatever else is in the batch: every operation runs over all lanes and the whole cache, with
what is not there masked, so shapes never change.

Shapes: B lanes, T positions of a cache, H hidden, C codes of the slot in hand.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..features.draw import Sampling, cumulative, invert
from ..models.weights import DecoderWeights


@dataclass(frozen=True)
class LaneStep:
    """The lanes that take a step at one slot; arrays of one length, int32 unless said otherwise."""

    lane: np.ndarray
    id: np.ndarray
    """What is read: 0 begins a document, 1 a window that continues one, 2 + id is a code."""
    place: np.ndarray
    """Row of the window."""
    position: np.ndarray
    """Positions of the window before this one."""
    endless: np.ndarray
    """uint8: the document may not end here."""
    least: np.ndarray
    """Codes below it are not drawn."""
    uniform: np.ndarray
    """float64: what a code is drawn by."""
    drawn: bool
    """Whether any code is."""


class TorchSteps:
    """One slot of many documents at a time, each with a cache of its own."""

    def __init__(self, weights: DecoderWeights, dtype: torch.dtype, device: torch.device, batch: int) -> None:
        self.weights, self.dtype, self.device, self.batch = weights, dtype, device, batch
        self.capacity = weights.max_rows * weights.slots + 1
        self._input_VH = self._on_device(torch.cat([weights.begin, weights.embedding]))
        self._position_SH = self._on_device(weights.position)
        self._place_RH = self._on_device(weights.row_position)
        self._head_VH = weights.embedding.detach().to(device, torch.float32)
        self._blocks = [
            {k: self._on_device(v) for k, v in b.items() if v is not None} for b in weights.blocks
        ]
        self._final = [None if x is None else self._on_device(x) for x in (weights.final_w, weights.final_b)]
        shape = (weights.layers, 2, batch, self.capacity, weights.hidden)
        self._cache = torch.zeros(shape, dtype=dtype, device=device)

    def _on_device(self, x: Tensor | None) -> Tensor:
        assert x is not None
        return x.detach().to(self.device, self.dtype)

    def begin(self, sampling: Sampling, bias_V: np.ndarray) -> None:
        """What the following steps draw with."""
        self._sampling = sampling
        self._bias_V = torch.from_numpy(bias_V).to(self.device)

    @torch.inference_mode()
    def step(self, slot: int, lanes: LaneStep) -> np.ndarray:
        """int32 codes (count,), one for each lane; meaningless where nothing is drawn."""
        id_B, place_B, position_B, endless_B, least_B, uniform_B = (
            self._spread(lanes.lane, x)
            for x in (lanes.id, lanes.place, lanes.position, lanes.endless, lanes.least, lanes.uniform)
        )
        x_BH = self._input_VH[id_B.long()] + self._position_SH[slot] + self._place_RH[place_B.long()]
        hidden_BH = self._network(x_BH, position_B.long())
        if not lanes.drawn:
            return np.zeros(len(lanes.lane), np.int32)
        ids = slice(self.weights.offsets[slot], self.weights.offsets[slot + 1])
        logits_BC = torch.addmm(self._bias_V[ids], hidden_BH.float(), self._head_VH[ids].t()).double()
        logits_BC[:, -1].masked_fill_(endless_B.bool(), -torch.inf)
        code_C = torch.arange(logits_BC.shape[1], device=self.device)
        logits_BC.masked_fill_(code_C < least_B.unsqueeze(1), -torch.inf)
        code_B = invert(cumulative(logits_BC, self._sampling), uniform_B)
        return code_B.cpu().numpy()[lanes.lane].astype(np.int32)

    def _spread(self, lane: np.ndarray, values: np.ndarray) -> Tensor:
        full = np.zeros(self.batch, values.dtype)
        full[lane] = values
        return torch.from_numpy(full).to(self.device)

    def _network(self, x_BH: Tensor, position_B: Tensor) -> Tensor:
        w, every = self.weights, torch.arange(self.batch, device=self.device)
        seen_BT = torch.arange(self.capacity, device=self.device) <= position_B.unsqueeze(1)
        split = (self.batch, -1, w.heads, w.hidden // w.heads)
        for block, cache in zip(self._blocks, self._cache, strict=True):
            qkv = self._norm(x_BH, block["norm1_w"], block.get("norm1_b")) @ block["qkv"].t()
            q, new_k, new_v = qkv.split(w.hidden, 1)
            cache[0, every, position_B], cache[1, every, position_B] = new_k, new_v
            q, k, v = (y.view(split).transpose(1, 2) for y in (q, *cache))
            context = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen_BT[:, None, None])
            x_BH = torch.addmm(x_BH, context.reshape(self.batch, w.hidden), block["proj"].t())
            inner = self._norm(x_BH, block["norm2_w"], block.get("norm2_b")) @ block["fc1"].t()
            inner = functional.gelu(inner) if w.act == "gelu" else functional.relu(inner).square()
            x_BH = torch.addmm(x_BH, inner, block["fc2"].t())
        return self._norm(x_BH, *self._final)

    def _norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        if self.weights.rms:
            return functional.rms_norm(x, (self.weights.hidden,), weight, self.weights.eps)
        return functional.layer_norm(x, (self.weights.hidden,), weight, bias, self.weights.eps)
