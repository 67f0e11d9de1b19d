"""Where the codes of each slot stand among each other enters; embeddings that follow that order leave.

Ranges of numbers stand in an order, and what is true of one is nearly true of the next. Rows of a table that
know nothing of it learn that from the data, one code at a time; 15,000 rows are too few for columns of many
codes that depend on each other, and what the rows learn one by one is mostly noise. So a code's row is to a
small part its own and for the rest a sum of waves over the places of the slot's codes, with the same weights
for all. The weights are further rows of the same parameter, below those of the ids. A trained model is
folded: its rows are the sums, and whoever decodes it knows nothing of waves.

Shapes: C codes of a slot, V ids, F waves of all slots, H hidden.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..engine.initial import normal

ROW_STD = 0.1
"""Of the initial embedding."""
WAVES = 16
"""Cosines of a slot, of rising frequency and falling height. Slots of as few codes keep rows of their own:
each code is seen often enough."""
FINEST = 256
"""Frequencies of the curves that rows begin on: with 16 alone near codes would begin too much alike."""
HEIGHT, OWN = 10.0, 0.2
"""What a step of the optimizer's size moves a row: by the weights of its waves, and by its own.

Chosen on held-out rows of `magic`, nats a row: rows without waves 117.83; begun on curves, but moved one by
one, 117.51; HEIGHT 3, 8, 20 with OWN 1: 117.29, 117.13, 117.14; HEIGHT 10 with OWN .3, .1: 117.02, 117.03.
"""

Places = Sequence[np.ndarray | None]
"""Of each slot: see `Codec.places`."""


def waves(place_C: Tensor, count: int) -> Tensor:
    """(C, count), float64: cosines over [0, 1], together of variance 1."""
    frequency = torch.arange(1, count + 1, dtype=torch.float64)
    height = 1 / frequency / (0.5 / frequency.square()).sum().sqrt()
    return torch.cos(torch.pi * place_C.double().unsqueeze(1) * frequency) * height


class Curves:
    """How the rows of all ids come from those of the parameter: `own * rows + wave @ weights`."""

    def __init__(self, offsets: Sequence[int], places: Places = ()) -> None:
        """`offsets`: first id of each slot, then the number of ids. Slots beyond `places` are in no order."""
        self.num_ids, self.slots = offsets[-1], list(_ordered(offsets, places))
        self.own_V1 = torch.ones(self.num_ids, 1)
        blocks = [torch.zeros(self.num_ids, 0)]
        for rows, place_C in self.slots:
            block = torch.zeros(self.num_ids, WAVES)
            block[rows] = HEIGHT * waves(place_C, WAVES).float()
            blocks.append(block)
            self.own_V1[rows] = OWN
        self.wave_VF = torch.cat(blocks, 1)

    @property
    def num_rows(self) -> int:
        """Of the parameter: ids, then weights."""
        return sum(self.wave_VF.shape)

    def initial(self, hidden: int, seed: int) -> Tensor:
        """The parameter at the start: independent rows, those of ordered codes on random curves instead."""
        table_VH = normal("embedding", (self.num_ids, hidden), seed, ROW_STD)
        for s, (rows, place_C) in enumerate(self.slots):
            wave_CF = waves(place_C, min(len(rows) - 1, FINEST))
            weight_FH = normal(f"embedding.curve{s}", (wave_CF.shape[1], hidden), seed, ROW_STD)
            table_VH[rows] = (wave_CF @ weight_FH.double()).float()
        return self.unfolded(table_VH)

    def folded(self, parameter: Tensor) -> Tensor:
        """(V, H): the rows of all ids. The parameter may be padded."""
        weight_FH = parameter[self.num_ids : self.num_rows]
        return self.own_V1 * parameter[: self.num_ids] + self.wave_VF @ weight_FH

    def unfolded(self, table_VH: Tensor) -> Tensor:
        """The parameter of these rows, whose waves have no weight yet."""
        return torch.cat(
            [table_VH / self.own_V1, table_VH.new_zeros(self.wave_VF.shape[1], table_VH.shape[1])]
        )


def _ordered(offsets: Sequence[int], places: Places) -> Iterator[tuple[Tensor, Tensor]]:
    """(ids, places) of codes that stand somewhere, for each slot that has more than WAVES of them."""
    for offset, place in zip(offsets, places, strict=False):
        if place is not None and (known := ~np.isnan(place)).sum() > WAVES:
            yield torch.from_numpy(offset + np.flatnonzero(known)), torch.from_numpy(place[known])
