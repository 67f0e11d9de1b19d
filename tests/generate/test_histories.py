"""Histories of a known law, and real ones, go through the whole pipeline; what is generated is judged.
Lengths and transitions come back, documents end by themselves, keys are new, nothing depends on the batch."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from nemo_tabular import Synthesizer
from nemo_tabular.cli import main
from nemo_tabular.errors import ConfigError, GenerationError, SchemaError, TabularError
from nemo_tabular.generate.histories import numbered
from nemo_tabular.generate.request import HistoryRequest
from nemo_tabular.schema import Column

FIRST = [0.5, 0.3, 0.2]
NEXT = np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.3, 0.3, 0.4]])
ENDS = 0.12  # after every row
WINDOW, CONTEXT = 16, 4
SMALL = {
    "model__hidden_size": 32,
    "data__max_rows": WINDOW,
    "data__context_rows": CONTEXT,
    "data__global_batch_size": 64,
    "trainer__max_steps": 400,
    "trainer__num_threads": 1,
}
USER0 = Path(__file__).parents[3] / "shared/data/ibm_card_transactions/user0_transactions.csv.gz"


def markov_histories(customers: int, seed: int = 0) -> pd.DataFrame:
    """Customers' states, a Markov chain each, of geometric length; amounts follow the state."""
    random = np.random.default_rng(seed)
    rows = []
    for customer in range(customers):
        state = random.choice(3, p=FIRST)
        while True:
            rows.append((f"no. {customer}", "abc"[state], round(random.normal(10 * state, 3), 1)))
            if random.random() < ENDS:
                break
            state = random.choice(3, p=NEXT[state])
    return pd.DataFrame(rows, columns=["customer", "state", "amount"])


@pytest.fixture(scope="module")
def table():
    return markov_histories(3000)


@pytest.fixture(scope="module")
def synthesizer(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return Synthesizer("gpt", **SMALL, run__dir=str(folder / "run")).fit(table, group_by=["customer"])


@pytest.fixture(scope="module")
def made(synthesizer):
    return synthesizer.sample(num_documents=4000, seed=1)


def test_lengths_are_those_of_the_law_also_beyond_a_window(made):
    lengths = made.groupby("customer").size().to_numpy()
    assert len(lengths) == 4000
    share = np.array([(lengths <= n).mean() for n in range(1, 60)])
    law = 1 - (1 - ENDS) ** np.arange(1, 60)
    # 3,000 documents were learnt from and 4,000 drawn: 1.63 / sqrt(n) each at one in a hundred
    assert np.abs(share - law).max() < 1.63 * (3000**-0.5 + 4000**-0.5)
    # the ends at the borders of windows, where the decoder slides, are no rarer nor more frequent
    for n in (WINDOW - 1, WINDOW, 2 * WINDOW - CONTEXT):
        hazard = (lengths == n).sum() / (lengths >= n).sum()
        assert abs(hazard - ENDS) < 4.5 * np.sqrt(ENDS / (lengths >= n).sum())


def test_transitions_are_those_of_the_law(made):
    before = made.groupby("customer").state.shift()
    found = pd.crosstab(before, made.state, normalize="index").to_numpy()
    assert np.abs(found - NEXT).max() < 0.035
    first = made.groupby("customer").state.first().value_counts(normalize=True).sort_index()
    assert np.abs(first - FIRST).max() < 0.04
    means = made.groupby("state").amount.mean()
    assert np.abs(means - [0, 10, 20]).max() < 0.5


def test_documents_end_by_themselves(synthesizer):
    decoder = synthesizer.stream().decoder
    documents = decoder.sample(500, 3, max_rows=1000)
    assert all(document.ended for document in documents)


def test_tables_have_the_real_ones_columns_and_new_keys(made, table):
    assert list(made.columns) == list(table.columns)
    assert made.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    assert made.customer.unique().tolist() == [f"synthetic-{i:06d}" for i in range(1, 4001)]
    assert set(np.round(made.amount * 10, 6) % 1) == {0}


def test_a_document_depends_on_seed_and_number_only(synthesizer, made):
    some = synthesizer.sample(num_documents=30, seed=1, first_document=70)
    names = [f"synthetic-{i:06d}" for i in range(71, 101)]
    expected = made[made.customer.isin(names)].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)
    assert not synthesizer.sample(num_documents=70, seed=2).equals(
        synthesizer.sample(num_documents=70, seed=1)
    )


def test_tables_come_in_pieces_of_whole_documents(synthesizer, made, monkeypatch):
    monkeypatch.setattr("nemo_tabular.generate.histories.PIECE", 100)
    pieces = list(synthesizer.stream().tables(HistoryRequest(200, seed=1)))
    assert len(pieces) > 5 and max(len(p) for p in pieces) < 100 + made.groupby("customer").size().max()
    whole = pa.concat_tables(pieces).to_pandas()
    pd.testing.assert_frame_equal(whole, made.iloc[: len(whole)])
    keys = [set(piece["customer"].to_pylist()) for piece in pieces]
    assert sum(map(len, keys)) == len(set.union(*keys)) == 200


def test_documents_are_cut_off_where_asked(synthesizer, table):
    assert synthesizer.model.longest_document == table.groupby("customer").size().max()
    assert synthesizer.model.context_rows == CONTEXT
    made = synthesizer.sample(num_documents=200, max_rows=3)
    assert made.groupby("customer").size().max() == 3
    none = synthesizer.sample(num_documents=0)
    assert len(none) == 0 and list(none.columns) == list(table.columns)


def test_rows_and_documents_are_not_confused(synthesizer):
    for request in ({}, {"num_rows": 10}):
        with pytest.raises(GenerationError, match="say how many with num_documents"):
            synthesizer.sample(**request)
    with pytest.raises(GenerationError, match="documents is -1, expected a whole number of at least 0"):
        synthesizer.sample(num_documents=-1)
    with pytest.raises(GenerationError, match="max_rows is 0, expected a whole number of at least 1"):
        synthesizer.sample(num_documents=1, max_rows=0)
    with pytest.raises(GenerationError, match="log_prob of histories is not offered"):
        synthesizer.log_prob(markov_histories(3))


def test_what_is_given_holds_in_every_row(synthesizer):
    lead = synthesizer.model.plan.columns[0]
    assert lead == "state"
    made = synthesizer.sample(num_documents=60, given={"state": ["a", "b", "c"]}, seed=4)
    number = made.customer.str.removeprefix("synthetic-").astype(int)
    assert ((number - 1) % 3 == made.state.map({"a": 0, "b": 1, "c": 2})).all()
    assert made.groupby("state").amount.mean().round(-1).tolist() == [0, 10, 20]
    with pytest.raises(GenerationError, match="'amount' cannot be given"):
        synthesizer.sample(num_documents=3, given={"amount": 3.0})


def test_histories_are_continued_in_the_order_of_their_keys(synthesizer, tmp_path, capsys):
    known = pd.DataFrame(
        {"customer": ["late", "early", "late"], "state": ["a", "c", "a"], "amount": [0.1, 20.0, -1.0]}
    )
    made = synthesizer.sample(num_documents=3000, history=known, seed=5, max_rows=1)
    number = made.customer.str.removeprefix("synthetic-").astype(int)
    shares = [made.state[number % 2 == odd].value_counts(normalize=True).sort_index() for odd in (1, 0)]
    assert np.abs(np.array(shares) - NEXT[[0, 2]]).max() < 0.06
    assert len(made) == pytest.approx(3000 * (1 - ENDS), rel=0.04)  # some have ended already
    known.to_csv(tmp_path / "known.csv", index=False)
    out = tmp_path / "made.csv"
    arguments = ["--documents", "30", "--history", str(tmp_path / "known.csv"), "--seed", "5"]
    assert main(["generate", synthesizer.config.run.dir, *arguments, "--max-rows", "1", "-o", str(out)]) == 0
    few = made[number <= 30].reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(out), few, check_dtype=False)
    with pytest.raises(TabularError, match="no rows"):
        synthesizer.sample(num_documents=3, history=known[:0])


def test_time_never_runs_backwards_however_little_was_learnt():
    random = np.random.default_rng(0)
    days = np.sort(random.integers(0, 28, (40, 6))).ravel()
    visits = pd.DataFrame(
        {
            "patient": np.repeat(np.arange(40), 6),
            "when": pd.Timestamp(2020, 2, 1) + pd.to_timedelta(days, "D") + pd.to_timedelta(days % 5, "h"),
            "fee": random.integers(0, 9, 240),
        }
    )
    quick = SMALL | {"trainer__max_steps": 3}
    synthesizer = Synthesizer("gpt", **quick).fit(visits, group_by=["patient"], order_by=["when"])
    made = synthesizer.sample(num_documents=300, max_rows=8)
    steps = made.groupby("patient").when.diff().dropna()
    assert len(steps) > 300 and (steps >= pd.Timedelta(0)).all()


def test_a_run_on_disk_writes_documents(synthesizer, made, tmp_path, capsys):
    run, out = synthesizer.config.run.dir, tmp_path / "made.csv"
    assert main(["generate", run, "--documents", "50", "--seed", "1", "-o", str(out)]) == 0
    written = pd.read_csv(out)
    assert written.customer.nunique() == 50 and len(written) == (made.customer <= "synthetic-000050").sum()
    assert f"{len(written):,} rows" in capsys.readouterr().out
    assert written.state.tolist() == made.state[: len(written)].tolist()
    assert main(["generate", run, "--rows", "50", "-o", str(tmp_path / "no.csv")]) == 2
    assert "--documents" in capsys.readouterr().err


def test_only_order_by_is_one_document(tmp_path):
    random = np.random.default_rng(0)
    series = pd.DataFrame({"t": range(300), "x": random.integers(0, 4, 300)})
    quick = SMALL | {"trainer__max_steps": 5}
    synthesizer = Synthesizer("gpt", **quick).fit(series, order_by=["t"])
    one = synthesizer.sample(num_documents=1, seed=2, max_rows=7)
    assert list(one.columns) == ["t", "x"] and 1 <= len(one) <= 7
    with pytest.raises(GenerationError, match="nothing would tell one from the next"):
        synthesizer.sample(num_documents=2)


def test_what_cannot_be_is_said():
    table = markov_histories(60)
    with pytest.raises(SchemaError, match="leaves no other column"):
        Synthesizer("gpt").fit(table, group_by=list(table.columns))
    with pytest.raises(ConfigError, match="key of group_by, which no model learns"):
        Synthesizer("gpt", **SMALL, model__condition_on=["customer"]).fit(table, group_by=["customer"])
    with pytest.raises(ConfigError, match=r"data.context_rows is 16, data.max_rows 16"):
        Synthesizer("gpt", **(SMALL | {"data__context_rows": 16})).fit(table, group_by=["customer"])


@pytest.mark.parametrize("kind", ["int64", "uint8", "double", "decimal128(10, 2)", "string", "date32[day]"])
def test_keys_are_running_numbers_of_the_columns_type(kind):
    word = {"string": "text", "double": "float", "date32[day]": "date"}.get(kind, "integer")
    word = "decimal" if kind.startswith("decimal") else word
    column = Column("k", word, kind, "calendar" if word == "date" else "text" if word == "text" else "digits")
    keys = numbered(column, np.array([1, 2]))
    texts = word in ("text", "date")
    assert keys.type == (pa.string() if texts else column.arrow)
    assert keys.to_pylist() == (["synthetic-000001", "synthetic-000002"] if texts else [1, 2])
    if kind == "uint8":
        with pytest.raises(GenerationError, match="cannot hold document number 256"):
            numbered(column, np.array([255, 256]))


@pytest.mark.skipif(not USER0.exists(), reason="the shared data sets are not here")
def test_real_card_transactions(tmp_path):
    out = tmp_path / "made.csv"
    table = pd.read_csv(USER0, dtype={"Zip": str}).drop(columns=["User"])
    table["week"] = pd.factorize(pd.to_datetime(table[["Year", "Month", "Day"]]).dt.to_period("W"))[0]
    columns = ["week", "Card", "Day", "Time", "Amount", "Use Chip", "Merchant State", "MCC"]
    quick = SMALL | {"trainer__max_steps": 60, "data__global_batch_size": 16}
    synthesizer = Synthesizer("gpt", **quick).fit(table[columns], group_by=["week"])
    rows = synthesizer.write(out, num_documents=200, seed=1)
    made = pd.read_csv(out)
    assert list(made.columns) == columns and len(made) == rows
    assert made.week.unique().tolist() == list(range(1, 201))
    real = table.groupby("week").size()
    assert 0.6 < made.groupby("week").size().mean() / real.mean() < 1.6
    assert set(made["Use Chip"]) <= set(table["Use Chip"])
    assert made.Time.str.fullmatch(r"\d\d:\d\d").all()  # as the original writes them
