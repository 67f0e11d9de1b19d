"""Short series: a recurrent network reads their numbers, and another writes them, one after another, each
from a mixture of Gaussians; where series differ in length, with a probability that the series ends.

A series of several numbers a step (steps, numbers) is read as one after another. Shapes: N series, T numbers,
K components."""

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
from .gaussians import Support, log_prob, sample


class Standard:
    """An array column's numbers as deviations from their means, and back."""

    def __init__(self, codec: ArrayCodec) -> None:
        self.codec = codec
        self.center, self.scale = (torch.tensor(x, dtype=torch.float64) for x in (codec.center, codec.scale))
        ends = np.array([codec.low, codec.high]) + np.array([-0.5, 0.5]) * (
            codec.step or 1e-4 * min(codec.scale)
        )
        self.low, self.high = ((float(end) - self.center) / self.scale for end in ends)
        self.log_scale = 0.0 if codec.step else self.scale.log().sum()

    def __call__(self, numbers: Tensor) -> Tensor:
        """fp32 (N, T) of cells (N, T)."""
        on = numbers.device
        return ((numbers.double() - self.center.to(on)) / self.scale.to(on)).float()

    def support(self, device: torch.device, number: int | slice = slice(None)) -> Support:
        """Of all numbers of a cell, or of one."""
        parts = self.low, self.high, self.codec.step / self.scale
        return Support(*(x[number if len(x) > 1 else 0].float().to(device) for x in parts))

    def back(self, z: Tensor, number: int) -> Tensor:
        """float64 numbers of the column's own steps and range, from drawn deviations (N,)."""
        k, codec = (number if len(self.center) > 1 else 0), self.codec
        x = z.double() * self.scale[k] + self.center[k]
        x = (x / codec.step).round() * codec.step if codec.step else x
        return x.clamp(codec.low, codec.high)

    def cells(self, numbers: Tensor) -> Tensor:
        """The column's own type, of float64 (N, T); within its range after rounding too."""
        kept = numbers.numpy().astype(self.codec.dtype)
        return torch.from_numpy(kept.reshape(-1, *self.codec.shape))


class SeriesEncoder(nn.Module):
    def __init__(self, hidden: int, width: int) -> None:
        super().__init__()
        self.reader, self.out = nn.GRU(1, width, batch_first=True), nn.Linear(width, hidden)

    def forward(self, z: Tensor, lengths: Tensor) -> Tensor:
        states, _ = self.reader(functional.pad(z, (1, 0)).unsqueeze(2))
        return self.out(states[torch.arange(len(z), device=z.device), lengths])


class SeriesDecoder(nn.Module):
    """Parameters of the next number, and the logit of the end, from the numbers before."""

    def __init__(self, hidden: int, width: int, components: int) -> None:
        super().__init__()
        self.start, self.writer = nn.Linear(hidden, width), nn.GRU(2, width, batch_first=True)
        self.out = nn.Linear(width, 3 * components + 1)
        with torch.no_grad():  # components begin apart from each other
            self.out.bias[components : 2 * components] = torch.linspace(-2, 2, components)

    def begin(self, context: Tensor) -> Tensor:
        return self.start(context).tanh().unsqueeze(0)

    def forward(self, before: Tensor, place: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each place (T,), a share of the longest: parameters (N, T, 3 K), logits (N, T), the state."""
        states, state = self.writer(torch.stack([before, place.expand_as(before)], 2), state)
        found = self.out(states)
        return found[..., :-1], found[..., -1], state


class SeriesFeature(Feature):
    """Options: width (64) of the networks, components (8) of a number's mixture, and the codec's range."""

    name: ClassVar[str] = "series"
    reads: ClassVar[str] = "array"
    codec: ArrayCodec

    def __init__(self, codec: ArrayCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        asked = self.settings(width=64, components=8)
        self.standard, self.longest = Standard(codec), codec.longest
        self.encoder = SeriesEncoder(hidden_size, asked["width"])
        self.decoder = SeriesDecoder(hidden_size, asked["width"], asked["components"])

    def _read(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """Deviations (N, T), 0 after the end, and lengths (N,)."""
        z = self.standard(cells.flatten(1))
        return z.nan_to_num(0.0), (~z.isnan()).sum(1)

    def encode(self, cells: Tensor) -> Tensor:
        assert self.encoder is not None
        return self.encoder(*self._read(cells))

    def _places(self, count: int, device: torch.device, first: int = 0) -> Tensor:
        return torch.arange(first, first + count, device=device) / self.longest

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        decoder, (z, lengths) = self.decoder, self._read(cells)
        assert isinstance(decoder, SeriesDecoder)
        count = z.shape[1]
        before = functional.pad(z, (1, 0))  # one place more: where the series ends
        parameters, ends, _ = decoder(before, self._places(count + 1, z.device), decoder.begin(context))
        place = torch.arange(count + 1, device=z.device)
        there = place[:-1] < lengths.unsqueeze(1)
        nats = -log_prob(parameters[:, :-1], z, self.standard.support(z.device))
        scale = self.standard.log_scale
        if not self.codec.ragged:
            return nats.sum(1) + scale
        told = (place <= lengths.unsqueeze(1)) & self._open(place)
        end = (place == lengths.unsqueeze(1)).float()
        stops = functional.binary_cross_entropy_with_logits(ends, end, reduction="none")
        return torch.where(there, nats + scale, 0.0).sum(1) + torch.where(told, stops, 0.0).sum(1)

    def _open(self, place: Tensor) -> Tensor:
        """Whether a series may end there, and may go on."""
        return (place >= self.codec.shortest) & (place < self.longest)

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        decoder, standard = self.decoder, self.standard
        assert isinstance(decoder, SeriesDecoder)
        state, last = decoder.begin(context), context.new_zeros(len(context), 1)
        gone, numbers = torch.zeros(len(context), dtype=torch.bool), []
        for place in range(self.longest):
            parameters, ends, state = decoder(last, self._places(1, context.device, place), state)
            if self.codec.ragged and place >= self.codec.shortest:
                gone = gone | (draw.uniform()[:, 0] < ends[:, 0].double().sigmoid())
            z = sample(parameters[:, 0], standard.support(context.device, place), draw)
            x = standard.back(z, place)
            last = self._seen(x, place)
            numbers.append(torch.where(gone, torch.nan, x))
            if bool(gone.all()):
                break
        return torch.stack(numbers, 1) if self.codec.ragged else standard.cells(torch.stack(numbers, 1))

    def _seen(self, x: Tensor, place: int) -> Tensor:
        """What is read of a number just written."""
        k = place if len(self.standard.center) > 1 else 0
        return ((x - self.standard.center[k]) / self.standard.scale[k]).float().unsqueeze(1)

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """Two small whole numbers, the second near the first."""
        random = np.random.default_rng(seed)
        first = random.integers(0, 5, rows)
        numbers = np.stack([first, (first + random.integers(0, 2, rows)).clip(0, 4)], 1).astype(np.int16)
        kind = pa.list_(pa.int16(), 2)
        column = Column(
            "path", "series", str(kind), "array", feature=cls.name, shape=(2,), options={"width": 24}
        )
        return column, nested(numbers.reshape(-1), np.full(rows, 2), kind, (2,))
