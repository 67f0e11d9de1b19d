"""Images: a convolutional encoder, and a decoder that writes pixel after pixel, each from those above it and
to its left, so that the likelihood is exact.

Pixels are whole numbers 0 .. levels - 1. Colours are columns of their own: an image (rows, columns, channels)
is read as (rows, columns * channels).

Shapes: N images, C channels of the network, Y rows, X columns, L levels.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..codecs import ArrayCodec
from ..errors import FeatureError
from ..profile import nested
from ..schema import Column
from .base import Feature
from .draw import Draw

REACH = 2  # pixels that one layer looks up, left and right
SKETCH = 8  # planes in which the context draws the image before the pixels are written
POOLED = 4  # rows and columns that the encoder keeps


class PixelDecoder(nn.Module):
    """Two stacks without a blind spot (van den Oord et al. 2016): `above` knows the rows above, `along` the
    pixels to the left as well. No masks: each convolution is shifted until it sees only what came before."""

    def __init__(self, rows: int, columns: int, levels: int, hidden: int, channels: int, layers: int) -> None:
        super().__init__()
        self.sketch = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, SKETCH * rows * columns),
            nn.Unflatten(1, (SKETCH, rows, columns)), nn.Conv2d(SKETCH, channels, 1),
        )  # fmt: skip
        self.context = nn.Linear(hidden, 2 * channels * (layers + 1))
        wide = 2 * REACH + 1
        self.first_above = nn.Conv2d(2, channels, (REACH, wide))
        self.first_along = nn.Conv2d(2, channels, (1, REACH))
        self.above = nn.ModuleList(nn.Conv2d(channels, channels, (2, 3)) for _ in range(layers))
        self.along = nn.ModuleList(nn.Conv2d(channels, channels, (1, REACH + 1)) for _ in range(layers))
        self.across = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(layers + 1))
        self.out = nn.Conv2d(channels, levels, 1)

    def forward(self, context: Tensor, x: Tensor) -> Tensor:
        """Logits (N, L, Y, X) of each pixel of x (N, Y, X), given those before it."""
        sketch, shifts = self.sketch(context), self.shifts(context)
        return self.pixels(x, self.rows_above(x, sketch, shifts), shifts, slice(None))

    def shifts(self, context: Tensor) -> Tensor:
        """What the context adds: (layers + 1, 2, N, C, 1, 1)."""
        shape = len(context), len(self.above) + 1, 2, -1
        return self.context(context).view(*shape).permute(1, 2, 0, 3)[..., None, None]

    def rows_above(self, x: Tensor, sketch: Tensor, shifts: Tensor) -> list[Tensor]:
        """What each layer knows at every pixel: the rows above it, and the sketch that the context makes of
        the whole."""
        seen = functional.pad(_planes(x[:, :-1]), (REACH, REACH, REACH, 0))
        v = self.first_above(seen) + sketch[:, :, : x.shape[1]] + shifts[0, 0]
        known = [v]
        for layer, conv in enumerate(self.above):
            v = v + conv(functional.gelu(functional.pad(v, (1, 1, 1, 0)))) + shifts[layer + 1, 0]
            known.append(v)
        return known

    def pixels(self, x: Tensor, known: list[Tensor], shifts: Tensor, rows: slice) -> Tensor:
        """Logits of these rows, of which `x` are the pixels."""
        h = self.first_along(functional.pad(_planes(x), (REACH, 0))[..., :-1])
        for layer, conv in enumerate([None, *self.along]):
            if conv is not None:
                h = h + conv(functional.gelu(functional.pad(h, (REACH, 0))))
            h = h + self.across[layer](functional.gelu(known[layer][:, :, rows])) + shifts[layer, 1]
        return self.out(functional.gelu(h))


def _planes(x: Tensor) -> Tensor:
    """The pixels, and where the image is: (N, 2, Y, X)."""
    return torch.stack([x, torch.ones_like(x)], 1)


class ImageEncoder(nn.Module):
    """(N, Y, X) -> (N, H)."""

    def __init__(self, rows: int, columns: int, hidden: int, channels: int) -> None:
        super().__init__()
        kept = min(POOLED, -(-rows // 2)), min(POOLED, -(-columns // 2))
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1), nn.GELU(),
            nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1), nn.GELU(),
            nn.AdaptiveAvgPool2d(kept), nn.Flatten(), nn.Linear(2 * channels * kept[0] * kept[1], hidden),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.unsqueeze(1))


class ImageFeature(Feature):
    """Options: channels (32) and layers (3) of the decoder, and the codec's levels."""

    name: ClassVar[str] = "image"
    reads: ClassVar[str] = "array"
    codec: ArrayCodec

    def __init__(self, codec: ArrayCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        self.levels = image_levels(codec)
        asked = self.settings(channels=32, layers=3)
        self.rows, self.columns = codec.shape[0], int(np.prod(codec.shape[1:]))
        self.encoder = ImageEncoder(self.rows, self.columns, hidden_size, asked["channels"])
        size = self.rows, self.columns, self.levels, hidden_size
        self.decoder = PixelDecoder(*size, asked["channels"], asked["layers"])

    def _scaled(self, cells: Tensor) -> Tensor:
        """(N, Y, X) between -1 and 1."""
        return cells.reshape(len(cells), self.rows, self.columns).float() * (2 / (self.levels - 1)) - 1

    def encode(self, cells: Tensor) -> Tensor:
        assert self.encoder is not None
        return self.encoder(self._scaled(cells))

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        assert self.decoder is not None
        target = cells.reshape(len(cells), self.rows, self.columns).long()
        logits = self.decoder(context, self._scaled(cells))
        return functional.cross_entropy(logits, target, reduction="none").flatten(1).sum(1)

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        decoder = self.decoder
        assert isinstance(decoder, PixelDecoder)
        x = context.new_zeros(len(context), self.rows, self.columns)
        sketch, shifts = decoder.sketch(context), decoder.shifts(context)
        for row in range(self.rows):
            known = decoder.rows_above(x[:, : row + 1], sketch, shifts)
            for column in range(self.columns):
                line = decoder.pixels(x[:, row : row + 1], known, shifts, slice(row, row + 1))
                x[:, row, column] = draw.choose(line[:, :, 0, column]).float() * (2 / (self.levels - 1)) - 1
        cells = ((x + 1) * ((self.levels - 1) / 2)).round()
        return cells.to(getattr(torch, self.codec.dtype.name)).reshape(-1, *self.codec.shape)

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """2 by 3 pixels of 3 levels: a bright row and a dark one, with noise."""
        random = np.random.default_rng(seed)
        bright = random.integers(0, 2, (rows, 1, 1)) == np.arange(2)[:, None]
        pixels = np.where(random.random((rows, 2, 3)) < 0.2, random.integers(0, 3, (rows, 2, 3)), 2 * bright)
        kind = pa.list_(pa.list_(pa.uint8(), 3), 2)
        column = Column(
            "picture",
            "image",
            str(kind),
            "array",
            feature=cls.name,
            shape=(2, 3),
            options={"levels": 3, "channels": 8, "layers": 2},
        )
        return column, nested(pixels.astype(np.uint8).reshape(-1), np.full(rows, 6), kind, (2, 3))


def image_levels(codec: ArrayCodec) -> int:
    """Levels of the pixels. FeatureError where they are not whole numbers from 0."""
    if codec.levels is None or codec.levels < 2 or len(codec.shape) < 2:
        raise FeatureError(
            f"column {codec.name!r}: feature {codec.feature!r} reads arrays of two or more dimensions of "
            f"whole numbers 0 .. levels - 1, these are {codec.dtype} of shape {list(codec.shape)} between "
            f"{codec.low:g} and {codec.high:g}; set shape and options: {{levels: 256}}, or kind: vector"
        )
    return codec.levels
