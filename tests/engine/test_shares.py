"""How ranks share positions of a sequence, rows of a table and gradients: the arithmetic, no processes."""

from types import SimpleNamespace

import pytest
import torch

from nemo_tabular.engine.attention import in_order
from nemo_tabular.engine.gradients import clip_, counted_once, squared_norm
from nemo_tabular.engine.initial import draw_, normal
from nemo_tabular.engine.rows import PAD_TO, RowShare
from nemo_tabular.engine.sequence import SequenceShare

CPU = torch.device("cpu")


def group(rank, size):
    return SimpleNamespace(rank=lambda: rank, size=lambda: size)


def sequence_share(cp, rank, tp=1):
    groups = SimpleNamespace(tp=group(0, tp), cp=group(rank, cp))
    return SequenceShare(SimpleNamespace(sequence_parallel=tp > 1), groups)


@pytest.mark.parametrize(("cp", "tp", "multiple"), [(1, 1, 1), (1, 2, 2), (2, 1, 4), (2, 2, 8), (4, 2, 16)])
def test_sequences_are_padded_to_what_can_be_split(cp, tp, multiple):
    share = sequence_share(cp, 0, tp)
    assert [share.padded(n) for n in (1, multiple, multiple + 1)] == [multiple, multiple, 2 * multiple]


def test_context_parallel_ranks_hold_an_early_and_a_late_chunk_and_everything_once():
    held = [sequence_share(3, rank).positions(12, CPU).tolist() for rank in range(3)]
    assert held == [[0, 1, 10, 11], [2, 3, 8, 9], [4, 5, 6, 7]]
    assert in_order(torch.tensor(held).flatten(), 3).tolist() == list(range(12))


def test_every_prediction_of_every_slot_is_made_by_one_rank():
    slots, length, made = 3, 10, []
    for rank in range(2):
        share = sequence_share(2, rank)
        held = share.positions(share.padded(length), CPU)
        for s, (where, nth) in enumerate(zip(*share.every(slots, length, CPU), strict=True)):
            assert held[where].tolist() == (s + slots * nth).tolist()
            made += [(s, n) for n in nth.tolist()]
    assert sorted(made) == sorted((p % slots, p // slots) for p in range(length))


@pytest.mark.parametrize(("rows", "ranks"), [(58, 1), (58, 2), (1, 4), (64, 4), (50, 3)])
def test_rows_are_shared_in_contiguous_ranges_and_the_last_is_padded(rows, ranks):
    shares = [RowShare.of(rows, group(rank, ranks)) for rank in range(ranks)]
    whole = torch.arange(1.0, rows + 1).unsqueeze(1)
    together = torch.cat([share.parameter(whole).detach() for share in shares])
    assert len({share.count for share in shares}) == 1
    assert torch.equal(together[:rows], whole) and not together[rows:].any()
    if PAD_TO % ranks == 0:
        assert len(together) == RowShare.of(rows, group(0, 1)).count, "a checkpoint's shape depends on ranks"


def test_initial_weights_are_parts_of_the_same_whole_tensor():
    whole = normal("blocks.layers.3.mlp.linear_fc2.weight", (4, 6), seed=1, std=0.5)
    for axis in (0, 1):
        parts = []
        for rank in range(2):
            part = torch.nn.Parameter(torch.empty(4, 3) if axis else torch.empty(2, 6))
            part.tensor_model_parallel, part.partition_dim = True, axis
            draw_(part, "blocks.layers.3.mlp.linear_fc2.weight", 1, 0.5, group(rank, 2))
            parts.append(part.detach())
        assert torch.equal(torch.cat(parts, axis), whole)
    assert not torch.equal(whole, normal("blocks.layers.2.mlp.linear_fc2.weight", (4, 6), 1, 0.5))
    assert not torch.equal(whole, normal("blocks.layers.3.mlp.linear_fc2.weight", (4, 6), 2, 0.5))


def test_the_norm_counts_every_number_of_the_gradient_once():
    """A buffer of a shared, a replicated and a tied parameter, on 2 tensor- by 2 data-parallel ranks."""
    shared, replicated, tied = (torch.nn.Parameter(torch.zeros(3)) for _ in range(3))
    shared.tensor_model_parallel = tied.tensor_model_parallel = True
    tied.shared = True
    places = {tied: (4, 7, 0), replicated: (8, 11, 0), shared: (12, 15, 0)}
    for sharded in (False, True):
        counted = []
        for tp in range(2):
            for dp in range(2):
                bucket = SimpleNamespace(grad_data=torch.arange(16.0), offset=4, params=set(places))
                index = {p: (a + 4, b + 4, n) for p, (a, b, n) in places.items()}
                buffer = SimpleNamespace(buckets=[bucket], param_index_map=index)
                groups = SimpleNamespace(tp=group(tp, 2), dp_cp=group(dp, 2))
                views = counted_once([SimpleNamespace(buffers=[buffer])], groups, sharded)
                counted += [(tp, int(x)) for view in views for x in view]
        padding = {0, 1, 2, 3, 7, 11, 15}  # zeros in a real buffer: it does not matter who counts them
        found = sorted((tp, x) for tp, x in counted if x not in padding)
        assert found == [(0, x) for x in (8, 9, 10, 12, 13, 14)] + [(1, x) for x in (12, 13, 14)]


def test_gradients_are_shortened_where_they_are_longer():
    assert float(squared_norm([torch.tensor([3.0]), torch.tensor([4.0])], CPU)) == 25
    assert float(squared_norm([], CPU)) == 0
    for longest, wanted in ((2.5, 2.0), (0.0, 4.0), (9.0, 4.0)):
        gradient = torch.tensor([4.0])
        clip_([gradient], 5.0, longest)
        assert float(gradient) == pytest.approx(wanted)
