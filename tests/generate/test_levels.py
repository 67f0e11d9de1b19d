"""A model and rows come in; the hidden states of the torch decoder are judged bit by bit.
Its draws follow from them, and would seldom show a difference in the last bit."""

import numpy as np
import pytest
import torch
from decoder_models import census_weights

from nemo_tabular.generate.constraints import Draw
from nemo_tabular.generate.levels import LevelDecoder
from nemo_tabular.generate.request import Sampling


def hidden_of_row(row: int, first: int, rows: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """What each level computes for one row, decoded among others."""
    weights = census_weights()
    decoder = LevelDecoder(weights, dtype, torch.device("cpu"), share=False)
    seen, level = [], decoder._level
    decoder._level = lambda *args: seen.append(level(*args)) or seen[-1]
    nothing = np.zeros((1, 0), np.int32)
    decoder.sample(rows, Draw(7, first, Sampling(), nothing, weights.bias.numpy()))
    return [hidden[row - first] for hidden in seen]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_hidden_states_do_not_depend_on_what_else_is_decoded(dtype):
    alone = hidden_of_row(600, 600, 1, dtype)
    for first, rows in ((595, 6), (90, 1200)):
        among = hidden_of_row(600, first, rows, dtype)
        assert all(torch.equal(a, b) for a, b in zip(alone, among, strict=True))
