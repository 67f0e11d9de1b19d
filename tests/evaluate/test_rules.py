import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate.rules import broken_share, find_rules, rule_findings
from nemo_tabular.evaluate.tables import align


@pytest.fixture(scope="module")
def ruled() -> pd.DataFrame:
    """city determines zip, start <= end, both readings are missing together, pregnant implies female."""
    rng = np.random.default_rng(0)
    rows = 2000
    city = rng.choice(["Ulm", "Bonn", "Kiel"], rows)
    start = rng.integers(0, 100, rows)
    gone = rng.random(rows) < 0.2
    sex = rng.choice(["f", "m"], rows)
    return pd.DataFrame(
        {
            "city": city,
            "zip": pd.Series(city).map({"Ulm": "89", "Bonn": "53", "Kiel": "24"}),
            "start": start,
            "end": start + rng.integers(0, 30, rows),
            "one": np.where(gone, np.nan, rng.normal(0, 1, rows)),
            "two": np.where(gone, np.nan, rng.normal(0, 1, rows)),
            "sex": sex,
            "pregnant": np.where((sex == "f") & (rng.random(rows) < 0.4), "yes", "no"),
            "free": rng.normal(0, 1, rows),
        }
    )


def test_rules_are_found_and_nothing_else(ruled):
    rules, _ = find_rules(align(ruled, ruled, ruled).train)
    assert {str(r) for r in rules} == {
        "city determines zip",
        "zip determines city",
        "start ≤ end",
        "one is missing together with two",
        "pregnant = yes implies sex = f",
        "sex = m implies pregnant = no",
    }


def test_broken_rules_are_counted(ruled):
    synthetic = ruled.copy()
    synthetic.loc[:99, "zip"] = "89"
    synthetic.loc[:499, "end"] = -1
    tables = align(ruled, ruled, synthetic)
    own, ceiling, floor = rule_findings(tables.train, tables.test, tables.synthetic, tables.synthetic)
    broken = {r["rule"]: r["synthetic"] for r in own.details["rules"]}
    wrong = (ruled["city"][:100] != "Ulm").sum() / 2000
    assert broken["city determines zip"] == pytest.approx(wrong)
    assert broken["start ≤ end"] == 0.25
    assert own.details["rules"][0]["rule"] == "start ≤ end", "the most broken comes first"
    assert ceiling.figures["rules"].value == 0 < own.figures["rules"].value == floor.figures["rules"].value


def test_one_wrong_row_hides_no_rule(ruled):
    spoilt = ruled.copy()
    spoilt.loc[5, "zip"] = "89" if spoilt.loc[5, "city"] != "Ulm" else "53"
    rules, _ = find_rules(align(spoilt, ruled, ruled).train)
    found = {str(r): r.train for r in rules}
    assert found["city determines zip"] == pytest.approx(1 / 2000)


def test_values_that_train_has_not_seen_contradict_nothing(ruled):
    tables = align(ruled, ruled, ruled.assign(city="Rom"))
    rule = next(r for r in find_rules(tables.train)[0] if str(r) == "city determines zip")
    assert broken_share(rule, tables.train, tables.synthetic) == 0


def test_wide_tables_are_searched_by_statement(monkeypatch, ruled):
    monkeypatch.setattr("nemo_tabular.evaluate.rules.MAX_COLUMNS", 2)
    rules, notes = find_rules(align(ruled, ruled, ruled).train)
    assert len(rules) == 2 and notes == ("rules: searched among the first 2 of 9 columns",)
