import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate.distances import nearest
from nemo_tabular.evaluate.privacy import measure_privacy, overlap
from nemo_tabular.evaluate.tables import align


@pytest.fixture(scope="module")
def fresh(train, test, synthetic):
    return measure_privacy(align(train, test, synthetic))


def test_fresh_rows_pass(fresh):
    figures = fresh[0].figures
    assert figures["copies"].low <= fresh[1].figures["copies"].value + 0.001
    assert 0.45 < figures["dcr_share"].value < 0.55
    assert 0.45 < figures["membership"].value < 0.55
    assert figures["near_copies"].value < 0.03


def test_the_training_table_itself_fails_every_score(train, test):
    figures = measure_privacy(align(train, test, train))[0].figures
    assert figures["copies"].value == 1
    assert figures["dcr_share"].value > 0.6
    assert figures["near_copies"].value > 0.25
    assert figures["membership"].value > 0.9
    assert figures["nndr"].value < 0.9


def test_the_controls_stand_beside(fresh):
    _, held_out, training = fresh
    assert held_out.figures["copies"].value < 0.01 and training.figures["copies"].value == 1
    assert abs(held_out.figures["dcr_share"].value - 0.5) < 0.08 < training.figures["dcr_share"].value - 0.5


def test_a_table_that_is_half_copied_lies_between(train, test, synthetic):
    mixed = pd.concat([train.iloc[:750], synthetic.iloc[:750]])
    figures = measure_privacy(align(train, test, mixed))[0].figures
    assert figures["copies"].value == pytest.approx(0.5, abs=0.01)
    assert figures["copies"].low < 0.5 < figures["copies"].high


def test_distances_are_those_of_a_direct_computation(train, test, synthetic):
    tables = align(train.iloc[:80], test.iloc[:60], synthetic.iloc[:40])
    found = nearest(tables.synthetic, tables.train, tables.train)
    sorted_columns = {n: np.sort(v[~np.isnan(v)]) for n, v in tables.train.data.items()}

    def rank(name, value):
        column = sorted_columns[name]
        return (np.searchsorted(column, value) + np.searchsorted(column, value, "right")) / 2 / len(column)

    for i in range(5):
        squared = np.zeros(80)
        for column in tables.columns:
            x, y = tables.synthetic[column.name][i], tables.train[column.name]
            for j in range(80):
                if np.isnan(x) or np.isnan(y[j]):
                    squared[j] += np.isnan(x) != np.isnan(y[j])
                elif column.discrete:
                    squared[j] += x != y[j]
                else:
                    squared[j] += (rank(column.name, x) - rank(column.name, y[j])) ** 2
        assert found.first[i] == pytest.approx(np.sqrt(np.sort(squared)[0]))
        assert found.second[i] == pytest.approx(np.sqrt(np.sort(squared)[1]))


def test_overlap_of_test_and_train(train, test, synthetic):
    share, natural = overlap(align(train, pd.concat([test.iloc[:300], train.iloc[:100]]), synthetic))
    assert 0.25 <= share < 0.26 and natural < 0.01


def test_tiny_tables_count_copies_only(train, test):
    findings, _, _ = measure_privacy(align(train.iloc[:20], test.iloc[:20], train.iloc[:5]))
    assert set(findings.figures) == {"copies"} and findings.figures["copies"].value == 1
    assert findings.notes == (
        "privacy: distances need 50 rows of train and test; only exact copies are counted",
    )


def test_a_column_with_thousands_of_values(train, test, synthetic):
    frames = [f.assign(code=[f"c{i % 700}" for i in range(len(f))]) for f in (train, test, synthetic)]
    assert 0.4 < measure_privacy(align(*frames))[0].figures["dcr_share"].value < 0.6
