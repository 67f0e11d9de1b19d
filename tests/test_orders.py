"""Orders of slots: permutations that keep columns together, uniform, functions of (seed, number) alone."""

import itertools
from collections import Counter

import numpy as np

from nemo_tabular.orders import FIRST, LAST, THEN, SlotOrders
from nemo_tabular.uniforms import states_of, uniforms

OWNER = np.array([0, 1, 1, 1, 2, 3, 3])


def columns_of(order_SB: np.ndarray) -> list[tuple[int, ...]]:
    """The columns of each row in its order; fails where slots of a column are apart or turned around."""
    out = []
    for order in order_SB.T:
        assert sorted(order.tolist()) == list(range(len(OWNER)))
        runs = [(c, [int(s) for s in part]) for c, part in itertools.groupby(order, key=lambda s: OWNER[s])]
        assert all(part == sorted(part) for _, part in runs)
        out.append(tuple(int(c) for c, _ in runs))
        assert len(out[-1]) == OWNER[-1] + 1
    return out


def test_every_order_of_the_columns_is_equally_likely_and_slots_stay_together():
    counts = Counter(columns_of(SlotOrders(OWNER, seed=3)(np.arange(24_000))))
    assert len(counts) == 24
    assert max(abs(n - 1000) for n in counts.values()) < 5 * np.sqrt(1000)


def test_an_order_depends_on_the_seed_and_the_rows_number_alone():
    orders = SlotOrders(OWNER, seed=3)
    whole = orders(np.arange(100))
    np.testing.assert_array_equal(whole[:, 40:], orders(np.arange(40, 100)))
    np.testing.assert_array_equal(whole[:, 7:8], orders(np.array([7])))
    assert not np.array_equal(whole, SlotOrders(OWNER, seed=4)(np.arange(100)))


def test_a_share_of_the_rows_stands_in_the_fixed_order():
    fixed = (0, 1, 2, 3)
    assert set(columns_of(SlotOrders(OWNER, fixed_share=1.0)(np.arange(50)))) == {fixed}
    counts = Counter(columns_of(SlotOrders(OWNER, fixed_share=0.4)(np.arange(10_000))))
    assert abs(counts[fixed] / 10_000 - (0.4 + 0.6 / 24)) < 0.02


def test_groups_come_one_after_the_other():
    groups = np.tile([THEN, LAST, FIRST, THEN], (500, 1))
    found = columns_of(SlotOrders(OWNER, fixed_share=0.2, seed=1)(np.arange(500), groups))
    assert set(found) == {(2, 0, 3, 1), (2, 3, 0, 1)}


def test_an_order_tells_nothing_of_the_numbers_that_cells_are_drawn_with():
    rows = np.arange(20_000)
    first = SlotOrders(np.arange(4), seed=5)(rows)[0]
    drawn = uniforms(states_of(5, rows), 0)
    means = [drawn[first == column].mean() for column in range(4)]
    assert np.abs(np.array(means) - 0.5).max() < 0.03
