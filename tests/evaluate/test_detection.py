import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nemo_tabular.evaluate.detection import auc_and_variance, linear_matrix, measure_detection, model_matrix
from nemo_tabular.evaluate.tables import align


def test_fresh_rows_cannot_be_told_and_shuffled_ones_can(train, test, synthetic):
    tables = align(train, test, synthetic)
    fresh = measure_detection(tables.test, tables.synthetic).figures
    shuffled = tables.synthetic.shuffled_columns(np.random.default_rng(0))
    told = measure_detection(tables.test, shuffled).figures
    assert fresh["c2st"].low < 0.55 and fresh["c2st"].value < 0.58
    assert told["c2st"].value > 0.8 and told["c2st"].low > 0.75
    assert told["c2st_logistic"].value < 0.65, "a linear model is blind to dependence"


def test_the_same_seed_gives_the_same_figures(train, test, synthetic):
    tables = align(train, test, synthetic)
    one, two = (measure_detection(tables.test, tables.synthetic, seed=5, logistic=False) for _ in range(2))
    assert one == two


def test_too_few_rows_are_left_out_with_a_note(train, test, synthetic):
    tables = align(train, test, synthetic.iloc[:20])
    findings = measure_detection(tables.test, tables.synthetic)
    assert findings.figures == {}
    assert findings.notes == ("detection: 20 rows are too few, 50 are needed; left out",)


def test_auc_is_sklearns_and_its_variance_that_of_a_bootstrap():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 200])
    scores = np.round(rng.normal(labels * 0.7, 1), 1)
    auc, variance = auc_and_variance(labels, scores)
    assert auc == pytest.approx(roc_auc_score(labels, scores))
    again = []
    for _ in range(400):
        index = np.concatenate([rng.integers(0, 300, 300), rng.integers(300, 500, 200)])
        again.append(roc_auc_score(labels[index], scores[index]))
    assert np.sqrt(variance) == pytest.approx(np.std(again), rel=0.15)


def test_long_categories_fit_the_trees_limit(train, test, synthetic):
    frames = [f.assign(code=[f"c{i % 400}" for i in range(len(f))]) for f in (train, test, synthetic)]
    tables = align(*frames)
    assert model_matrix(tables.train)[:, -1].max() == 254
    assert "c2st" in measure_detection(tables.test, tables.synthetic, logistic=False).figures


def test_the_linear_matrix_is_finite_with_gaps_and_constants(train, test, synthetic):
    tables = align(train.assign(age=1, gain=np.nan), test, synthetic)
    assert np.isfinite(linear_matrix(tables.columns, model_matrix(tables.train))).all()


def test_the_column_that_gives_rows_away_is_named(train, test, synthetic):
    tables = align(train, test, synthetic.assign(gain=synthetic["gain"] + 0.001))
    details = measure_detection(tables.test, tables.synthetic, logistic=False, explain=True).details
    assert details["giveaways"][0]["column"] == "gain"
    assert len(details["easiest"]) == 10
    assert all(row["because"][:1] == ["gain"] for row in details["easiest"])
    assert details["easiest"][0]["values"]["day"].startswith("202")
