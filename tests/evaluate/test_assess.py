import json
import re

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import ConfigError, SchemaError
from nemo_tabular.evaluate import evaluate


def test_every_area_is_scored_beside_real_rows_and_a_worthless_table(report):
    assert {"shapes", "trends", "spikes", "c2st", "utility_auc", "dcr_share", "copies"} <= set(report.scores)
    for name in ("trends", "marginals_2", "utility_auc"):
        measured = report.measured[name]
        assert measured.floor < measured.ceiling
        assert abs(measured.figure.value - measured.ceiling) < abs(measured.figure.value - measured.floor)
    assert report.measured["c2st"].floor > 0.8


def test_the_same_seed_gives_the_same_report(report, train, test, synthetic):
    again = evaluate(train, test, synthetic, target="rich", references=False)
    assert again.scores == report.scores


def test_scores_can_be_chosen_by_area_and_by_name(train, test, synthetic):
    report = evaluate(train, test, synthetic, scores=["detection", "copies"], references=False)
    assert set(report.scores) == {"c2st", "c2st_logistic", "copies"}
    assert report.measured["c2st"].ceiling is None


def test_without_a_target_utility_is_left_out(train, test, synthetic):
    report = evaluate(train, test, synthetic, scores=["spikes"])
    assert set(report.scores) == {"spikes"}
    with pytest.raises(ConfigError, match="utility scores need a target column: say which with target"):
        evaluate(train, test, synthetic, scores=["utility"])


def test_an_unknown_score_is_named_with_the_nearest(train, test, synthetic):
    with pytest.raises(
        ConfigError, match=r"unknown score 'shape' \(did you mean 'shapes'\?\); known: fidelity"
    ):
        evaluate(train, test, synthetic, scores=["shape"])


def test_json_is_strict_and_holds_everything(report, tmp_path):
    report.to_json(tmp_path / "deep" / "report.json")
    found = json.loads(
        (tmp_path / "deep" / "report.json").read_text(), parse_constant=lambda c: pytest.fail(c)
    )
    assert found["scores"]["shapes"]["value"] == report.scores["shapes"]
    assert found["rows"] == {"train": 1500, "test": 800, "synthetic": 1500}
    assert {c["name"]: c["kind"] for c in found["columns"]}["day"] == "date"
    assert len(found["details"]["association"]["real"]) == 6
    assert found["notes"] == list(report.notes)


def test_printing_shows_value_interval_and_references(report):
    lines = str(report).splitlines()
    assert lines[0] == "1,500 synthetic rows against 1,500 training and 800 test rows"
    line = next(line for line in lines if line.startswith("Boosted trees"))
    assert f"{report.scores['c2st']:.4f}" in line and f"{report.measured['c2st'].floor:.4f}" in line
    assert max(map(len, lines[:-3])) <= 110


def test_an_overlapping_test_set_is_told_with_its_share(train, test, synthetic):
    overlapping = pd.concat([test.iloc[:300], train.iloc[:100]])
    report = evaluate(train, overlapping, synthetic, scores=["copies"])
    assert re.match(
        r"25\.\d\d% of the test rows are also in train, though only 0\.\d\d% of the training rows have a "
        "double within train: the test set overlaps the training set",
        report.notes[0],
    )


def test_big_tables_are_cut_by_statement(monkeypatch, train, test, synthetic):
    monkeypatch.setattr("nemo_tabular.evaluate.assess.FIDELITY_ROWS", 1000)
    monkeypatch.setattr("nemo_tabular.evaluate.assess.DETECTION_ROWS", 500)
    report = evaluate(train, test, synthetic, scores=["fidelity", "detection"], references=False)
    assert "fidelity: train: 1,000 of 1,500 rows, drawn at random" in report.notes
    assert "detection: test: 500 of 800 rows, drawn at random" in report.notes
    assert "detection: 500 of 1,500 synthetic rows, drawn at random" in report.notes


@pytest.mark.parametrize("spoil", ["constant", "missing", "holes", "one row", "one column", "infinite"])
def test_spoiled_tables_still_get_a_report(spoil, train, test, synthetic, tmp_path):
    frames = {
        "constant": [f.assign(age=1, job="x") for f in (train, test, synthetic)],
        "missing": [f.assign(age=np.nan, job=None, day=pd.NaT) for f in (train, test, synthetic)],
        "holes": [f.mask(np.random.default_rng(i).random(f.shape) < 0.5) for i, f in
                  enumerate((train, test, synthetic))],
        "one row": [train.iloc[:1], test.iloc[:1], synthetic.iloc[:1]],
        "one column": [f[["age"]] for f in (train, test, synthetic)],
        "infinite": [f.assign(wage=np.inf) for f in (train, test, synthetic)],
    }[spoil]  # fmt: skip
    report = evaluate(*frames, target="rich" if "rich" in frames[0] else None, references=spoil == "holes")
    report.to_json(tmp_path / "report.json")
    assert str(report)
    assert "copies" in report.scores


def test_mismatch_is_refused_before_any_work(train, test, synthetic):
    with pytest.raises(SchemaError, match="synthetic lacks 'age'"):
        evaluate(train, test, synthetic.drop(columns="age"))


def test_a_test_set_from_another_time_is_told(train, test, synthetic):
    late = test.assign(day=test["day"] + pd.Timedelta(days=700))
    report = evaluate(train, late, synthetic, scores=["detection"])
    assert report.notes[-1].startswith("test and training rows differ: a detector tells them apart, AUC 0.")
    assert report.verdicts[0].grade == "good", "synthetic rows are no easier to tell than training rows"


def test_every_figure_has_its_interval_and_both_references(report):
    for name, measured in report.measured.items():
        assert measured.figure.low <= measured.figure.value <= measured.figure.high, name
        assert measured.ceiling is not None and measured.floor is not None, name


def test_intervals_of_large_tables_come_from_smaller_samples(monkeypatch, train, test, synthetic):
    def half_width(rows):
        monkeypatch.setattr("nemo_tabular.evaluate.assess.RESAMPLED_ROWS", rows)
        figure = evaluate(train, test, synthetic, scores=["marginals_3"]).measured["marginals_3"].figure
        return figure.high - figure.low

    assert half_width(700) == pytest.approx(half_width(1500), rel=0.8)


def test_a_million_rows_are_cut_by_statement(train, test, synthetic):
    many = synthetic.iloc[np.arange(1_000_000) % len(synthetic)]
    report = evaluate(train, test, many, target="rich", references=False)
    assert {
        "fidelity: synthetic: 100,000 of 1,000,000 rows, drawn at random",
        "utility: synthetic: 100,000 of 1,000,000 rows, drawn at random",
    } <= set(report.notes)
    assert "distances of 20,000 of 1,000,000 synthetic rows" in " ".join(report.notes)
    assert "detection: 800 of 1,000,000 synthetic rows" in " ".join(report.notes)
