"""Rows of ordered codes follow their order, at the start and in training, and come back folded."""

import numpy as np
import torch

from nemo_tabular.config import ModelConfig, OptimConfig
from nemo_tabular.engine import launch
from nemo_tabular.engine.layout import ParallelLayout
from nemo_tabular.engine.step import TrainStep
from nemo_tabular.models.curves import OWN, WAVES, Curves
from nemo_tabular.models.gpt import TabularGPT


def rising(size, first=0):
    """Places of codes that rise from `first` on."""
    return np.concatenate([np.full(first, np.nan), np.linspace(0, 1, size - first)])


SIZES = [3, 41, WAVES, 2]
OFFSETS = [0, 3, 44, 44 + WAVES, 46 + WAVES]
MISSING = 1  # of the second slot, its first code
PLACES = [None, rising(41, MISSING), rising(WAVES), None]
ORDERED = slice(3 + MISSING, 44)


def alike(rows: torch.Tensor, apart: int) -> float:
    """Mean cosine between rows that stand so far from each other."""
    return float(torch.cosine_similarity(rows[apart:], rows[:-apart]).mean())


def test_ordered_rows_begin_on_curves_and_the_others_on_their_own():
    curves = Curves(OFFSETS, PLACES)
    table = curves.folded(curves.initial(64, seed=1))
    assert alike(table[ORDERED], 1) > 0.9 > 0.3 > alike(table[ORDERED], 20)
    plain = Curves(OFFSETS).initial(64, seed=1)
    others = np.r_[0 : 3 + MISSING, 44 : OFFSETS[-1]]  # missing, and a slot of few codes, are not on a curve
    assert torch.equal(table[others], plain[others]) and plain.shape == (OFFSETS[-1], 64)
    assert 0.5 < float(table[ORDERED].std() / plain[ORDERED].std()) < 2


def test_folding_undoes_unfolding_and_weights_move_the_codes_of_one_slot_only():
    curves = Curves(OFFSETS, PLACES)
    table = torch.randn(OFFSETS[-1], 8)
    parameter = curves.unfolded(table)
    assert torch.allclose(curves.folded(parameter), table, atol=1e-6) and len(parameter) == curves.num_rows
    parameter[curves.num_ids :] += 1
    moved = (curves.folded(parameter) - table).abs().sum(1) > 1e-3
    assert moved[ORDERED].float().mean() > 0.9 and int(moved.sum()) == int(moved[ORDERED].sum())


def test_the_model_reads_and_predicts_with_the_folded_rows():
    groups = launch.start(ParallelLayout(), seed=1)
    model = TabularGPT(ModelConfig(), "32", SIZES, groups, places=PLACES)
    plain = TabularGPT(ModelConfig(), "32", SIZES, groups)
    with torch.no_grad():
        model.embedding[OFFSETS[-1] :].normal_(0, 0.01)
        for (name, theirs), (_, ours) in zip(plain.named_parameters(), model.named_parameters(), strict=True):
            whole = Curves(OFFSETS, PLACES).folded(ours) if name == "embedding" else ours
            size = min(len(whole), len(theirs))  # both are padded
            theirs[:size].copy_(whole[:size])
    rows = torch.stack([torch.randint(0, size, (50,)) for size in SIZES])
    for got, wanted in zip(model.nll(rows), plain.nll(rows), strict=True):
        assert torch.allclose(got, wanted, atol=1e-5)


def test_one_code_teaches_its_neighbours():
    """A step on rows of one code moves the codes beside it too, and far ones less."""
    groups = launch.start(ParallelLayout(), seed=1)
    model = TabularGPT(ModelConfig(), "32", SIZES, groups, places=PLACES)
    before, at = model.table.detach().clone(), 23
    step = TrainStep(model, OptimConfig(), groups)
    rows = torch.stack([torch.full((16,), code) for code in (1, at, 0, 1)])
    step([rows], lr=1e-3)
    moved = (model.table - before).detach()[3:44]
    near = torch.cosine_similarity(moved[at], moved[at + 1], dim=0)
    assert near > 0.8 and moved[at + 1].norm() > 10 * OWN * 1e-3


def test_a_slot_of_histories_has_an_end_that_stands_nowhere():
    groups = launch.start(ParallelLayout(), seed=1)
    model = TabularGPT(
        ModelConfig(), "32", [41, 2], groups, histories=True, max_rows=4, places=[PLACES[1], None]
    )
    assert model.sizes[0] == 42 and float(model.own[41]) == 1 and not model.wave[41].any()


def test_a_digit_of_the_largest_base_costs_no_more_than_its_rows():
    curves = Curves([0, 65_000], [rising(65_000)])
    assert curves.initial(2, seed=1).shape == (65_000 + WAVES, 2)
