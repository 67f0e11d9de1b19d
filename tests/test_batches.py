"""Orders are bijections, each row comes once an epoch, codes in the model's order, and positions resume."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed_table import fitted, mixed_table, schema_of

from nemo_tabular.batches import DocumentBatches, Permutation, RowBatches, SetBatches, Shuffle, micro_batches
from nemo_tabular.errors import ConfigError
from nemo_tabular.orders import SlotOrders
from nemo_tabular.store import prepare

# --- the permutation ---


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(1, 300), st.integers(65_000, 140_000)), st.integers(0, 2**64 - 1))
def test_permutation_is_a_bijection_for_any_n(n, seed):
    image = Permutation(n, seed)(np.arange(n))
    assert image.dtype == np.int64
    assert (np.bincount(image, minlength=n) == 1).all()


@pytest.mark.parametrize("n", [65_537, 2**17, 2**17 + 1, 2**20 - 1, 1_000_003])
def test_permutation_above_the_table_is_a_bijection(n):
    image = Permutation(n, (3, 5))(np.arange(n))
    assert (np.bincount(image, minlength=n) == 1).all()


def test_permutation_of_more_than_32_bits_is_one_to_one_and_in_range():
    n = 2**33 + 12_345
    items = np.concatenate([np.arange(200_000), n - 1 - np.arange(200_000)])
    image = Permutation(n, 7)(items)
    assert len(np.unique(image)) == len(items)
    assert image.min() >= 0 and image.max() < n
    assert np.histogram(image, 16, (0, n))[0].min() > 0.9 * len(items) / 16


def test_permutation_does_not_depend_on_how_it_is_asked():
    p = Permutation(200_000, 1)
    whole = p(np.arange(200_000))
    assert (p(np.arange(150_000, 150_100)) == whole[150_000:150_100]).all()
    assert (p(np.array([[5, 199_999], [7, 0]])) == whole[[[5, 199_999], [7, 0]]]).all()
    assert (Permutation(200_000, 2)(np.arange(200_000)) != whole).mean() > 0.999


@pytest.mark.parametrize("n", [1000, 300_000])
def test_permutation_is_uniform_enough(n):
    """Where the first tenth goes, how far neighbours part: chi-squared within six deviations of its mean."""
    bins, worst = 50, 50 - 1 + 6 * np.sqrt(2 * 49)
    start, apart = np.zeros(bins), np.zeros(bins)
    for seed in range(20):
        image = Permutation(n, seed)(np.arange(n))
        start += np.histogram(image[: n // 10], bins, (0, n))[0]
        apart += np.histogram(np.diff(image) % n, bins, (0, n))[0]
    for counts in (start, apart):
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < worst


def test_permutation_of_nothing():
    with pytest.raises(ConfigError, match="permutation of 0 items"):
        Permutation(0, 1)


# --- the order of the data ---


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 1000))
def test_each_item_once_an_epoch_across_batch_borders(n, size, seed):
    shuffle = Shuffle(n, seed, size)
    stream = np.concatenate([shuffle.at(step) for step in range(-(-3 * n // size))])
    for epoch in range(3):
        assert sorted(stream[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_epochs_differ():
    shuffle = Shuffle(100, 0, 100)
    assert (shuffle.at(0) != shuffle.at(1)).any()


def test_ranks_share_a_batch_without_overlap():
    shuffle = Shuffle(1000, 4, 96)
    for ranks in (1, 2, 3, 8):
        parts = [shuffle.at(11, rank, ranks) for rank in range(ranks)]
        assert (np.concatenate(parts) == shuffle.at(11)).all()
    with pytest.raises(ConfigError, match="global_batch_size 96 is no multiple of the 5 data ranks"):
        shuffle.at(0, 0, 5)


def test_position_resumes_even_with_another_batch_size():
    one, two = Shuffle(1000, 4, 96), Shuffle(1000, 4, 96)
    for _ in range(5):
        one.next_batch()
    state = one.state_dict()
    two.load_state_dict(state)
    assert (one.next_batch() == two.next_batch()).all()
    other = Shuffle(1000, 4, 32)
    other.load_state_dict(state)
    assert (np.concatenate([other.next_batch() for _ in range(3)]) == one.at(5)).all()
    assert one.epoch == pytest.approx(6 * 96 / 1000)


def test_position_of_other_data_is_refused():
    with pytest.raises(ConfigError, match="saved with num_items 1000, now 999"):
        Shuffle(999, 4, 96).load_state_dict(Shuffle(1000, 4, 96).state_dict())
    with pytest.raises(ConfigError, match="saved with seed 4, now 5"):
        Shuffle(1000, 5, 96).load_state_dict(Shuffle(1000, 4, 96).state_dict())


def test_an_empty_split_is_named():
    with pytest.raises(ConfigError, match="split is empty"):
        Shuffle(0, 0, 8)


# --- rows ---


@pytest.fixture(scope="module")
def rows_store(tmp_path_factory):
    table, tokenizer = fitted()
    return prepare(table, tmp_path_factory.mktemp("rows") / "store", tokenizer=tokenizer, splits=(0.8, 0.2))


def test_codes_are_the_rows_in_the_models_order(rows_store):
    tokenizer = rows_store.tokenizer
    order = np.random.default_rng(0).permutation(tokenizer.num_slots)
    batches = RowBatches(rows_store.rows("train"), tokenizer, 1, 32, order)
    items = batches.at(0)
    codes = batches.next_codes()
    assert codes.dtype == torch.int64 and codes.is_contiguous()
    assert codes.shape == (tokenizer.num_slots, 32)
    expected = tokenizer.codes(np.array(rows_store.rows("train"))[items])
    assert (codes.numpy() == expected[:, order].T).all()


def test_once_gives_every_row_in_order(rows_store):
    rows = rows_store.rows("validation")
    batches = RowBatches(rows, rows_store.tokenizer, 1, 32)
    parts = list(batches.once(30))
    assert sum(part.shape[1] for part in parts) == len(rows) and parts[0].shape[1] == 30
    assert (rows_store.tokenizer.codes(np.array(rows)) == torch.cat(parts, 1).numpy().T).all()


# --- documents ---


@pytest.fixture(scope="module")
def documents_store(tmp_path_factory):
    table = mixed_table()
    schema = schema_of(table, group_by=("customer",), order_by=("visit",))
    return prepare(table, tmp_path_factory.mktemp("documents") / "store", schema=schema, splits=(0.9, 0.1))


def test_each_row_is_scored_once_an_epoch_with_its_codes(documents_store):
    tokenizer, documents = documents_store.tokenizer, documents_store.documents("train")
    order = np.random.default_rng(0).permutation(tokenizer.num_slots)
    batches = DocumentBatches(documents, tokenizer, 3, 4, max_rows=5, stride=3, slot_order=order)
    windows = batches.windows
    assert windows.rows.max() == 5 and documents.rows.max() > 5
    seen = {}
    for step in range(-(-len(windows) // 4)):
        items = batches.at(step)[: len(windows) - 4 * step]
        batch = batches.batch(items)
        for b, w in enumerate(items):
            d, first = int(windows.document[w]), int(windows.first_row[w])
            assert bool(batch.begins[b]) == (first == 0)
            whole = first + windows.rows[w] == documents.rows[d]
            assert bool(batch.ends[b]) == (whole and windows.rows[w] < 5)
            codes = tokenizer.codes(documents.document(d, first, int(windows.rows[w])))
            for r in range(len(batch.scored)):
                if r >= batch.lengths[b]:
                    assert not batch.scored[r, b] and not batch.codes[r, :, b].any()
                    assert not batch.ids[r, :, b].any()
                    continue
                assert (batch.codes[r, :, b].numpy() == codes[r, order]).all()
                assert (batch.ids[r, :, b].numpy() == (codes + tokenizer.slot_offsets)[r, order]).all()
                if batch.scored[r, b]:
                    seen[d, first + r] = seen.get((d, first + r), 0) + 1
    assert seen == {(d, r): 1 for d in range(len(documents)) for r in range(documents.rows[d])}


def test_a_window_may_score_nothing_but_the_end(documents_store):
    documents = documents_store.documents("train")
    exact = int(documents.rows[0])
    batches = DocumentBatches(documents, documents_store.tokenizer, 0, 4, max_rows=exact, stride=exact - 1)
    of_first = np.flatnonzero(batches.windows.document == 0)
    batch = batches.batch(of_first)
    assert len(of_first) == 2 and batch.lengths.tolist() == [exact, 1]
    assert batch.scored.sum(0).tolist() == [exact, 0] and batch.ends.tolist() == [False, True]
    assert batch.begins.tolist() == [True, False]


def test_validation_of_documents_scores_all_rows(documents_store):
    batches = DocumentBatches(documents_store.documents("train"), documents_store.tokenizer, 0, 4, max_rows=6)
    scored = sum(int(batch.scored.sum()) for batch in batches.once(7))
    assert scored == documents_store.manifest.splits["train"].rows


def test_batches_are_no_longer_than_their_longest_window(documents_store):
    documents = documents_store.documents("train")
    batches = DocumentBatches(documents, documents_store.tokenizer, 0, 1, max_rows=100)
    for step in range(10):
        batch = batches.next_documents()
        assert len(batch.codes) == int(batch.lengths[0]) == documents.rows[batches.at(step)[0]]


def test_micro_batches_by_length_hold_the_same_windows_with_less_padding(documents_store):
    documents = documents_store.documents("train")
    batches = DocumentBatches(documents, documents_store.tokenizer, 0, 24, max_rows=100)
    batch = batches.next_documents()
    even, short = micro_batches(batch, 5), micro_batches(batch, 5, by_length=True)
    assert {len(piece.codes) for piece in even} == {int(batch.lengths.max())}
    assert [len(piece.codes) for piece in short] == [int(piece.lengths.max()) for piece in short]
    assert sum(piece.codes.numel() for piece in short) < 0.8 * sum(piece.codes.numel() for piece in even)

    def windows(pieces):
        return sorted(
            (p.codes[:n, :, b].tolist(), p.ids[:n, :, b].tolist(), p.scored[:n, b].tolist(), bool(p.ends[b]))
            for p in pieces
            for b, n in enumerate(p.lengths.tolist())
        )

    assert windows(short) == windows([batch])


# --- rows as sets ---


def set_batches(absent_age=False, seed=3, share=0.0):
    table, tokenizer = fitted()
    owner = np.repeat(
        np.arange(len(tokenizer.columns)), [s.stop - s.start for s in tokenizer.column_slots.values()]
    )
    absent = np.zeros(tokenizer.num_slots, bool)
    absent[tokenizer.column_slots["age"].start] = absent_age
    orders = SlotOrders(owner, share, seed)
    rows = tokenizer.encode(table)
    batches = SetBatches(rows, tokenizer, seed, 32, np.arange(tokenizer.num_slots), orders, absent)
    return batches, table, tokenizer


def test_orders_of_rows_depend_on_the_position_not_on_ranks_and_change_with_the_epoch():
    batches, *_ = set_batches()
    whole = batches.batch_at(5)
    parts = [batches.batch_at(5, rank, 4) for rank in range(4)]
    for name in ("codes", "order"):
        assert torch.equal(torch.cat([getattr(p, name) for p in parts], 1), getattr(whole, name))
    assert torch.equal(batches.batch_at(5).order, whole.order)
    assert whole.scored is None
    first = {int(i): batches.batch_at(s).order[:, b] for s in range(15) for b, i in enumerate(batches.at(s))}
    later = {
        int(i): batches.batch_at(s).order[:, b] for s in range(16, 31) for b, i in enumerate(batches.at(s))
    }
    same = [torch.equal(first[i], later[i]) for i in first.keys() & later.keys()]
    assert len(same) > 300 and np.mean(same) < 0.02


def test_validation_rows_keep_their_order():
    batches, *_ = set_batches()
    items = np.arange(40)
    assert torch.equal(batches.batch(items).order, batches.batch(items).order)
    assert torch.equal(batches.batch(items).order[:, 9:], batches.batch(items[9:]).order)


def test_absent_cells_stand_last_and_do_not_count():
    batches, table, tokenizer = set_batches(absent_age=True)
    items = np.arange(200)
    batch = batches.batch(items)
    slots = tokenizer.column_slots["age"]
    missing = table["age"].is_null().to_numpy(zero_copy_only=False)[items]
    assert missing.any()
    for row in items:
        order = batch.order[:, row].tolist()
        scored = {s for s in range(tokenizer.num_slots) if batch.scored[s, row]}
        gone = set(range(slots.start, slots.stop)) if missing[row] else set()
        assert scored == set(range(tokenizer.num_slots)) - gone
        assert set(order[: len(scored)]) == scored
    only = batches.batch(items[missing])
    assert len(only.order) == tokenizer.num_slots - (slots.stop - slots.start)


def test_micro_batches_are_pieces_of_the_batch():
    batches, *_ = set_batches(absent_age=True)
    batch = batches.batch_at(0)
    pieces = micro_batches(batch, 12)
    assert [p.codes.shape[1] for p in pieces] == [12, 12, 8]
    for name in ("codes", "order", "scored"):
        assert torch.equal(torch.cat([getattr(p, name) for p in pieces], 1), getattr(batch, name))
