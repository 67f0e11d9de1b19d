"""Sizes of layouts and batches come in; what cannot be is refused with the setting to change."""

import pytest

from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.errors import ConfigError


def test_layout_that_does_not_divide_the_ranks_is_refused():
    with pytest.raises(ConfigError, match="do not divide the 6 started"):
        ParallelLayout(world_size=6, tensor_model_parallel_size=4)
    assert ParallelLayout(8, 2, 2).data_parallel_size == 2


@pytest.mark.parametrize(
    ("layout", "batch", "wanted", "size"),
    [
        (ParallelLayout(), 100, None, 100),
        (ParallelLayout(), 100, 32, 32),  # the last piece is smaller
        (ParallelLayout(4), 128, None, 32),
        (ParallelLayout(4), 128, 64, 32),
        (ParallelLayout(4, 1, 4), 128, None, 32),  # as many pieces as stages
        (ParallelLayout(4, 1, 2), 128, None, 32),
        (ParallelLayout(4, 1, 2, 1, 2), 128, 8, 8),
    ],
)
def test_documents_at_a_time(layout, batch, wanted, size):
    assert layout.micro_batch_size(batch, wanted) == size


@pytest.mark.parametrize(
    ("layout", "batch", "wanted", "message"),
    [
        (ParallelLayout(3), 128, None, "no multiple of the 3 data-parallel ranks; set it to 126 or 129"),
        (ParallelLayout(4), 2, None, "set it to 4, or start"),
        (ParallelLayout(2, 1, 2), 128, 48, "48 does not divide the 128 documents of a data-parallel rank"),
        (ParallelLayout(2, 1, 2), 15, None, "8 does not divide the 15 documents"),
        (ParallelLayout(2, 1, 2, 1, 2), 96, 32, "needs a multiple of pipeline_model_parallel_size 2 micro-b"),
    ],
)
def test_batches_that_do_not_fit_are_refused(layout, batch, wanted, message):
    with pytest.raises(ConfigError, match=message):
        layout.micro_batch_size(batch, wanted)
