"""The parameters of a trained GPT enter as plain tensors under plain names; all that a decoder knows of it
leaves. No layer, no framework and no parallel layout: one process can decode what 512 ranks have trained.

Shapes: S slots of a row, V ids, H hidden, F width of the MLP, R rows of a window.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError
from .dense import Features

ACTIVATIONS = ("squared-relu", "gelu")


@dataclass(frozen=True)
class DecoderWeights:
    """What decoding needs of a model. Slots stand in the model's order of columns throughout.

    Raises CheckpointError, naming the tensor, where shapes do not fit each other.
    """

    hidden: int
    heads: int
    sizes: Sequence[int]
    """Codes of each slot; for a model of histories the last code of slot 0 is the end of the document."""
    embedding: Tensor
    """(V, H): slot s owns the rows offsets[s]:offsets[s + 1]; also the output layer."""
    position: Tensor
    """(S, H): added to the input that predicts slot s."""
    begin: Tensor
    """(1, H), or (2, H) for histories: input before the first slot; row 1 begins a window that continues a
    document."""
    bias: Tensor
    """(V,): of the output layer."""
    blocks: Sequence[Mapping[str, Tensor]]
    """One a layer: qkv (3H, H) with rows [q|k|v][head][dim], proj (H, H), fc1 (F, H), fc2 (H, F), norm1_w,
    norm1_b, norm2_w, norm2_b (H,). Norms stand before attention and before the MLP; the linear layers have no
    biases."""
    final_w: Tensor
    final_b: Tensor | None
    """None, as norm1_b and norm2_b, where there is none (RMSNorm)."""
    act: str = "squared-relu"
    """squared-relu or gelu (the exact one)."""
    rms: bool = False
    """RMSNorm instead of LayerNorm."""
    eps: float = 1e-5
    """Of the norms."""
    row_position: Tensor | None = None
    """Histories only, (R + 1, H): added to every position of the window's r-th row."""
    histories: bool = False
    """Documents of many rows, with an end."""

    def __post_init__(self) -> None:
        if self.act not in ACTIVATIONS:
            raise CheckpointError(
                f"activation {self.act!r} is unknown to the decoder: expected one of {ACTIVATIONS}"
            )
        if self.hidden % self.heads:
            raise CheckpointError(f"{self.heads} heads do not divide the hidden size {self.hidden}")
        for name, tensor, shape in self._expected():
            if tensor is None:
                raise CheckpointError(
                    f"decoder weights: {name} is missing, expected a tensor of shape {shape}"
                )
            if tuple(tensor.shape) != shape:
                raise CheckpointError(
                    f"decoder weights: {name} has shape {tuple(tensor.shape)}, expected {shape}"
                )

    def _expected(self) -> list[tuple[str, Tensor | None, tuple[int, ...]]]:
        h, vocab, slots = self.hidden, sum(self.sizes), len(self.sizes)
        norm: dict[str, tuple[int, ...]] = {"w": (h,)} if self.rms else {"w": (h,), "b": (h,)}
        out: list[tuple[str, Tensor | None, tuple[int, ...]]] = [
            ("embedding", self.embedding, (vocab, h)),
            ("position", self.position, (slots, h)),
            ("begin", self.begin, (2 if self.histories else 1, h)),
            ("bias", self.bias, (vocab,)),
            *((f"final_{k}", getattr(self, f"final_{k}"), shape) for k, shape in norm.items()),
        ]
        if self.histories:
            out.append(("row_position", self.row_position, (self.max_rows + 1, h)))
        for i, block in enumerate(self.blocks):
            width = block["fc1"].shape[0]
            wanted: dict[str, tuple[int, ...]] = {
                "qkv": (3 * h, h),
                "proj": (h, h),
                "fc1": (width, h),
                "fc2": (h, width),
            }
            wanted |= {f"norm{n}_{k}": shape for n in (1, 2) for k, shape in norm.items()}
            out += [(f"blocks[{i}].{k}", block.get(k), shape) for k, shape in wanted.items()]
        return out

    def to(self, device: torch.device | str) -> "DecoderWeights":
        """The same on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        blocks = [{name: tensor.to(device) for name, tensor in block.items()} for block in self.blocks]
        return replace(self, blocks=blocks, **moved)

    @property
    def layers(self) -> int:
        """Transformer blocks."""
        return len(self.blocks)

    @property
    def slots(self) -> int:
        """Modelled slots of one row."""
        return len(self.sizes)

    @property
    def offsets(self) -> list[int]:
        """Where each slot's rows of the embedding begin, and the end: S + 1 ints."""
        return [0, *accumulate(self.sizes)]

    @property
    def max_rows(self) -> int:
        """Rows of one window: 1 for a model of rows."""
        return 1 if self.row_position is None else len(self.row_position) - 1


@dataclass(frozen=True)
class SetWeights:
    """What decoding needs of a CGM."""

    base: DecoderWeights
    """Slots in the plan's order; `position` holds the queries of the slots."""
    column: Tensor
    """(S, H): added to the value of each slot where it is seen."""
    cross: Mapping[str, Tensor] | None = None
    """Of `query: cross_attention`: q, k, v, proj (H, H), query_norm_w, final_w (H,), and with LayerNorm
    query_norm_b, final_b (H,)."""
    features: Features | None = None
    """The column types of the dense columns."""

    def ordered(self, slots: Sequence[int]) -> DecoderWeights:
        """The GPT of rows that have these slots in this order: one order is all that tells the two apart."""
        assert self.cross is None and self.features is None, "only the additive query is a GPT in one order"
        base, offsets = self.base, self.base.offsets
        ids = torch.cat([torch.arange(offsets[s], offsets[s + 1]) for s in slots])
        position = base.position[list(slots)]
        position[1:] += self.column[list(slots[:-1])]
        return replace(
            base,
            sizes=[base.sizes[s] for s in slots],
            embedding=base.embedding[ids],
            position=position,
            bias=base.bias[ids],
        )
