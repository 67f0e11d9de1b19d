"""Small models of histories whose every document's probability is known come in; drawn documents are judged.
Right frequencies across full windows, and the same documents whatever shares their batch."""

from collections import Counter
from functools import cache

import numpy as np
import pytest
from decoder_models import next_log_probs, random_weights

from nemo_tabular.errors import GenerationError
from nemo_tabular.generate.documents import DocumentDecoder
from nemo_tabular.generate.request import Sampling
from nemo_tabular.generate.trie import RowDecoder

SIZES = [3, 2]  # codes 0 and 1 and the end; codes 0 and 1
WINDOW, CONTEXT = 2, 1


@pytest.fixture(params=["compiled", "torch"])
def backend(request):
    return request.param


def weights(window: int = WINDOW, sizes: list[int] = SIZES, seed: int = 4):
    return random_weights(sizes, hidden=24, heads=3, spread=0.5, max_rows=window, seed=seed)


def probabilities(
    model, max_rows: int, history: tuple = (), ends: bool = True, rising: tuple = (), first: int | None = None
) -> dict[tuple, float]:
    """Of every document (rows, ended) that can be drawn, straight from the definition. `first`: a code given
    for slot 0."""

    @cache
    def following(rows: tuple, row: tuple) -> np.ndarray:
        start = 0  # where the window starts: a full one is begun again with the last CONTEXT rows
        for end in range(1, len(rows) + 1):
            if end - start == WINDOW:
                start = end - CONTEXT
        log_p = next_log_probs(model, np.array(rows[start:]), list(row), continues=start > 0)
        if not row and (not rows or not ends):
            log_p[-1] = -np.inf
        slot = len(row)
        if rows and slot in rising and all(row[s] == rows[-1][s] for s in rising if s < slot):
            log_p[: rows[-1][slot]] = -np.inf
        return np.exp(log_p - np.log(np.exp(log_p).sum()))

    found: dict[tuple, float] = {}

    def grow(rows: tuple, p: float) -> None:
        if len(rows) - len(history) == max_rows:
            found[rows[len(history) :], False] = p
            return
        lead = following(rows, ())
        if lead[2]:
            found[rows[len(history) :], True] = p * lead[2]
        if first is not None:
            lead = np.eye(2)[first] * (lead[0] + lead[1])
        for a in (0, 1):
            for b, q in enumerate(following(rows, (a,)) if lead[a] else ()):
                if q:
                    grow((*rows, (a, b)), p * lead[a] * q)

    grow(history, 1.0)
    return found


def check(documents, wanted: dict[tuple, float], total: int) -> None:
    assert sum(wanted.values()) == pytest.approx(1)
    seen = Counter((tuple(map(tuple, d.rows.tolist())), d.ended) for d in documents)
    assert sum(seen.values()) == total and not set(seen) - set(wanted)
    chi = sum((seen[key] - total * p) ** 2 / (total * p) for key, p in wanted.items())
    freedom = len(wanted) - 1
    assert abs(chi - freedom) / np.sqrt(2 * freedom) < 4.5


def test_frequencies_are_the_models_probabilities_across_windows(backend):
    model = weights()
    decoder = DocumentDecoder(model, context_rows=CONTEXT, backend=backend)
    documents = list(decoder.sample(6000, 1, max_rows=3))
    assert [d.number for d in documents] == list(range(6000))
    check(documents, probabilities(model, 3), 6000)


@pytest.mark.parametrize("history", [((0, 1),), ((1, 0), (0, 0)), ((1, 1), (0, 0), (1, 0))])
def test_histories_are_continued_by_their_own_probabilities(backend, history):
    model = weights()
    decoder = DocumentDecoder(model, context_rows=CONTEXT, backend=backend)
    documents = list(decoder.sample(4000, 1, max_rows=2, histories=[np.array(history)]))
    check(documents, probabilities(model, 2, history), 4000)


@pytest.mark.parametrize("rising", [(1,), (0, 1)])
@pytest.mark.parametrize("history", [(), ((0, 1),)])
def test_time_does_not_run_backwards(backend, rising, history):
    model = weights()
    decoder = DocumentDecoder(model, context_rows=CONTEXT, backend=backend, rising=rising)
    known = [np.array(history).reshape(-1, 2)]
    documents = list(decoder.sample(4000, 1, max_rows=3, histories=known))
    check(documents, probabilities(model, 3, history, rising=rising), 4000)


def test_what_is_given_stands_in_every_row(backend):
    model = weights()
    decoder = DocumentDecoder(model, context_rows=CONTEXT, backend=backend)
    documents = list(decoder.sample(6000, 1, max_rows=3, given=np.array([[0], [1]])))
    for first in (0, 1):
        mine = [d for d in documents if d.number % 2 == first]
        assert all((d.rows[:, 0] == first).all() for d in mine)
        check(mine, probabilities(model, 3, first=first), 3000)


def test_a_fixed_horizon_has_no_early_end(backend):
    model = weights()
    decoder = DocumentDecoder(model, context_rows=CONTEXT, backend=backend)
    documents = list(decoder.sample(4000, 1, max_rows=2, histories=[np.array([[0, 1]])], ends=False))
    assert {len(d.rows) for d in documents} == {2} and not any(d.ended for d in documents)
    check(documents, probabilities(model, 2, ((0, 1),), ends=False), 4000)


def test_same_documents_whatever_shares_their_batch(backend):
    model = weights(window=5, sizes=[9, 30, 4])
    made = np.random.default_rng(0)
    histories = [made.integers(0, [8, 30, 4], (n, 3)) for n in (0, 3, 1, 11, 5)]

    def rows(batch: int, documents: int, first: int = 0) -> list:
        decoder = DocumentDecoder(model, context_rows=2, backend=backend, batch=batch)
        got = decoder.sample(documents, 7, first, max_rows=12, histories=histories)
        return [(d.number, d.rows.tolist(), d.ended) for d in got]

    whole = rows(128, 150)
    assert rows(3, 60) == whole[:60]
    assert rows(50, 60, first=90) == whole[90:]
    assert len({len(d[1]) for d in whole}) > 5


def test_long_documents_of_a_fixed_length(backend):
    decoder = DocumentDecoder(weights(), context_rows=CONTEXT, backend=backend)
    documents = list(decoder.sample(3, 1, max_rows=150, ends=False))
    assert [d.rows.shape for d in documents] == [(150, 2)] * 3
    some = next(iter(decoder.sample(1, 1, 2, max_rows=100, ends=False)))
    assert (documents[2].rows[:100] == some.rows).all()


def test_a_full_window_ends_a_document_where_training_continued_none(backend):
    decoder = DocumentDecoder(weights(window=3), backend=backend)
    documents = list(decoder.sample(200, 1, max_rows=50))
    assert max(len(d.rows) for d in documents) == 3
    assert all(d.ended for d in documents)


def test_settings_reach_the_draws(backend):
    decoder = DocumentDecoder(weights(), context_rows=CONTEXT, backend=backend)
    likely = list(decoder.sample(20, 1, max_rows=4, sampling=Sampling(top_k=1)))
    assert len({d.rows.tobytes() for d in likely}) == 1
    masked = decoder.sample(50, 1, max_rows=4, allowed=[np.array([False, True]), np.array([True, False])])
    assert {tuple(row) for d in masked for row in d.rows.tolist()} == {(1, 0)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_rows": 0}, "max_rows is 0, expected at least 1"),
        ({"max_rows": 1, "histories": [np.array([[2, 0]])]}, "code 2 at slot 0, whose codes are 0 to 1"),
        (
            {"max_rows": 1, "histories": [np.array([[1]])]},
            r"history 0: codes of shape \(1, 1\), expected \(rows, 2\)",
        ),
        ({"max_rows": 1, "histories": [np.zeros((2, 2))]}, "history 0 has 2 rows, the model's window 2"),
        ({"max_rows": 1, "allowed": [np.zeros(3, bool), None]}, "slot 0"),
    ],
)
def test_impossible_requests_are_refused(backend, settings, message):
    with pytest.raises(GenerationError, match=message):
        list(DocumentDecoder(weights(), backend=backend).sample(2, 1, **settings))


def test_each_decoder_names_the_other_for_the_other_kind_of_model():
    with pytest.raises(GenerationError, match="RowDecoder"):
        DocumentDecoder(random_weights([2, 3]))
    with pytest.raises(GenerationError, match="DocumentDecoder"):
        RowDecoder(weights())
    with pytest.raises(GenerationError, match="context_rows is 2, expected at least 1, below a window's 2"):
        DocumentDecoder(weights(), context_rows=2)
