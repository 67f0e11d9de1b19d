"""What a column type is: cells of one column enter and a vector for each leaves; a vector that the other
columns made enters, and the cell's loss leaves, or a cell.

The CGM owns everything between columns: which are seen first, which are there, the embedding that says which
column a vector is of. A column type owns everything within its column's cells, and never sees another one.

    seen:      cell --encode--> (H,) + embedding of the column --> transformer --> context (H,) of the next
    predicted: context --loss--> nats of the cell that is there;  context --decode--> a cell

Token columns (categories, value codes, digits, dates, short texts) fit the same picture and have no class
here, because one table serves all of them at once, which is what makes them fast: `encode` is a row of the
embedding table, loss is a softmax over the slot's rows of the same table (models/head.py: tied), and a column
of several slots (digits) is encoded, scored and drawn slot by slot, each given those before it.
`CategoryFeature` in tests/features writes that out as a column type, and the oracle holds it to the same
promises.

A dense column has one slot too. Its code says: missing, an atom, or "there", and only cells that are "there"
come to the column type; so a class below knows nothing of missing values.

Write your own: docs/features.md. Check it: `nemo_tabular.testing.check_feature(MyType)`.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, ClassVar

import pyarrow as pa
import torch
from torch import Tensor

from ..codecs import DenseCodec
from ..errors import FeatureError, nearest
from ..schema import Column
from .draw import Draw

GROUP = "nemo_tabular.features"
"""Entry points of this group are column types of other packages; importing one registers it."""
FEATURES: dict[str, type["Feature"]] = {}
"""Registry: every subclass that names itself enters itself."""
SHIPPED = {name: f"nemo_tabular.features.{name}" for name in ("mixture", "image", "text", "series", "vector")}


class Feature(torch.nn.Module, ABC):
    """The network of one column. Shapes: N cells, H the model's hidden size.

    What `encode` needs stands in `encoder`, what `loss` and `decode` need in `decoder`: a pipeline's first
    stage has the one, its last the other. What is fitted to the table stands in the codec; parameters are
    fp32."""

    name: ClassVar[str]
    exact: ClassVar[bool] = True
    """Whether `loss` is the negative log-likelihood in nats: of a value where values are discrete, of the
    density per unit of the column where they are a continuum. Where not (a GAN), the column can be trained
    and drawn, but not scored; it does not count in validation, which then does not stop the training."""
    reads: ClassVar[str]
    """How its cells are laid out: array (kinds vector, series, image), real (numbers), bytes (texts)."""

    encoder: torch.nn.Module | None
    decoder: torch.nn.Module | None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            FEATURES[cls.name] = cls

    def __init__(self, codec: Any, hidden_size: int) -> None:
        """`codec`: what is known of the column's cells, the codec that its kind has: ArrayCodec (shape,
        levels, low, high, step, center, scale), RealCodec or BytesCodec; its `options` are those of the
        schema."""
        super().__init__()
        self.codec, self.hidden_size = codec, hidden_size

    @abstractmethod
    def encode(self, cells: Tensor) -> Tensor:
        """(N, H) of cells (N, ...), which come as `codec.padded` gives them."""

    @abstractmethod
    def loss(self, context: Tensor, cells: Tensor) -> Tensor:
        """(N,): of each cell, given its context (N, H), fp32."""

    @abstractmethod
    def decode(self, context: Tensor, draw: Draw) -> Tensor:
        """Cells (N, ...), as `codec.padded` gives them, within the column's domain. All randomness is from
        `draw`, which also says how boldly: `draw.sampling`."""

    @classmethod
    @abstractmethod
    def example(cls, rows: int, seed: int) -> tuple[Column, pa.Array]:
        """A small column of this type and cells for it, for the oracle: few enough values to sum over, if it
        can be."""

    def settings(self, **defaults: Any) -> dict[str, Any]:
        """The column's options over these defaults. FeatureError for an option that is not among them."""
        given: Mapping[str, Any] = self.codec.options
        for name in given:
            if name not in defaults:
                known = list(defaults)
                raise FeatureError(
                    f"column {self.codec.name!r}: feature {self.name!r} has no option {name!r}"
                    f"{nearest(name, known)}; it has {', '.join(known) or 'none'}"
                )
        return defaults | dict(given)


def find_feature(name: str, column: str) -> type[Feature]:
    """The column type of this name: shipped, registered, or of an installed package. FeatureError where there
    is none."""
    if name not in FEATURES and name in SHIPPED:
        import_module(SHIPPED[name])
    if name in FEATURES:
        return FEATURES[name]
    found = {point.name: point for point in entry_points(group=GROUP)}
    if name in found:
        found[name].load()
    if name not in FEATURES:
        known = sorted({*FEATURES, *SHIPPED, *found})
        raise FeatureError(
            f"column {column!r}: there is no feature {name!r}{nearest(name, known)}; there are "
            f"{', '.join(known)}. Import the module that defines it first, or install a package with the "
            f"entry point {GROUP}"
        )
    return FEATURES[name]


def build_feature(codec: DenseCodec, hidden_size: int, seed: int = 0) -> Feature:
    """The network of a column, with initial weights that follow from the seed and the column's name alone."""
    kind = find_feature(codec.feature, codec.name)
    if codec.codec != kind.reads:
        raise FeatureError(
            f"column {codec.name!r}: feature {codec.feature!r} reads cells of layout {kind.reads}, the "
            f"column's are {codec.codec}; choose another feature, or another kind"
        )
    digest = hashlib.sha256(f"{seed}/features/{codec.name}".encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(digest[:7], "little"))
        feature = kind(codec, hidden_size)
    stray = [n for n, _ in feature.named_parameters() if not n.startswith(("encoder.", "decoder."))]
    if stray:
        raise FeatureError(
            f"column {codec.name!r}: feature {kind.name!r} keeps parameters outside encoder and decoder: "
            f"{stray[0]}; put them into one of the two, which may be on different ranks"
        )
    return feature
