"""Samples of known densities come in; the partition must be cells, and a better density than equal mass."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs.cells import MAX_WIDTH, adaptive, cut_wide, equal_mass, equal_width, num_cells

RNG = np.random.default_rng(0)


def held_out(starts: list[int], train: np.ndarray, test: np.ndarray, last: int) -> float:
    """Mean log density of `test` in nats a row, cell masses from `train` plus half a row each."""
    edges = np.array([*starts, last + 1], np.float64)
    counts = np.histogram(train, edges)[0] + 0.5
    density = counts / counts.sum() / np.diff(edges)
    return float(np.log(density[np.searchsorted(edges, test, side="right") - 1]).mean())


COLUMNS = {
    "normal": lambda n: RNG.normal(0, 1, n),
    "heavy tails": lambda n: np.clip(RNG.standard_t(2, n), -200, 200),
    "lognormal": lambda n: np.exp(RNG.normal(0, 1.5, n)),
    "gaps": lambda n: RNG.integers(0, 12, n) * 10 + RNG.uniform(0, 0.1, n),
    "two modes": lambda n: np.where(RNG.random(n) < 0.5, RNG.normal(0, 0.1, n), RNG.normal(50, 5, n)),
    "round numbers": lambda n: np.where(
        RNG.random(n) < 0.3, RNG.integers(0, 40, n) * 25, RNG.uniform(0, 1000, n)
    ),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_better_density_than_equal_mass(name: str) -> None:
    values = COLUMNS[name](40_000)
    low, step = values.min(), (values.max() - values.min()) / 2**24
    positions = np.round((values - low) / step).astype(np.int64)
    train, test, last = np.sort(positions[:20_000]), positions[20_000:], int(positions.max())
    cells = num_cells(len(train))
    ours = held_out(adaptive(train, last, cells, cells), train, test, last)
    plain = held_out(equal_mass(train, last, cells), train, test, last)
    assert ours > plain - 0.002
    if name in ("heavy tails", "gaps", "two modes", "round numbers"):
        assert ours > plain + 0.02


def test_a_uniform_column_gets_even_cells() -> None:
    positions = np.sort(RNG.integers(0, 10**6, 20_000))
    starts = adaptive(positions, 10**6 - 1, 128, 128)
    widths = np.diff([*starts, 10**6])
    assert len(starts) > 100 and widths.max() < 2.5 * widths.mean()


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 50), max_size=60),
    st.integers(1, 40),
    st.sampled_from([50, 2**40, 2**64 - 1]),
)
def test_partitions_tile_the_lattice(values: list[int], cells: int, last: int) -> None:
    sample = np.sort(np.array([v for v in values if v <= last], np.uint64))
    for starts in (
        adaptive(sample, last, cells, cells),
        equal_mass(sample, last, cells),
        equal_width(last, cells),
    ):
        assert (
            starts[0] == 0 and starts == sorted(set(starts)) and starts[-1] <= last and len(starts) <= cells
        )
        cut = cut_wide(starts, last)
        widths = [b - a for a, b in zip(cut, [*cut[1:], last + 1], strict=True)]
        assert min(widths) >= 1 and max(widths) <= MAX_WIDTH and set(starts) <= set(cut)


def test_the_default_number_of_cells() -> None:
    assert [num_cells(n) for n in (1, 500, 32_561, 300_000, 10**9)] == [16, 16, 128, 512, 1024]


def test_more_cells_only_where_they_are_worth_it() -> None:
    smooth = np.sort((RNG.normal(0, 1, 20_000) * 10**6 + 10**7).astype(np.int64))
    assert len(adaptive(smooth, 2 * 10**7, 64, 256)) <= 70
    prices = np.sort(RNG.integers(0, 400, 20_000) * 1000 + 990)
    assert len(adaptive(prices, 400_000, 64, 256)) > 150
