"""Small models whose every row's probability is known come in; what the row decoder draws is judged against
them. Exactness (the same rows at every split) and correctness (the right frequencies), on every backend."""

import itertools

import numpy as np
import pytest
import torch
from decoder_models import census_weights, every_row, log_probs, random_weights

from nemo_tabular.errors import GenerationError
from nemo_tabular.generate.trie import RowDecoder

SIZES = [3, 4, 2, 5]
KINDS = {
    "squared-relu": {},
    "gelu": {"act": "gelu"},
    "rms": {"rms": True},
    "one layer": {"layers": 1},
    "odd width": {"hidden": 30, "heads": 3},
    "one head": {"hidden": 20, "heads": 1},
    "twenty heads": {"hidden": 40, "heads": 20},
}


@pytest.fixture(params=["compiled", "torch"])
def backend(request):
    return request.param


def chi_square(rows: np.ndarray, sizes: list[int], log_p: np.ndarray) -> float:
    """Standard deviations between drawn and expected frequencies, over all rows of the alphabet."""
    seen = np.bincount(np.ravel_multi_index(tuple(rows.T.astype(int)), sizes), minlength=len(log_p))
    expected = len(rows) * np.exp(log_p)
    freedom = len(log_p) - 1
    return float((((seen - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom))


@pytest.mark.parametrize("kind", KINDS)
def test_frequencies_are_the_models_probabilities(backend, kind):
    weights = random_weights(SIZES, **KINDS[kind])
    log_p = log_probs(weights, every_row(SIZES))
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)
    rows = RowDecoder(weights, backend=backend).sample(40_000, seed=3)
    assert abs(chi_square(rows, SIZES, log_p)) < 4.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_rows_at_every_split_with_and_without_sharing(backend, dtype):
    weights, total = census_weights(), 20_000 if backend == "compiled" else 5_000
    whole = RowDecoder(weights, dtype, backend=backend).sample(total, seed=7)
    pieces = RowDecoder(weights, dtype, backend=backend, tile=1024)
    starts = [0, 1, 7, 1000, 3000, total]
    split = [pieces.sample(b - a, 7, first_row=a) for a, b in itertools.pairwise(starts)]
    assert (whole != np.concatenate(split)).any(1).sum() == 0
    alone = RowDecoder(weights, dtype, backend=backend, share=False)
    assert (whole != alone.sample(total, 7)).any(1).sum() == 0
    assert alone.nodes >= total * (weights.slots - 1) > 1.2 * pieces.nodes


def test_seeds_and_rows_differ(backend):
    decoder = RowDecoder(random_weights(SIZES), backend=backend)
    assert (decoder.sample(500, 1) != decoder.sample(500, 2)).any()
    assert (decoder.sample(500, 1) != decoder.sample(500, 1, first_row=500)).any()


def test_given_codes_lead_and_the_rest_follows_from_them(backend):
    weights = random_weights(SIZES)
    rows = RowDecoder(weights, backend=backend).sample(40_000, 5, given=np.array([2, 1]))
    assert (rows[:, :2] == [2, 1]).all()
    wanted = every_row(SIZES)
    log_p = log_probs(weights, wanted)[(wanted[:, :2] == [2, 1]).all(1)]
    log_p -= np.log(np.exp(log_p).sum())
    assert abs(chi_square(rows[:, 2:], SIZES[2:], log_p)) < 4.5


def test_one_given_line_a_row_whatever_the_split(backend):
    decoder = RowDecoder(random_weights(SIZES), backend=backend)
    given = np.array([[0], [2], [1]])
    rows = decoder.sample(10, 5, given=given)
    assert rows[:, 0].tolist() == [0, 2, 1, 0, 2, 1, 0, 2, 1, 0]
    assert (decoder.sample(6, 5, first_row=4, given=given) == rows[4:]).all()


def test_a_row_can_be_given_whole(backend):
    given = every_row(SIZES)
    rows = RowDecoder(random_weights(SIZES), backend=backend).sample(len(given), 5, given=given)
    assert (rows == given).all()


def test_allowed_codes_only(backend):
    weights = random_weights(SIZES)
    allowed = [np.array([True, False, True]), None, None, np.array([False, False, True, True, False])]
    rows = RowDecoder(weights, backend=backend).sample(5000, 5, allowed=allowed)
    assert set(rows[:, 0]) == {0, 2}
    assert set(rows[:, 3]) == {2, 3}


def test_top_k_of_one_is_the_most_probable_code(backend):
    weights = random_weights(SIZES)
    rows = RowDecoder(weights, backend=backend).sample(50, 5, top_k=1)
    assert len(np.unique(rows, axis=0)) == 1
    others = every_row(SIZES)
    first = np.exp(log_probs(weights, others))
    assert rows[0, 0] == np.bincount(others[:, 0], first).argmax()


def test_temperature_top_k_and_top_p_change_the_first_slot_as_defined(backend):
    sizes = [40]
    weights = random_weights(sizes, spread=2.0)
    log_p = log_probs(weights, every_row(sizes))
    order = np.argsort(-log_p)
    decoder = RowDecoder(weights, backend=backend)

    def check(wanted, **settings):
        rows = decoder.sample(40_000, 5, **settings)
        seen = np.bincount(rows[:, 0], minlength=40)
        kept = wanted > 0
        assert set(np.flatnonzero(seen)) <= set(np.flatnonzero(kept))
        expected = 40_000 * wanted[kept] / wanted.sum()
        freedom = max(1, kept.sum() - 1)
        assert (((seen[kept] - expected) ** 2 / expected).sum() - freedom) / np.sqrt(2 * freedom) < 4.5

    check(np.exp(log_p / 0.5), temperature=0.5)
    check(np.exp(log_p / 3), temperature=3.0)
    check(np.where(np.isin(np.arange(40), order[:7]), np.exp(log_p), 0), top_k=7)
    nucleus = order[: np.searchsorted(np.cumsum(np.exp(log_p[order])), 0.8) + 1]
    check(np.where(np.isin(np.arange(40), nucleus), np.exp(log_p), 0), top_p=0.8)
    check(np.exp(log_p), top_p=1.0, top_k=40)


def test_wide_slots_and_few_rows(backend):
    weights = random_weights([3, 20_000, 300], hidden=16, heads=2)
    decoder = RowDecoder(weights, backend=backend)
    rows = decoder.sample(300, 1)
    assert rows.dtype == np.uint16
    assert (rows[100:101] == decoder.sample(1, 1, first_row=100)).all()
    assert len(np.unique(rows[:, 1])) > 200
    assert decoder.sample(0, 1).shape == (0, 3)


def test_nodes_count_shared_prefixes_once(backend):
    decoder = RowDecoder(random_weights([2, 2, 2]), backend=backend)
    decoder.sample(1000, 1)
    assert decoder.nodes == 1 + 2 + 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"given": np.array([[3]])}, r"given row 0: code 3 at slot 0, whose codes are 0 to 2"),
        ({"given": np.array([0, -1])}, r"code -1 at slot 1"),
        ({"given": np.zeros((1, 5), int)}, r"at most 4 leading slots"),
        ({"temperature": 0.0}, r"temperature is 0.0, expected above 0; .*top_k=1"),
        ({"top_p": 0.0}, r"top_p is 0.0"),
        ({"top_k": -1}, r"top_k is -1"),
        ({"allowed": [np.zeros(3, bool), None, None, None]}, r"slot 0: no code is allowed"),
        ({"allowed": [None, np.zeros(3, bool), None, None]}, r"slot 1: shape \(3,\), expected \(4,\)"),
        ({"allowed": [None]}, r"names 1 slots, expected 4"),
    ],
)
def test_impossible_requests_are_refused(backend, settings, message):
    with pytest.raises(GenerationError, match=message):
        RowDecoder(random_weights(SIZES), backend=backend).sample(4, 1, **settings)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_diverged_model_is_named_as_such(backend, value):
    whole, partly = random_weights(SIZES), random_weights(SIZES)
    whole.blocks[0]["proj"][0, 0] = value
    partly.bias[1] = torch.nan  # of one code alone
    for weights in (whole, partly):
        with pytest.raises(GenerationError, match="not finite"):
            RowDecoder(weights, backend=backend).sample(4, 1)
