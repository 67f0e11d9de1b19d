"""Vectors: each number from a mixture of Gaussians that depends on those before it, in one pass of a masked
network (MADE, Germain et al. 2015), so that the density is exact.

Shapes: N vectors, D numbers, K components.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..codecs import ArrayCodec
from ..profile import nested
from ..schema import Column
from .base import Feature
from .draw import Draw
from .gaussians import log_prob, sample
from .series import Standard


class MaskedLinear(nn.Linear):
    """A linear layer without some of its connections."""

    mask: Tensor

    def __init__(self, mask: np.ndarray) -> None:
        """`mask` (outputs, inputs): 1 where there is a connection."""
        super().__init__(*mask.T.shape)
        self.register_buffer("mask", torch.from_numpy(mask.astype(np.float32)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.mask, self.bias)


class VectorDecoder(nn.Module):
    """(N, D, 3 K): the parameters of each number, from the context and the numbers before it."""

    def __init__(self, numbers: int, hidden: int, width: int, components: int) -> None:
        super().__init__()
        width = max(width, numbers)
        inputs, units = (
            np.arange(numbers),
            np.arange(width) % numbers,
        )  # unit u sees the numbers before its own
        outputs = np.repeat(np.arange(numbers), 3 * components)
        self.first = MaskedLinear(units[:, None] > inputs)
        self.second = MaskedLinear(units[:, None] >= units)
        self.out = MaskedLinear(outputs[:, None] >= units)
        self.context = nn.Linear(hidden, 2 * width + 3 * components * numbers)
        self.parts, self.numbers = (width, width, 3 * components * numbers), numbers
        with torch.no_grad():  # components begin apart from each other
            bias = self.out.bias.view(numbers, 3, components)
            bias[:, 1] = torch.linspace(-2, 2, components)
            bias[:, 2] = -0.5

    def forward(self, context: Tensor, z: Tensor) -> Tensor:
        one, two, three = self.context(context).split(self.parts, 1)
        h = functional.gelu(self.first(z) + one)
        h = h + functional.gelu(self.second(h) + two)
        return (self.out(h) + three).view(len(z), self.numbers, -1)


class VectorFeature(Feature):
    """Options: width (128) of the networks, components (8) of a number's mixture, and the codec's range."""

    name: ClassVar[str] = "vector"
    reads: ClassVar[str] = "array"
    codec: ArrayCodec

    def __init__(self, codec: ArrayCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        asked, self.standard = self.settings(width=128, components=8), Standard(codec)
        count, width = codec.longest, asked["width"]
        self.encoder = nn.Sequential(nn.Linear(count, width), nn.GELU(), nn.Linear(width, hidden_size))
        self.decoder = VectorDecoder(count, hidden_size, width, asked["components"])

    def encode(self, cells: Tensor) -> Tensor:
        assert self.encoder is not None
        return self.encoder(self.standard(cells.flatten(1)))

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        assert self.decoder is not None
        z = self.standard(cells.flatten(1))
        nats = -log_prob(self.decoder(context, z), z, self.standard.support(z.device))
        return nats.sum(1) + self.standard.log_scale

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        assert self.decoder is not None
        standard, count = self.standard, self.codec.longest
        z, numbers = context.new_zeros(len(context), count), []
        for k in range(count):
            parameters = self.decoder(context, z)[:, k]
            numbers.append(standard.back(sample(parameters, standard.support(z.device, k), draw), k))
            z[:, k] = ((numbers[-1] - standard.center[k]) / standard.scale[k]).float()
        return standard.cells(torch.stack(numbers, 1))

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """Two numbers that depend on each other."""
        random = np.random.default_rng(seed)
        first = random.choice([-1.0, 1.0], rows) + 0.3 * random.normal(size=rows)
        numbers = np.stack([first, first**2 + 0.3 * random.normal(size=rows)], 1).astype(np.float32)
        kind = pa.list_(pa.float32(), 2)
        column = Column(
            "point", "vector", str(kind), "array", feature=cls.name, shape=(2,), options={"width": 64}
        )
        return column, nested(numbers.reshape(-1), np.full(rows, 2), kind, (2,))
