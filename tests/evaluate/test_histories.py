import numpy as np
import pandas as pd
import pytest

from nemo_tabular.errors import ConfigError
from nemo_tabular.evaluate import evaluate
from nemo_tabular.evaluate.histories import measure_histories, resampled_histories, sorted_histories
from nemo_tabular.evaluate.tables import align
from nemo_tabular.schema import Column, Schema

SCHEMA = Schema(
    (
        Column("customer", "integer", "int64", "digits"),
        Column("day", "date", "date32[day]", "calendar"),
        Column("branch", "category", "string", "category"),
        Column("state", "category", "string", "category"),
        Column("balance", "float", "double", "digits"),
    ),
    group_by=("customer",),
    order_by=("day",),
)


def histories(groups: int, seed: int) -> pd.DataFrame:
    """Customers with one branch, a sticky state, a random walk and about two days between the rows."""
    rng = np.random.default_rng(seed)
    parts = []
    for customer in range(groups):
        rows = rng.integers(5, 25)
        flips = np.cumsum(rng.random(rows) < 0.1) % 2
        parts.append(
            pd.DataFrame(
                {
                    "customer": 1000 * seed + customer,
                    "day": pd.Timestamp("2020-01-01")
                    + pd.to_timedelta(rng.geometric(0.5, rows).cumsum(), "D"),
                    "branch": rng.choice(["north", "south", "west"]),
                    "state": np.where(flips, "idle", "busy"),
                    "balance": rng.normal(0, 5) + rng.normal(0, 1, rows).cumsum(),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def real():
    return histories(150, 1), histories(120, 2)


def test_fresh_histories_pass(real):
    report = evaluate(*real, histories(150, 3), schema=SCHEMA, scores=["histories"])
    found = report.scores
    assert found["history_lengths"] > 0.85 and found["history_gaps"] > 0.95
    assert found["history_transitions"] > 0.85
    assert found["history_autocorrelation"] < 0.05 and found["history_constants"] == 0
    assert report.measured["history_constants"].floor > 0.9
    assert report.measured["history_transitions"].floor < report.measured["history_transitions"].ceiling - 0.1
    assert "customer: tells histories apart and is itself not compared" in report.notes
    assert report.verdicts[0].grade in ("good", "fair")
    for measured in report.measured.values():
        assert measured.figure.low <= measured.figure.value <= measured.figure.high
        assert measured.ceiling is not None and measured.floor is not None
    assert 0 < report.measured["history_gaps"].figure.high - report.measured["history_gaps"].figure.low < 0.1


def test_rows_without_memory_fail(real):
    synthetic = histories(150, 3)
    for name in ("branch", "state", "balance"):
        synthetic[name] = synthetic[name].sample(frac=1, random_state=ord(name[0])).to_numpy()
    report = evaluate(*real, synthetic, schema=SCHEMA, scores=["histories"])
    assert report.scores["history_constants"] > 0.9 and report.scores["history_autocorrelation"] > 0.4
    assert report.verdicts[0].grade == "poor"


def test_the_order_of_the_rows_in_the_file_does_not_matter(real):
    synthetic = histories(150, 3)
    mixed = synthetic.sample(frac=1, random_state=0)
    one, two = (evaluate(*real, s, schema=SCHEMA, scores=["histories"], references=False).scores
                for s in (synthetic, mixed))  # fmt: skip
    assert one == pytest.approx(two)


def test_few_histories_and_no_group_by(real):
    report = evaluate(*real, histories(5, 3), schema=SCHEMA, scores=["histories"])
    assert report.scores == {} and report.notes[-1] == "histories: 5 are too few, 10 are needed; left out"
    with pytest.raises(ConfigError, match="scores of histories need a schema with group_by"):
        evaluate(*real, histories(20, 3), scores=["histories"])


def test_whole_histories_are_drawn_again():
    table = align(*[histories(40, 1)] * 3, schema=SCHEMA)
    found = sorted_histories(table.train, table.groups["train"], table.order_by)
    drawn = resampled_histories(found, 0.5, np.random.default_rng(0))
    assert len(drawn.lengths) == 20 and set(drawn.lengths) <= set(found.lengths)
    assert measure_histories(found, drawn, ("day",)).figures["history_constants"].value == 0


def test_lengths_and_gaps_are_drawn(real, tmp_path):
    evaluate(*real, histories(150, 3), schema=SCHEMA, scores=["histories"], references=False).save(tmp_path)
    names = {p.name for p in (tmp_path / "plots").iterdir()}
    assert {"histories_lengths.png", "histories_gaps.png"} <= names
    assert "How long histories are" in (tmp_path / "report.html").read_text()
