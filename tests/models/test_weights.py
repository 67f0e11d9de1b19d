"""Tensors that do not fit each other come in; the error must name the one at fault, and both shapes."""

from dataclasses import replace

import pytest
import torch

from nemo_tabular.errors import CheckpointError
from nemo_tabular.models.weights import DecoderWeights


def weights() -> DecoderWeights:
    block = {
        "qkv": torch.zeros(12, 4),
        "proj": torch.zeros(4, 4),
        "fc1": torch.zeros(8, 4),
        "fc2": torch.zeros(4, 8),
    }
    block |= {name: torch.ones(4) for name in ("norm1_w", "norm1_b", "norm2_w", "norm2_b")}
    return DecoderWeights(
        hidden=4,
        heads=2,
        sizes=[3, 2],
        embedding=torch.zeros(5, 4),
        position=torch.zeros(2, 4),
        begin=torch.zeros(1, 4),
        bias=torch.zeros(5),
        blocks=[block],
        final_w=torch.ones(4),
        final_b=torch.zeros(4),
    )


def test_sizes_follow_from_the_tensors():
    assert (weights().layers, weights().slots, weights().offsets, weights().max_rows) == (1, 2, [0, 3, 5], 1)
    histories = replace(weights(), histories=True, begin=torch.zeros(2, 4), row_position=torch.zeros(9, 4))
    assert histories.max_rows == 8


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"embedding": torch.zeros(6, 4)}, r"embedding has shape \(6, 4\), expected \(5, 4\)"),
        ({"bias": torch.zeros(4)}, r"bias has shape \(4,\), expected \(5,\)"),
        ({"final_b": None}, r"final_b is missing, expected a tensor of shape \(4,\)"),
        ({"heads": 3}, "3 heads do not divide the hidden size 4"),
        ({"act": "swish"}, "activation 'swish' is unknown to the decoder"),
        ({"histories": True}, r"begin has shape \(1, 4\), expected \(2, 4\)"),
        (
            {"blocks": [{**weights().blocks[0], "qkv": torch.zeros(4, 4)}]},
            r"blocks\[0\].qkv has shape \(4, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_named(changed, message):
    with pytest.raises(CheckpointError, match=message):
        replace(weights(), **changed)
