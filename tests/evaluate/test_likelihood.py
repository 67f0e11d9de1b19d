import numpy as np
import pytest

from nemo_tabular.errors import ConfigError, GenerationError, SchemaError
from nemo_tabular.evaluate import evaluate
from nemo_tabular.readers import open_table
from nemo_tabular.schema import infer_schema


class Model:
    """Scores rows by a function of their ages: a stand-in for what only depends on `log_prob`."""

    def __init__(self, table, score):
        self.schema, self.score = infer_schema(open_table(table)), score

    def log_prob(self, table, *, unseen=None):
        assert unseen == "nearest"
        return self.score(table.to_pandas())


@pytest.fixture
def measured(train, test, synthetic):
    def run(score):
        model = Model(train, score)
        return evaluate(train, test, synthetic, scores=["likelihood"], model=model)

    return run


def test_a_model_that_knows_no_member_passes_and_its_controls_hold(measured):
    found = measured(lambda rows: -20 + 0.01 * rows["age"].to_numpy()).measured["likelihood"]
    assert found.figure.low < 0.5 < found.figure.high and found.valid
    assert found.floor > 0.99, "a model that has half learnt the training table by heart is found out"


def test_a_model_that_learnt_its_rows_by_heart_is_found_out(measured, train):
    def keys(rows):
        return list(zip(rows["age"], rows["gain"], rows["day"], strict=True))

    known = set(keys(train))

    def by_heart(rows):
        return np.array([-10.0 if key in known else -20.0 for key in keys(rows)])

    report = measured(by_heart)
    assert report.measured["likelihood"].figure.low > 0.9
    assert report.verdicts[0].grade == "poor"
    assert "the model's likelihood tells members with an AUC of" in report.verdicts[0].sentence
    assert "1,500 of 1,500 training rows and 800 of 800 test rows" in report.notes[-1]


def test_a_model_of_histories_says_that_it_has_no_likelihood_of_rows(measured):
    def refuse(rows):
        raise GenerationError("log_prob of histories is not offered")

    report = measured(refuse)
    assert report.scores == {}
    assert report.notes[-1] == ("membership by likelihood: log_prob of histories is not offered; left out")


def test_a_model_of_another_table(train, test, synthetic):
    model = Model(train.rename(columns={"age": "years"}), lambda rows: np.zeros(len(rows)))
    with pytest.raises(SchemaError, match=r"the model cannot score these rows: .*years"):
        evaluate(train, test, synthetic, scores=["likelihood"], model=model)


def test_without_a_model_there_is_no_likelihood(train, test, synthetic):
    with pytest.raises(ConfigError, match="membership by likelihood needs the model: say which with model"):
        evaluate(train, test, synthetic, scores=["likelihood"])
