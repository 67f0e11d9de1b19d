"""Numbers as real numbers: a mixture of Gaussians, within the column's range and at its resolution.

What is missing, not finite or an atom (0 in a column of gains) is a code of the slot, and never comes here.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ..codecs import RealCodec
from ..schema import Column
from .base import Feature
from .draw import Draw
from .gaussians import Support, log_prob, sample

TRIES = 256  # at a number that is no atom


class PiecewiseLinear(nn.Module):
    """How far a number has come through each of the intervals between quantiles (Gorishniy et al. 2022)."""

    edges: Tensor

    def __init__(self, edges: np.ndarray) -> None:
        super().__init__()
        edges = np.unique(np.float32(edges))
        edges = edges if len(edges) > 1 else np.array([edges[0] - 1, edges[0] + 1], np.float32)
        self.register_buffer("edges", torch.from_numpy(edges), persistent=False)
        self.width = len(edges)

    def forward(self, z: Tensor) -> Tensor:
        low, high = self.edges[:-1], self.edges[1:]
        inside = ((z.unsqueeze(-1) - low) / (high - low)).clamp(0, 1)
        return torch.cat([inside, z.clamp(-10, 10).unsqueeze(-1)], -1)


class MixtureFeature(Feature):
    """Options: components (24), and those of the codec: atoms, range."""

    name: ClassVar[str] = "mixture"
    reads: ClassVar[str] = "real"
    codec: RealCodec

    def __init__(self, codec: RealCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        count = self.settings(components=24)["components"]
        quantiles = np.array(codec.quantiles)
        code = PiecewiseLinear(quantiles)
        self.encoder = nn.Sequential(code, nn.Linear(code.width, hidden_size))
        head = nn.Linear(hidden_size, 3 * count)
        width = 2 * hidden_size
        self.decoder = nn.Sequential(
            nn.Linear(hidden_size, width), nn.GELU(), nn.Linear(width, hidden_size), nn.GELU(), head
        )
        means = np.interp((np.arange(count) + 0.5) / count, np.linspace(0, 1, len(quantiles)), quantiles)
        spread = np.maximum(np.gradient(means) if count > 1 else np.ones(1), 0.02)
        with torch.no_grad():  # it begins as the column's own distribution
            head.weight.mul_(0.1)
            head.bias.copy_(torch.from_numpy(np.concatenate([np.zeros(count), means, np.log(spread)])))
        half, self.atoms = codec.step / 2, (np.array(codec.atoms) - codec.center) / codec.scale
        ends = (np.array([codec.low - half, codec.high + half]) - codec.center) / codec.scale
        if not codec.step:  # the end itself has a density too, were there only one value
            ends += np.array([-1e-4, 1e-4])
        self.support = Support(
            *(torch.tensor(x, dtype=torch.float32) for x in (*ends, codec.step / codec.scale))
        )

    def _standard(self, cells: Tensor) -> Tensor:
        return ((cells - self.codec.center) / self.codec.scale).float()

    def encode(self, cells: Tensor) -> Tensor:
        assert self.encoder is not None
        return self.encoder(self._standard(cells))

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        assert self.decoder is not None
        on = context.device
        support = Support(*(x.to(on) for x in (self.support.low, self.support.high, self.support.step)))
        without = torch.tensor(self.atoms, dtype=torch.float32, device=on) if self.codec.step else None
        found = log_prob(self.decoder(context), self._standard(cells), support, without)
        return -found if self.codec.step else -found + float(np.log(self.codec.scale))

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        assert self.decoder is not None
        codec, parameters = self.codec, self.decoder(context)
        cells = self._values(sample(parameters, self.support, draw))
        for _ in range(TRIES if codec.step and codec.atoms else 0):
            again = np.isin(cells, codec.atoms)
            if not again.any():
                break
            cells = np.where(again, self._values(sample(parameters, self.support, draw)), cells)
        return torch.from_numpy(cells)

    def _values(self, z: Tensor) -> np.ndarray:
        codec = self.codec
        cells = codec.center + codec.scale * z.numpy()
        return codec.rounded(cells).clip(codec.low, codec.high)

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """Tenths, two humps, none of them an atom."""
        random = np.random.default_rng(seed)
        x = np.where(random.random(rows) < 0.3, random.normal(-2, 0.5, rows), random.normal(1, 1, rows))
        return Column("number", "float", "double", "real", feature=cls.name), pa.array(np.round(x, 1))
