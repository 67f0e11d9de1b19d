import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate import evaluate
from nemo_tabular.evaluate.controls import alarm, control_fault
from nemo_tabular.evaluate.scores import Figure


@pytest.mark.parametrize(
    ("name", "figure", "raised"),
    [
        ("copies", Figure(0.010, 0.009, 0.011), True),
        ("copies", Figure(0.010, 0.004, 0.016), False),
        ("near_copies", Figure(0.03, 0.025, 0.035), True),
        ("near_copies", Figure(0.015, 0.012, 0.018), False),
        ("dcr_share", Figure(0.56, 0.54, 0.58), True),
        ("dcr_share", Figure(0.56, 0.52, 0.60), False),
        ("nndr", Figure(0.70, 0.69, 0.71), True),
        ("nndr", Figure(0.80, 0.79, 0.81), False),
    ],
)
def test_the_favourable_end_of_the_interval_must_be_beyond_what_is_natural(name, figure, raised):
    natural = {"copies": 0.004, "near_copies": 0.01, "dcr_share": 0.5, "nndr": 0.8}[name]
    assert alarm(name, figure, natural) is raised


def test_a_score_is_evidence_only_if_train_fails_and_held_out_rows_pass():
    passing, failing = Figure(0.50, 0.49, 0.51), Figure(0.70, 0.69, 0.71)
    assert control_fault("dcr_share", passing, failing) == ""
    assert control_fault("dcr_share", passing, passing) == "the training table itself passes it (0.500)"
    assert control_fault("dcr_share", failing, failing) == "held-out real rows fail it too (0.700)"
    assert control_fault("dcr_share", None, failing) == "it could not be tried on real rows"


def test_tables_on_which_copies_are_natural_give_no_verdict(tmp_path):
    """Three coins: every row has hundreds of doubles, so nothing tells a copy from a fresh row."""
    rng = np.random.default_rng(0)
    coins = [pd.DataFrame(rng.integers(0, 2, (600, 3)), columns=list("abc")) for _ in range(3)]
    report = evaluate(*coins, scores=["privacy"])
    assert not report.measured["copies"].valid and not report.measured["dcr_share"].valid
    assert report.verdicts[0].grade == "open"
    assert "not valid here: the training table itself passes it" in str(report)
    report.save(tmp_path)
    assert "Not valid here: the training table itself passes it" in (tmp_path / "report.html").read_text()
    assert '"fault": "the training table itself passes it' in (tmp_path / "report.json").read_text()
