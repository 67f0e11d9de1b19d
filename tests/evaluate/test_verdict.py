import pytest

from nemo_tabular.evaluate import evaluate
from nemo_tabular.evaluate.scores import Figure, Measured
from nemo_tabular.evaluate.verdict import part_of_way, told_apart, verdicts


def graded(report):
    return {v.area: v.grade for v in report.verdicts}


def test_fresh_rows_are_good_everywhere(report):
    assert set(graded(report).values()) <= {"good", "fair"}


def test_the_training_table_is_faithful_and_not_private(train, test):
    found = graded(evaluate(train, test, train, scores=["fidelity", "privacy"]))
    assert found["fidelity"] == "good" and found["privacy"] == "poor"


def test_independent_columns_are_private_and_not_faithful(train, test, synthetic):
    shuffled = synthetic.apply(lambda c: c.sample(frac=1, random_state=ord(c.name[0])).to_numpy())
    found = {v.area: v for v in evaluate(train, test, shuffled, target="rich").verdicts}
    assert found["fidelity"].grade == "poor" and found["detection"].grade == "poor"
    assert found["utility"].grade == "poor" and found["privacy"].grade == "good"
    assert "can tell synthetic rows from unseen real ones" in found["detection"].sentence


@pytest.mark.parametrize(("auc", "grade"), [(0.5, "good"), (0.62, "fair"), (0.9, "poor")])
def test_detection(auc, grade):
    assert verdicts({"c2st": Measured(Figure(auc))})[0].grade == grade


def test_privacy_is_open_where_no_control_can_fail():
    measured = {"dcr_share": Measured(Figure(0.5), 0.5, 0.505, fault="the training table itself passes it")}
    assert verdicts(measured)[0].grade == "open"


@pytest.mark.parametrize(
    ("name", "figure", "words"),
    [
        (
            "nndr",
            Figure(0.5, 0.48, 0.52),
            "the nearest training row is too near (ratio 0.50, held-out rows 0.80)",
        ),
        ("likelihood", Figure(0.7, 0.68, 0.72), "the model's likelihood tells members with an AUC of 0.700"),
        ("singling_out", Figure(0.6, 0.57, 0.63), "60.0\u00a0% of the rows singled out are training rows"),
    ],
)
def test_every_privacy_alarm_is_told_in_words(name, figure, words):
    verdict = verdicts({name: Measured(figure, 0.8 if name == "nndr" else 0.5, 0.9)})[0]
    assert verdict.grade == "poor" and words in verdict.sentence


def test_scores_that_independent_columns_pass_are_told_apart(report):
    blind, telling = told_apart(report.measured)
    assert {"shapes", "marginals_1", "c2st_logistic"} <= set(blind)
    assert {"trends", "marginals_2", "marginals_3", "c2st"} <= set(telling)


def test_the_way_from_floor_to_real_rows():
    assert part_of_way("trends", Measured(Figure(0.8), 0.9, 0.4)) == pytest.approx(0.8)
    assert part_of_way("c2st", Measured(Figure(0.6), 0.5, 1.0)) == pytest.approx(0.8)
    assert part_of_way("history_lengths", Measured(Figure(0.95), 0.9, 1.0)) is None, "the floor is no worse"


def test_copies_are_judged_by_what_is_natural():
    natural = {
        "copies": Measured(Figure(0.2, 0.19, 0.21), 0.2, 1.0),
        "dcr_share": Measured(Figure(0.5), 0.5, 0.8),
    }
    assert verdicts(natural)[0].grade == "good"
    copied = natural | {"copies": Measured(Figure(0.2, 0.19, 0.21), 0.05, 1.0)}
    assert verdicts(copied)[0].grade == "poor"
    assert "20.0\u00a0% are exact copies, 5.0\u00a0% of held-out rows are" in verdicts(copied)[0].sentence
