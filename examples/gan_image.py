"""Images drawn by a generator that a discriminator judges (as in Leduc and Grislain 2021), as a column type
of your own: a context and noise enter, an image leaves in one go.

A GAN has no likelihood: the column can be trained and drawn, given other columns or as their condition, but
not scored, and training goes on to its last step. The package's own `image` has one and is the better choice
where that matters; this one draws large images at once.

Two networks that learn against each other want little momentum: train with optim.adam_beta1=0.5
optim.lr=1e-3.

Importing this file registers it; then `feature: gan_image` in the schema, or Schema overrides
{"picture": {"feature": "gan_image"}}.
"""

from typing import ClassVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from nemo_tabular.codecs import ArrayCodec
from nemo_tabular.features import Draw, Feature
from nemo_tabular.features.image import ImageEncoder, ImageFeature, image_levels
from nemo_tabular.schema import Column

STEEPNESS = 0.5
"""Price of the slope of the judge's verdict at real images (Mescheder et al. 2018)."""


class Discriminator(nn.Module):
    """(N,) logits that an image is real, given its context."""

    def __init__(self, rows: int, columns: int, hidden: int, channels: int) -> None:
        super().__init__()
        self.look, self.know = (
            ImageEncoder(rows, columns, 4 * channels, channels),
            nn.Linear(hidden, 4 * channels),
        )
        self.judge = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(4 * channels, 1))

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        seen, known = self.look(image), self.know(context)
        return (self.judge(seen + known) + (seen * known).mean(1, keepdim=True)).squeeze(1)


class Generator(nn.Module):
    """Images (N, rows, columns) between -1 and 1."""

    def __init__(self, rows: int, columns: int, hidden: int, noise: int, width: int) -> None:
        super().__init__()
        self.shape, self.noise = (rows, columns), noise
        self.net = nn.Sequential(
            nn.Linear(hidden + noise, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, rows * columns), nn.Tanh(),
        )  # fmt: skip

    def forward(self, context: Tensor, noise: Tensor) -> Tensor:
        return self.net(torch.cat([context, noise.to(context)], 1)).view(-1, *self.shape)


class GanImageFeature(Feature):
    """Options: channels (16) of the discriminator, noise (16) numbers and width (128) of the generator."""

    name: ClassVar[str] = "gan_image"
    reads: ClassVar[str] = "array"
    exact: ClassVar[bool] = False
    codec: ArrayCodec

    def __init__(self, codec: ArrayCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        asked, self.levels = self.settings(channels=16, noise=16, width=128), image_levels(codec)
        size = self.rows, self.columns = codec.shape[0], int(np.prod(codec.shape[1:]))
        self.encoder = ImageEncoder(*size, hidden_size, asked["channels"])
        generator = Generator(*size, hidden_size, asked["noise"], asked["width"])
        judge = Discriminator(*size, hidden_size, asked["channels"])
        self.decoder = nn.ModuleDict({"generator": generator, "judge": judge})

    def _scaled(self, cells: Tensor) -> Tensor:
        return cells.reshape(len(cells), self.rows, self.columns).float() * (2 / (self.levels - 1)) - 1

    def encode(self, cells: Tensor) -> Tensor:
        return self.encoder(self._scaled(cells))

    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        """What the judge gets wrong, and what the generator does not get past it, in one backward pass: each
        side's loss sees the other's parameters as constants."""
        real, generator, judge = self._scaled(cells), self.decoder["generator"], self.decoder["judge"]
        fake, told = generator(context, self._noise(cells)), context.detach()
        real.requires_grad_(torch.is_grad_enabled())
        genuine = judge(real, told)
        judged = functional.softplus(-genuine) + functional.softplus(judge(fake.detach(), told))
        if torch.is_grad_enabled():  # a judge whose verdict is steep leads the generator astray (R1)
            (slope,) = torch.autograd.grad(genuine.sum(), real, create_graph=True)
            judged = judged + STEEPNESS * slope.flatten(1).square().sum(1)
        constants = {name: parameter.detach() for name, parameter in judge.named_parameters()}
        return judged + functional.softplus(-functional_call(judge, constants, (fake, told)))

    def _noise(self, cells: Tensor) -> Tensor:
        """From the cells themselves: a run that resumes, and ranks that share the work, draw the same."""
        generator = torch.Generator().manual_seed(int(cells.long().sum()) * 4096 + len(cells))
        return torch.randn(len(cells), self.decoder["generator"].noise, generator=generator)

    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        generator = self.decoder["generator"]
        images = generator(context, draw.normal(generator.noise) * draw.sampling.temperature)
        cells = ((images + 1) * ((self.levels - 1) / 2)).round()
        return cells.to(getattr(torch, self.codec.dtype.name)).reshape(-1, *self.codec.shape)

    @classmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        column, cells = ImageFeature.example(rows, seed)
        return Column(column.name, "image", column.type, "array", feature=cls.name, shape=(2, 3),
                      options={"levels": 3}), cells  # fmt: skip
