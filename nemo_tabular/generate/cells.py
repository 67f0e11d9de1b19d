"""A CGM's weights and rows of which any cells are known come in; the same rows with the other cells drawn
leave. Each row has an order of its own, so plain batches with a cache of keys and values; where all rows have
one order, sets.py uses the faster decoder of rows.

Shapes: B rows, S slots in the plan's order, T positions, N heads, D head size, H hidden, V ids.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..codecs.bytes import END
from ..features.draw import Draw, Sampling, cumulative, invert
from ..models.dense import Place, encode
from ..models.score import activated, normed
from ..models.weights import SetWeights
from ..uniforms import uniforms

BATCH = 1024  # rows whose keys and values stay near the core


class CellDecoder:
    """Draws cells given cells."""

    def __init__(self, weights: SetWeights) -> None:
        self.weights = weights

    @torch.inference_mode()
    def fill(
        self,
        codes_BS: np.ndarray,
        order_SB: np.ndarray,
        known_B: np.ndarray,
        states_B: np.ndarray,
        bias_V: np.ndarray,
        sampling: Sampling,
        dense: Mapping[str, np.ndarray] | None = None,
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """int64 (B, S): `codes`, but for the slots after the first `known` of each row's order, which are
        drawn with the row's own uniform numbers. And the cells of the dense columns, of which `dense` holds
        those that are known."""
        out_BS = codes_BS.astype(np.int64)
        drawn: dict[str, list[np.ndarray]] = {name: [] for name in dense or {}}
        for start in range(0, len(codes_BS), BATCH):
            part = slice(start, start + BATCH)
            draw = _Fill(self.weights, order_SB[:, part], known_B[part], states_B[part], bias_V, sampling)
            cells = {name: torch.from_numpy(known[part].copy()) for name, known in (dense or {}).items()}
            out_BS[part] = draw(out_BS[part], cells)
            for name, found in cells.items():
                drawn[name].append(found.numpy())
        return out_BS, {name: rows_of(parts) for name, parts in drawn.items()}


def rows_of(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Cells (rows, ...) of several batches; those of different lengths filled up with what ends each."""
    if parts[0].ndim != 2:
        return np.concatenate(parts)
    longest = max(part.shape[1] for part in parts)
    return np.concatenate([_longer(torch.from_numpy(part), longest).numpy() for part in parts])


def _longer(cells: Tensor, length: int) -> Tensor:
    """Ragged cells (rows, L), padded to `length` with their own padding: NaN, or END, which stands last."""
    missing = length - cells.shape[1]
    if missing <= 0:
        return cells
    filler = torch.nan if cells.is_floating_point() else END
    return functional.pad(cells, (0, missing), value=filler)


class _Fill:
    """One batch: all rows advance together, a position at a time."""

    def __init__(
        self,
        weights: SetWeights,
        order_SB: np.ndarray,
        known_B: np.ndarray,
        states_B: np.ndarray,
        bias_V: np.ndarray,
        sampling: Sampling,
    ) -> None:
        self.weights, self.base, self.sampling = weights, weights.base, sampling
        self.order_SB, self.known_B, self.states_B = torch.from_numpy(order_SB), known_B, states_B
        self.bias_V = torch.from_numpy(bias_V)
        slots, rows = order_SB.shape
        heads, size = self.base.heads, self.base.hidden // self.base.heads
        caches = self.base.layers + (weights.cross is not None)
        self.cache = torch.empty(caches, 2, rows, heads, slots, size)
        self.offset_S = torch.tensor(self.base.offsets[:-1])
        self.places = [] if weights.features is None else list(weights.features.places())

    def __call__(self, codes_BS: np.ndarray, cells: dict[str, Tensor]) -> np.ndarray:
        """The codes; `cells` are filled in place."""
        codes = torch.from_numpy(codes_BS)
        last = len(self.order_SB) if (self.known_B < len(self.order_SB)).any() else 0
        x_BH = self.base.begin[:1].expand(len(codes), -1)
        for t in range(last):
            slot_B = self.order_SB[t]
            hidden_BH = self._advance(t, x_BH, self.base.position[slot_B])
            drawn = torch.from_numpy(self.known_B <= t)
            for slot in slot_B[drawn].unique().tolist():
                rows = torch.nonzero(drawn & (slot_B == slot)).squeeze(1)
                codes[rows, slot] = self._draw(slot, hidden_BH[rows], rows.numpy())
            seen_B = codes.gather(1, slot_B.unsqueeze(1)).squeeze(1)
            x_BH = self.base.embedding[seen_B + self.offset_S[slot_B]] + self.weights.column[slot_B]
            for place in self.places:
                there = (slot_B == place.slot) & (codes[:, place.slot] == place.there)
                self._write(place, (there & drawn).nonzero()[:, 0], hidden_BH, cells)
                rows = there.nonzero()[:, 0]
                if len(rows):
                    x_BH = x_BH.index_add(0, rows, encode(place, cells[place.column][rows]))
        return codes.numpy()

    def _write(self, place: Place, rows: Tensor, hidden_BH: Tensor, cells: dict[str, Tensor]) -> None:
        """Draw the cells of these rows."""
        if not len(rows):
            return
        draw = Draw(self.states_B[rows.numpy()], place.slot, self.sampling)
        found, known = place.feature.decode(hidden_BH[rows], draw), cells[place.column]
        if found.dim() == 2:
            length = max(found.shape[1], known.shape[1])
            found, known = _longer(found, length), _longer(known, length)
        known[rows] = found.to(known.dtype)
        cells[place.column] = known

    def _draw(self, slot: int, hidden: Tensor, rows: np.ndarray) -> Tensor:
        ids = slice(self.base.offsets[slot], self.base.offsets[slot + 1])
        logits = torch.addmm(self.bias_V[ids], hidden, self.base.embedding[ids].t())
        uniform = torch.from_numpy(uniforms(self.states_B[rows], slot))
        return invert(cumulative(logits.double(), self.sampling), uniform)

    def _advance(self, t: int, x_BH: Tensor, query_BH: Tensor) -> Tensor:
        """The state that predicts position t, (B, H)."""
        w, cross = self.base, self.weights.cross
        if cross is None:
            return self._blocks(t, x_BH + query_BH)
        states = self._blocks(t, x_BH)
        inner = normed(w, query_BH, cross["query_norm_w"], cross.get("query_norm_b"))
        q, k, v = inner @ cross["q"].t(), states @ cross["k"].t(), states @ cross["v"].t()
        out = query_BH + self._attend(t, -1, q, k, v) @ cross["proj"].t()
        return normed(w, out, cross["final_w"], cross.get("final_b"))

    def _blocks(self, t: int, x_BH: Tensor) -> Tensor:
        w = self.base
        for layer, block in enumerate(w.blocks):
            qkv = normed(w, x_BH, block["norm1_w"], block.get("norm1_b")) @ block["qkv"].t()
            x_BH = torch.addmm(x_BH, self._attend(t, layer, *qkv.split(w.hidden, 1)), block["proj"].t())
            inner = activated(w, normed(w, x_BH, block["norm2_w"], block.get("norm2_b")) @ block["fc1"].t())
            x_BH = torch.addmm(x_BH, inner, block["fc2"].t())
        return normed(w, x_BH, w.final_w, w.final_b)

    def _attend(self, t: int, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        shape = (len(q), self.base.heads, 1, -1)
        keys, values = self.cache[layer]
        keys[:, :, t], values[:, :, t] = k.view(shape).squeeze(2), v.view(shape).squeeze(2)
        return functional.scaled_dot_product_attention(
            q.view(shape), keys[:, :, : t + 1], values[:, :, : t + 1]
        ).flatten(1)
