"""Seeds, rows and slots come in; their uniform numbers are judged against plain integers and against
chance."""

import numpy as np
import pytest

from nemo_tabular.uniforms import GOLDEN, row_states, uniforms

MASK = (1 << 64) - 1


def mix(x: int) -> int:
    z = (x + GOLDEN) & MASK
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def test_mix_is_splitmix64():
    # The first two outputs of the reference implementation for seed 1234567 (Vigna, splitmix64.c).
    assert [mix(1234567), mix(1234567 + GOLDEN)] == [6457827717110365317, 3203168211198807973]


@pytest.mark.parametrize("seed", [0, 1, MASK, 1 << 70])
def test_equal_to_plain_integers(seed):
    for first_row in (0, 12345678901):
        states = row_states(seed, first_row, 5)
        for slot in (0, 1, 16, 1 << 20):
            wanted = []
            for row in range(first_row, first_row + 5):
                state = mix(mix(seed & MASK) ^ (row * GOLDEN & MASK))
                wanted.append((mix(state + slot * GOLDEN & MASK) >> 11) * 2.0**-53)
            assert uniforms(states, slot).tolist() == wanted


def test_even_and_unrelated_between_rows_slots_and_seeds():
    u = np.stack([uniforms(row_states(seed, 0, 100_000), slot) for seed in (0, 1) for slot in (0, 1, 2)])
    counts = np.stack([np.bincount((x * 100).astype(int), minlength=100) for x in u])
    chi = ((counts - 1000.0) ** 2 / 1000).sum(1)
    assert (abs(chi - 99) < 5 * np.sqrt(2 * 99)).all()
    related = np.corrcoef(np.concatenate([u[:, :-1], u[:1, 1:]]))
    assert abs(related - np.eye(7)).max() < 0.015
