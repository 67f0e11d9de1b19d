import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate.singling import singling_out
from nemo_tabular.evaluate.tables import align


@pytest.fixture(scope="module")
def tables(train, test, synthetic):
    return align(train.iloc[:800], test, synthetic)


def test_fresh_rows_single_out_training_and_unseen_rows_alike(tables):
    figure = singling_out(tables.synthetic, tables.train, tables.test, tables.train)
    assert figure.low < 0.5 < figure.high and figure.high - figure.low < 0.2


def test_the_training_table_singles_out_its_own_rows(tables):
    assert singling_out(tables.train, tables.train, tables.test, tables.train).low > 0.7
    assert singling_out(tables.test, tables.train, tables.test, tables.train).high < 0.3


def test_the_interval_covers_the_truth_as_often_as_it_says(train, test, synthetic):
    """Fresh thirds of one pool, many times: .5 must lie within nearly always, and not by being too wide."""
    pool = pd.concat([train, test, synthetic], ignore_index=True)
    rng, hits, widths = np.random.default_rng(0), 0, []
    for _ in range(15):
        shuffled = pool.iloc[rng.permutation(len(pool))]
        tables = align(*(shuffled.iloc[i : i + 1200] for i in (0, 1200, 2400)))
        figure = singling_out(tables.synthetic, tables.train, tables.test, tables.train)
        hits += figure.low <= 0.5 <= figure.high
        widths.append(abs(figure.value - 0.5) / ((figure.high - figure.low) / 3.92))
    assert hits >= 12
    assert np.sqrt(np.mean(np.square(widths))) > 0.5


def test_too_few_columns_or_guesses_say_nothing(tables):
    one = align(*[pd.DataFrame({"x": np.arange(100) % 7})] * 3)
    assert singling_out(one.train, one.train, one.test, one.train) is None
    two = align(*[pd.DataFrame({"x": np.arange(100) % 7, "y": 1})] * 3)
    assert singling_out(two.train, two.train, two.test, two.train) is None
