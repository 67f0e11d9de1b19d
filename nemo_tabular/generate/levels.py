"""A tile of rows comes in as numbers; their codes leave, made level by level with torch operations.
The decoder for GPUs, for bf16 networks, and for machines without a C compiler; compiled.py is the fast one
for CPUs.

A level's nodes are the distinct prefixes of the tile's rows so far: each is computed once, however many rows
share it, and each row then draws its own code. Nodes stand in the order of their prefixes, so a node's rows
lie side by side.

The same numbers at every tile size: matrix products are always of CHUNK rows, the last padded, because the
kernel that BLAS picks, and with it the last bits of the result, depends on the number of rows.

Shapes: N rows of the tile, U nodes of a level, M nodes of a chunk, T slots so far, H hidden, C codes of the
slot in hand.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..features.draw import Sampling, cumulative, invert
from ..models.weights import DecoderWeights
from ..uniforms import row_states, uniforms
from .constraints import Draw

CHUNK = 512  # a chunk's activations fit a core's second-level cache at 64 wide
CUDA_CHUNK = 16_384  # enough rows to fill a GPU
SMALLEST_CHUNK = 16
GATHERED_FLOATS = 1 << 22  # a chunk's keys and values, gathered from all its ancestors: 16 MB
CUDA_GATHERED_FLOATS = 1 << 28
CACHED_FLOATS = 1 << 27  # a tile's keys and values, were no prefix shared: 512 MB
CUDA_CACHED_FLOATS = 1 << 31
LARGEST_TILE = 1 << 17
HEAD_CELLS = 1 << 21  # logits at a time: 16 MB as float64


class LevelDecoder:
    """The trie of a tile, breadth first."""

    def __init__(
        self, weights: DecoderWeights, dtype: torch.dtype, device: torch.device, share: bool
    ) -> None:
        self.weights, self.dtype, self.device, self.share = weights, dtype, device, share
        cuda = device.type == "cuda"
        self.chunk, floats = (CUDA_CHUNK, CUDA_GATHERED_FLOATS) if cuda else (CHUNK, GATHERED_FLOATS)
        while self.chunk > SMALLEST_CHUNK and self.chunk * weights.slots * 2 * weights.hidden > floats:
            self.chunk //= 2
        row = weights.slots * weights.layers * 2 * weights.hidden
        fit = (CUDA_CACHED_FLOATS if cuda else CACHED_FLOATS) // row
        self.tile = max(self.chunk, min(fit, LARGEST_TILE) // self.chunk * self.chunk)
        self.offsets = weights.offsets
        self.head_VH = weights.embedding.detach().to(device, torch.float32)
        self.embedding_VH = self.head_VH.to(dtype)
        self.position_SH = weights.position.detach().to(device, dtype)
        self.begin_1H = weights.begin[:1].detach().to(device, dtype)
        self.blocks = [
            {k: v.detach().to(device, dtype) for k, v in b.items() if v is not None} for b in weights.blocks
        ]
        self.final = [
            None if x is None else x.detach().to(device, dtype) for x in (weights.final_w, weights.final_b)
        ]

    @torch.inference_mode()
    def sample(self, rows: int, draw: Draw) -> tuple[np.ndarray, int]:
        """Codes, int32 (rows, slots), and the number of prefixes computed for them."""
        slots, nodes = self.weights.slots, 0
        out_SN = torch.empty(slots, rows, dtype=torch.int32, device=self.device)
        states_N = row_states(draw.seed, draw.first_row, rows)
        order_N = torch.arange(rows, device=self.device)  # rows, those of one node side by side
        node_N = torch.zeros_like(order_N) if self.share else order_N  # the node of each
        count = 1 if self.share else rows
        ancestors_TU = torch.empty(0, count, dtype=torch.int64, device=self.device)
        inputs_U = None
        bias_V = torch.from_numpy(draw.bias).to(self.device)
        cache: list[list[Tensor]] = [[] for _ in self.blocks]
        for slot in range(slots):
            nodes += count
            drawn = slot >= draw.given.shape[1]
            level = self._level(slot, count, inputs_U, ancestors_TU, cache)
            if drawn:
                uniform_N = torch.from_numpy(uniforms(states_N, slot)).to(self.device)[order_N]
                code_N = self._codes(slot, level, node_N, uniform_N, bias_V, draw.sampling)
            else:
                given = torch.from_numpy(draw.given[:, slot].astype(np.int64)).to(self.device)
                code_N = given[(order_N + draw.first_row) % len(given)]
            out_SN[slot, order_N] = code_N.int()
            if slot == slots - 1:
                break
            order_N, node_N, parent_U, code_U = self._children(
                order_N, node_N, code_N, self.weights.sizes[slot]
            )
            count = len(parent_U)
            ancestors_TU = torch.cat([ancestors_TU[:, parent_U], parent_U.unsqueeze(0)])
            inputs_U = code_U + self.offsets[slot]
        return out_SN.T.contiguous().cpu().numpy(), nodes

    def _children(
        self, order_N: Tensor, node_N: Tensor, code_N: Tensor, size: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rows in the order of their longer prefixes, the node of each, and each node's parent and code."""
        if not self.share:
            return order_N, node_N, node_N, code_N
        key_N, rank_N = (node_N * size + code_N).sort(stable=True)
        first_N = torch.ones_like(key_N, dtype=torch.bool)
        first_N[1:] = key_N[1:] != key_N[:-1]
        key_U = key_N[first_N]
        return order_N[rank_N], first_N.cumsum(0) - 1, key_U // size, key_U % size

    def _level(
        self, slot: int, count: int, inputs_U: Tensor | None, ancestors_TU: Tensor, cache: list[list[Tensor]]
    ) -> Tensor:
        """Hidden states (U, H) of one level's nodes, whose keys and values join the cache."""
        padded = -(-count // self.chunk) * self.chunk
        width = self.weights.hidden
        for level in cache:
            level.append(torch.empty(padded, 2 * width, dtype=self.dtype, device=self.device))
        if inputs_U is None:
            x_UH = self.begin_1H.expand(padded, width)
        else:
            x_UH = self.embedding_VH[functional.pad(inputs_U, (0, padded - count))]
        x_UH = x_UH + self.position_SH[slot]
        ancestors_TU = functional.pad(ancestors_TU, (0, padded - count))
        out_UH = torch.empty(padded, width, dtype=torch.float32, device=self.device)
        for start in range(0, padded, self.chunk):
            part = slice(start, start + self.chunk)
            out_UH[part] = self._blocks(x_UH[part], part, ancestors_TU[:, part], cache)
        return out_UH

    def _blocks(self, x_MH: Tensor, part: slice, ancestors_TM: Tensor, cache: list[list[Tensor]]) -> Tensor:
        width = self.weights.hidden
        for block, levels in zip(self.blocks, cache, strict=True):
            qkv = self._norm(x_MH, block["norm1_w"], block.get("norm1_b")) @ block["qkv"].t()
            levels[-1][part] = qkv[:, width:]
            past = [
                level.index_select(0, index) for level, index in zip(levels[:-1], ancestors_TM, strict=True)
            ]
            kv = torch.stack([*past, qkv[:, width:]], 1)
            x_MH = torch.addmm(x_MH, self._attention(qkv[:, :width], kv), block["proj"].t())
            inner = self._norm(x_MH, block["norm2_w"], block.get("norm2_b")) @ block["fc1"].t()
            inner = (
                functional.gelu(inner) if self.weights.act == "gelu" else functional.relu_(inner).square_()
            )
            x_MH = torch.addmm(x_MH, inner, block["fc2"].t())
        return self._norm(x_MH, *self.final)

    def _attention(self, q_MH: Tensor, kv_MTH: Tensor) -> Tensor:
        """Attention of one query a node over its T keys; scaled by the root of the head's width."""
        nodes, slots = kv_MTH.shape[:2]
        heads, width = self.weights.heads, self.weights.hidden
        q = q_MH.view(nodes, heads, 1, -1)
        k, v = (x.view(nodes, slots, heads, -1).transpose(1, 2) for x in kv_MTH.split(width, 2))
        return functional.scaled_dot_product_attention(q, k, v).reshape(nodes, width)

    def _norm(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        shape = (self.weights.hidden,)
        if self.weights.rms:
            return functional.rms_norm(x, shape, weight, self.weights.eps)
        return functional.layer_norm(x, shape, weight, bias, self.weights.eps)

    def _codes(
        self,
        slot: int,
        hidden_UH: Tensor,
        node_N: Tensor,
        uniform_N: Tensor,
        bias_V: Tensor,
        sampling: Sampling,
    ) -> Tensor:
        """One code a row, by inverting its node's cumulative distribution at the row's uniform number."""
        ids = slice(self.offsets[slot], self.offsets[slot + 1])
        size = self.weights.sizes[slot]
        step = self.chunk
        while step > 16 and step * size > HEAD_CELLS:
            step //= 2
        starts = list(range(0, len(hidden_UH), step))
        edges = torch.searchsorted(
            node_N, torch.tensor([*starts, len(hidden_UH)], device=self.device)
        ).tolist()
        out_N = torch.empty_like(node_N)
        for start, low, high in zip(starts, edges[:-1], edges[1:], strict=True):
            if low == high:
                continue
            logits = torch.addmm(bias_V[ids], hidden_UH[start : start + step], self.head_VH[ids].t())
            cdf_MC = cumulative(logits.double(), sampling)
            for at in range(low, high, max(1, HEAD_CELLS // size)):
                part = slice(at, min(high, at + max(1, HEAD_CELLS // size)))
                out_N[part] = invert(cdf_MC[node_N[part] - start], uniform_N[part])
        return out_N
