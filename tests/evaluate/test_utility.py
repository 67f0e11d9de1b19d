import numpy as np
import pytest

from nemo_tabular.evaluate.tables import align
from nemo_tabular.evaluate.utility import measure_utility


def test_classification_ranks_good_above_worthless(train, test, synthetic):
    tables = align(train, test, synthetic)
    target = tables.column("rich")
    good = measure_utility(tables.synthetic, tables.test, target, seeds=2).figures
    bad = measure_utility(
        tables.train.shuffled_columns(np.random.default_rng(0)), tables.test, target
    ).figures
    assert set(good) == {"utility_accuracy", "utility_f1", "utility_auc"}
    assert good["utility_auc"].value > 0.85 and good["utility_accuracy"].value > 0.85
    assert bad["utility_auc"].value < 0.6
    assert good["utility_auc"].low < good["utility_auc"].value < good["utility_auc"].high


def test_f1_is_that_of_the_rarer_class(train, test, synthetic):
    from sklearn.metrics import f1_score

    from nemo_tabular.evaluate.detection import boosted_classifier, model_matrix
    from nemo_tabular.evaluate.tables import CodedTable

    tables = align(train, test, synthetic)
    assert train["rich"].mean() < 0.5
    columns = tuple(c for c in tables.columns if c.name != "rich")
    x = [model_matrix(CodedTable(columns, t.data, t.rows)) for t in (tables.train, tables.test)]
    predicted = boosted_classifier(columns, 0).fit(x[0], train["rich"]).predict(x[1])
    found = measure_utility(tables.train, tables.test, tables.column("rich"), seeds=1).figures["utility_f1"]
    assert found.value == pytest.approx(f1_score(test["rich"], predicted))


def test_more_classes_than_two(train, test, synthetic):
    tables = align(train, test, synthetic)
    found = measure_utility(tables.synthetic, tables.test, tables.column("job"), seeds=1).figures
    assert 0.5 < found["utility_auc"].value <= 1


def test_regression(train, test, synthetic):
    tables = align(train, test, synthetic)
    found = measure_utility(tables.synthetic, tables.test, tables.column("wage"), seeds=1).figures
    assert set(found) == {"utility_r2", "utility_mae"}
    assert found["utility_r2"].value > 0.8
    assert 60 < found["utility_mae"].value < 130, "the noise has a mean absolute value of 80"


def test_a_target_with_one_class_is_left_out_with_a_note(train, test, synthetic):
    tables = align(train, test, synthetic.assign(job="cook"))
    findings = measure_utility(tables.synthetic, tables.test, tables.column("job"))
    assert findings.notes == ("utility: target 'job' has one class only in the training rows; left out",)


def test_rows_without_a_target_are_left_out(train, test, synthetic):
    tables = align(train, test, synthetic.assign(wage=np.nan))
    findings = measure_utility(tables.synthetic, tables.test, tables.column("wage"))
    assert findings.notes == ("utility: fewer than 50 rows with a target; left out",)


def test_a_class_that_the_synthetic_table_forgot(train, test, synthetic):
    tables = align(train, test, synthetic[synthetic["job"] != "nurse"])
    found = measure_utility(tables.synthetic, tables.test, tables.column("job"), seeds=1).figures
    assert np.isfinite(found["utility_auc"].value)
