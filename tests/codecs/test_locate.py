"""Interval starts and positions come in; the look-up must agree with binary search, bit for bit."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs.locate import Locator


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([3, 2**16 - 1, 2**16, 2**20, 2**32 - 1, 2**32, 2**64 - 1]).flatmap(
        lambda last: st.tuples(
            st.just(last),
            st.lists(st.integers(0, last), max_size=50),
            st.lists(st.integers(0, last) | st.integers(0, min(last, 40)), min_size=1, max_size=50),
        )
    )
)
def test_agrees_with_binary_search(case: tuple[int, list[int], list[int]]) -> None:
    last, edges, wanted = case
    starts = np.array(sorted({0, *edges}), np.uint64)
    dtype = np.uint32 if last < 2**32 else np.uint64
    positions = np.array([*wanted, last, 0], dtype)
    expected = np.searchsorted(starts, positions.astype(np.uint64), side="right") - 1
    assert np.array_equal(Locator(starts, last).find(positions), expected)
