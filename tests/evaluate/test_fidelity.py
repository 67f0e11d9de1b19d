import warnings

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate.association import association, ranks
from nemo_tabular.evaluate.fidelity import (
    _cramers_v,
    marginal_accuracy,
    measure_fidelity,
    sdmetrics_quality,
    spike_errors,
)
from nemo_tabular.evaluate.tables import align


def coded(real, synthetic):
    tables = align(real, real, synthetic)
    return tables.train, tables.synthetic


def test_sdmetrics_scores_are_those_of_the_raw_tables(train, synthetic):
    """Codes, seconds and our own average over dependent pairs change nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sdmetrics.reports.single_table import QualityReport

        sdtypes = {"age": "numerical", "job": "categorical", "gain": "numerical", "wage": "numerical",
                   "rich": "boolean", "day": "datetime"}  # fmt: skip
        report = QualityReport()
        metadata = {"columns": {name: {"sdtype": kind} for name, kind in sdtypes.items()}}
        report.generate(train, synthetic, metadata, verbose=False)
    theirs = report.get_properties().set_index("Property")["Score"]
    figures, details, _ = sdmetrics_quality(*coded(train, synthetic))
    assert figures["shapes"].value == pytest.approx(theirs["Column Shapes"], abs=1e-9)
    if hasattr(report, "real_association_threshold"):  # before that SDMetrics averaged over all pairs
        assert figures["trends"].value == pytest.approx(theirs["Column Pair Trends"], abs=1e-9)
    assert set(details["shapes"]) == set(train.columns)
    assert len(details["trends"]) == 15


def test_cramers_v_is_scipys():
    from scipy.stats.contingency import association as scipy_association

    rng = np.random.default_rng(0)
    one = rng.integers(0, 4, 500)
    two = (one + rng.integers(0, 3, 500)) % 5
    table = pd.crosstab(one, two).to_numpy()
    assert _cramers_v(one, two) == pytest.approx(scipy_association(table, method="cramer"))


def test_marginals_by_hand():
    real = pd.DataFrame({"a": list("xxyz"), "b": list("ppqq")})
    synthetic = pd.DataFrame({"a": list("xyyz"), "b": list("pqqq")})
    one, two = coded(real, synthetic)
    assert marginal_accuracy(one, two, 1)[1] == {"a": 0.75, "b": 0.75}
    assert marginal_accuracy(one, two, 2)[0].value == pytest.approx(1 - (0.25 + 0.25) / 2)  # xp -> yq


def test_independent_columns_keep_the_marginals_and_lose_the_pairs(train):
    one, two = coded(train, train)
    floor = two.shuffled_columns(np.random.default_rng(0))
    assert marginal_accuracy(one, floor, 1)[0].value == 1
    accuracies = [marginal_accuracy(one, floor, ways)[0].value for ways in (1, 2, 3)]
    assert accuracies[0] > accuracies[1] > accuracies[2]
    assert measure_fidelity(one, two).figures["marginals_3"].value == 1


def test_triples_are_sampled_by_statement(monkeypatch, train, synthetic):
    monkeypatch.setattr("nemo_tabular.evaluate.fidelity.MAX_TRIPLES", 7)
    _, scores, notes = marginal_accuracy(*coded(train, synthetic), 3)
    assert len(scores) == 7
    assert notes == ("3-way marginals: 7 of 20 triples of columns, drawn at random",)


def test_spike_error_by_hand():
    """Half of the zeros smeared: .35 of the mass left the spike; the column without spikes does not count."""
    rng = np.random.default_rng(0)
    values = np.where(np.arange(1000) < 700, 0.0, rng.normal(10, 1, 1000))
    smeared = np.where(np.arange(1000) < 350, 0.0, rng.normal(10, 1, 1000))
    real = pd.DataFrame({"spiky": values, "smooth": rng.normal(0, 1, 1000)})
    errors = spike_errors(*coded(real, real.assign(spiky=smeared)))
    assert errors == {"spiky": pytest.approx(0.35)}
    assert spike_errors(*coded(real, real)) == {"spiky": 0}


def test_a_table_full_of_holes(train, synthetic):
    holes = np.random.default_rng(0).random(train.shape) < 0.5
    findings = measure_fidelity(*coded(train.mask(holes), synthetic.mask(~holes)))
    assert all(np.isfinite(f.value) for f in findings.figures.values())
    assert measure_fidelity(*coded(train, synthetic.mask(holes))).figures["missing"].value > 0.4


def test_association_signs_bounds_and_independence(train):
    table, _ = coded(train.assign(opposite=-(train["age"] ** 3)), train.assign(opposite=0.5))
    names = [c.name for c in table.columns]
    matrix = association(table)
    at = {n: i for i, n in enumerate(names)}
    assert matrix[at["age"], at["opposite"]] == pytest.approx(-1)
    assert matrix[at["age"], at["job"]] > 0.5
    assert matrix[at["gain"], at["job"]] < 0.1
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.nanmax(np.abs(matrix)) <= 1


def test_a_constant_column_correlates_with_nothing(train):
    table, _ = coded(train.assign(age=1), train)
    assert np.isnan(association(table)[0, 1:]).all()


def test_ranks_share_ties():
    np.testing.assert_array_equal(ranks(np.array([5.0, np.nan, 1.0, 5.0])), [2.5, np.nan, 1, 2.5])


def test_long_categories_are_scored_as_sdmetrics_would(monkeypatch, train, synthetic):
    usual = sdmetrics_quality(*coded(train, synthetic))[1]["shapes"]
    monkeypatch.setattr("nemo_tabular.evaluate.fidelity.LONG_CATEGORY", 1)
    assert sdmetrics_quality(*coded(train, synthetic))[1]["shapes"] == pytest.approx(usual, abs=1e-6)


def test_an_id_column_does_not_take_forever(train, synthetic):
    frames = [f.assign(code=[f"c{i // 2}" for i in range(len(f))]) for f in (train, synthetic)]
    real, other = (pd.concat([f] * 20, ignore_index=True) for f in frames)
    real["code"], other["code"] = [[f"c{i // 3}" for i in range(len(real))]] * 2
    figures, details, _ = sdmetrics_quality(*coded(real, other))
    assert details["shapes"]["code"] == 1 and figures["trends_all"].value > 0.5


def test_wide_tables_pair_a_sample_of_columns_by_statement(monkeypatch, train, synthetic):
    monkeypatch.setattr("nemo_tabular.evaluate.fidelity.PAIRED_COLUMNS", 4)
    _, details, notes = sdmetrics_quality(*coded(train, synthetic))
    assert len(details["trends"]) == 6 and len(details["shapes"]) == 6
    assert notes == ("pair trends: 4 of 6 columns, drawn at random",)
