"""Generation and scoring on the card against the CPU: the same draws, so the same rows but for rounding."""

import numpy as np
import pytest
import torch
from decoder_models import census_weights, random_weights

from nemo_tabular.generate.documents import DocumentDecoder
from nemo_tabular.generate.trie import RowDecoder, placement
from nemo_tabular.models.score import row_nll
from nemo_tabular.synthesizer import Synthesizer

pytestmark = pytest.mark.gpu


@pytest.fixture
def rows(card) -> int:
    return 20_000 if card.type == "cuda" else 1_000


def test_the_card_is_where_rows_are_made(real_card):
    assert placement(64) == (torch.float32, torch.device("cuda", 0))
    assert placement(2048) == (torch.bfloat16, torch.device("cuda", 0))


def test_rows_are_those_of_the_cpu_but_for_rounding(card, rows):
    weights = census_weights()
    here = RowDecoder(weights, device=card, backend="torch").sample(rows, seed=1)
    there = RowDecoder(weights, device="cpu").sample(rows, seed=1)
    assert here.dtype == there.dtype and here.shape == there.shape
    # a draw that falls within rounding of an edge between two codes goes the other way
    assert (here == there).all(1).mean() > 0.995


def test_rows_in_bf16_have_the_same_marginals(card, rows):
    weights = census_weights(hidden=512)
    here = RowDecoder(weights, torch.bfloat16, device=card, backend="torch").sample(rows, seed=1)
    there = RowDecoder(weights, device="cpu").sample(rows, seed=2)
    for slot, size in enumerate(weights.sizes):
        a, b = (np.bincount(codes[:, slot], minlength=size) / rows for codes in (here, there))
        # the total variation of two samples is about sqrt(codes / (pi * rows)); three times that
        assert np.abs(a - b).sum() / 2 < 3 * np.sqrt(size / (np.pi * rows)) + 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_do_not_depend_on_how_they_are_asked_for(card, rows, dtype):
    decoder = RowDecoder(census_weights(), dtype, device=card, backend="torch")
    whole = decoder.sample(rows, seed=3)
    parts = [decoder.sample(n, seed=3, first_row=first) for first, n in ((0, 1), (1, 299), (300, rows - 300))]
    assert np.array_equal(whole, np.concatenate(parts))


def test_documents_are_those_of_the_cpu_but_for_rounding(card):
    weights = random_weights([5, 7, 3], hidden=32, layers=2, seed=2, max_rows=6)
    made = []
    for device in (card, torch.device("cpu")):
        decoder = DocumentDecoder(weights, context_rows=2, device=device, backend="torch")
        made.append(list(decoder.sample(300, seed=4, max_rows=20)))
    same = [np.array_equal(a.rows, b.rows) and a.ended == b.ended for a, b in zip(*made, strict=True)]
    assert [a.number for a in made[0]] == list(range(300))
    assert np.mean(same) > 0.97


def test_scores_are_those_of_the_cpu(card):
    weights = census_weights()
    codes = torch.from_numpy(RowDecoder(weights).sample(1000, seed=5).T.astype(np.int64).copy())
    here, there = row_nll(weights.to(card), codes).cpu(), row_nll(weights, codes)
    assert torch.allclose(here, there, atol=1e-3)


def test_the_facade_samples_and_scores_on_the_card(pipeline, card):
    synthesizer = Synthesizer.load(pipeline.run)
    table = synthesizer.sample(1000, seed=1)
    assert list(table) == list(synthesizer.schema.names) and len(table) == 1000
    assert table.equals(synthesizer.sample(1000, seed=1))
    assert np.isfinite(synthesizer.log_prob(table)).all()
