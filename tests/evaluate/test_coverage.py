from nemo_tabular.evaluate.coverage import measure_coverage
from nemo_tabular.evaluate.tables import align


def scores(train, test, synthetic):
    tables = align(train, test, synthetic)
    return {n: f.value for n, f in measure_coverage(tables.train, tables.synthetic).figures.items()}


def test_fresh_rows_are_precise_and_reach_half(train, test, synthetic):
    found = scores(train, test, synthetic)
    assert found["alpha_precision"] > 0.93
    assert 0.4 < found["beta_recall"] < 0.65


def test_a_table_that_repeats_a_few_rows_is_precise_but_reaches_little(train, test, synthetic):
    few = synthetic.iloc[[i % 20 for i in range(1500)]]
    assert scores(train, test, few)["beta_recall"] < scores(train, test, synthetic)["beta_recall"] / 2


def test_wild_rows_are_not_precise(train, test, synthetic):
    wild = synthetic.assign(job="pilot", gain=1e6, age=17)
    assert scores(train, test, wild)["alpha_precision"] < 0.6


def test_too_few_rows(train, test, synthetic):
    tables = align(train, test, synthetic.iloc[:10])
    notes = measure_coverage(tables.train, tables.synthetic).notes
    assert notes == ("precision and recall: 10 rows are too few, 50 are needed; left out",)
