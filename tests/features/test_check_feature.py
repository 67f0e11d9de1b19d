"""Every column type keeps its promises; and the oracle finds those that do not."""

import pyarrow as pa
import pytest
import torch
from torch import nn
from torch.nn import functional

from nemo_tabular.codecs import ArrayCodec
from nemo_tabular.errors import FeatureError
from nemo_tabular.features import Feature, find_feature
from nemo_tabular.features.mixture import MixtureFeature
from nemo_tabular.schema import Column
from nemo_tabular.testing import check_feature

SHIPPED = ("mixture", "image", "text", "series", "vector")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_column_types_keep_their_promises(name):
    check_feature(find_feature(name, "column"))


class CategoryFeature(Feature):
    """A token column as a column type: one table both ways, as the slot head has it."""

    name, reads = "category_by_hand", "array"

    def __init__(self, codec: ArrayCodec, hidden_size: int) -> None:
        super().__init__(codec, hidden_size)
        self.encoder = nn.Embedding(codec.levels, hidden_size)
        self.decoder = nn.Linear(hidden_size, codec.levels)

    def encode(self, cells):
        return self.encoder(cells[:, 0].long())

    def loss(self, context, cells):
        return functional.cross_entropy(self.decoder(context), cells[:, 0].long(), reduction="none")

    def decode(self, context, draw):
        return draw.choose(self.decoder(context)).to(torch.uint8).unsqueeze(1)

    @classmethod
    def example(cls, rows, seed):
        codes = torch.randint(0, 5, (rows, 1), generator=torch.Generator().manual_seed(seed)).tolist()
        kind = pa.list_(pa.uint8(), 1)
        return Column("kind", "vector", str(kind), "array", feature=cls.name, shape=(1,)), pa.array(
            codes, kind
        )


def test_a_category_keeps_the_promises_too():
    check_feature(CategoryFeature)


def test_columns_other_than_the_example_are_checked_as_well():
    """Ragged series, a number with atoms and gaps, whole numbers."""
    series = pa.array([[1.0, 2.5], [0.5], [3.0, 1.0, 2.0], None] * 40)
    check_feature(find_feature("series", ""), Column("s", "series", str(series.type), "array"), series)
    gains = pa.array([0, 0, 0, None, *range(5, 25)] * 20)
    check_feature(MixtureFeature, Column("g", "integer", "int64", "real", feature="mixture"), gains)


def broken(name, **methods):
    return type(name, (MixtureFeature,), {"name": name, **methods})


def column_of_losses(self, context, cells):
    return MixtureFeature.loss(self, context, cells).unsqueeze(1)


def nan_loss(self, context, cells):
    return MixtureFeature.loss(self, context, cells) * torch.nan


def cheap_loss(self, context, cells):
    return MixtureFeature.loss(self, context, cells) - 0.1


def deaf_loss(self, context, cells):
    return MixtureFeature.loss(self, context.detach(), cells)


def frozen_loss(self, context, cells):
    with torch.no_grad():
        found = MixtureFeature.loss(self, context, cells)
    return found + 0 * MixtureFeature.loss(self, context, cells) + 1e-9 * context.sum(1)


def wide_code(self, cells):
    return MixtureFeature.encode(self, cells).repeat(1, 2)


def any_number(self, context, draw):
    return 100 * MixtureFeature.decode(self, context, draw)


def own_randomness(self, context, draw):
    low, high = self.codec.low, self.codec.high
    return torch.empty(len(context), dtype=torch.float64).uniform_(low, high).round(decimals=1)


def narrow_draws(self, context, draw):
    draw.states[:] = draw.states[0]
    return MixtureFeature.decode(self, context, draw)


def lukewarm(self, context, draw):
    return MixtureFeature.decode(self, 0 * context, draw)


@pytest.mark.parametrize(
    ("methods", "told"),
    [
        ({"loss": column_of_losses}, "one number a cell"),
        ({"loss": nan_loss}, "loss is not finite"),
        ({"loss": cheap_loss}, "sum to 1.1"),
        ({"loss": deaf_loss}, "no gradient reaches the context"),
        ({"loss": frozen_loss}, "does not fall when it is fitted"),
        ({"encode": wide_code}, r"encode gave shape \(.*32\)"),
        ({"decode": any_number}, "outside"),
        ({"decode": own_randomness}, "depends on the rows beside it"),
        ({"decode": narrow_draws}, "depends on the rows beside it"),
        ({"decode": lukewarm}, "does not follow what the loss says"),
    ],
    ids=lambda value: next(iter(value.values())).__name__ if isinstance(value, dict) else "",
)
def test_a_column_type_that_breaks_a_promise_is_found_out(methods, told):
    name = "broken_" + next(iter(methods.values())).__name__
    with pytest.raises((AssertionError, ValueError), match=told):
        check_feature(broken(name, **methods))


def test_parameters_outside_encoder_and_decoder_are_refused():
    def init(self, codec, hidden_size):
        MixtureFeature.__init__(self, codec, hidden_size)
        self.stray = nn.Parameter(torch.zeros(3))

    with pytest.raises(FeatureError, match="parameters outside encoder and decoder: stray"):
        check_feature(broken("stray", __init__=init))
