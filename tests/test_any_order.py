"""The facade with a CGM: any columns given any others, missing cells, exact and consistent probabilities."""

import itertools

import numpy as np
import pandas as pd
import pytest
from small_table import people

from nemo_tabular import Synthesizer
from nemo_tabular.cli import main
from nemo_tabular.errors import CodecError, GenerationError, SchemaError
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema

QUICK = {
    "model__hidden_size": 32,
    "trainer__max_steps": 300,
    "trainer__num_threads": 1,
    "data__global_batch_size": 64,
}
KNOWN = {"a": [0.6, 0.4], "b": [[0.9, 0.1], [0.2, 0.8]], "c": [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]]}


def known_table(rows=4000, seed=0):
    """a -> b -> c, a Markov chain of known probabilities."""
    random = np.random.default_rng(seed)
    a = (random.random(rows) < KNOWN["a"][1]).astype(int)
    b = (random.random(rows) < np.array(KNOWN["b"])[a, 1]).astype(int)
    c = (random.random(rows)[:, None] > np.cumsum(KNOWN["c"], 1)[b]).sum(1)
    return pd.DataFrame({"a": np.array(["no", "yes"])[a], "b": np.array(["left", "right"])[b], "c": c})


def every_known_row():
    """All rows and their true log-probabilities."""
    rows = list(itertools.product(range(2), range(2), range(3)))
    log_p = [np.log(KNOWN["a"][a] * KNOWN["b"][a][b] * KNOWN["c"][b][c]) for a, b, c in rows]
    a, b, c = zip(*rows, strict=True)
    names = {"a": np.array(["no", "yes"])[list(a)], "b": np.array(["left", "right"])[list(b)], "c": list(c)}
    return pd.DataFrame(names), np.array(log_p)


@pytest.fixture(scope="module")
def known():
    # one validation, at the end: of several, each of 300 rows, the best may be one before the rate has fallen
    longer = {"trainer__max_steps": 1000, "trainer__val_check_interval": 1000, "data__global_batch_size": 128}
    return Synthesizer("cgm", **QUICK | longer, trainer__final_fit=False, model__order="random").fit(
        known_table(6000)
    )


@pytest.fixture(scope="module")
def table():
    return people()


@pytest.fixture(scope="module", params=["additive", "cross_attention"])
def synthesizer(request, table):
    longer = {"trainer__max_steps": 800, "trainer__patience": 10, "trainer__final_fit": False}
    return Synthesizer("cgm", **QUICK | longer, model__query=request.param).fit(table)


def chained(synthesizer, rows, order):
    """log p of the columns one after another, each given those before it."""
    return sum(
        synthesizer.log_prob(rows, columns=[name], given=order[:k], unseen="nearest")
        for k, name in enumerate(order)
    )


# ---- probabilities ----


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_all_rows_together_have_probability_one_in_every_order(known, order):
    rows, _ = every_known_row()
    assert np.exp(chained(known, rows, list(order))).sum() == pytest.approx(1, abs=1e-6)


def test_every_order_gives_the_same_joint_probability_near_the_true_one(known):
    """Each of the six within .01 nats of KL of the truth, all within .1 nats of each other on average over
    rows (6,000 rows, 1,000 steps)."""
    rows, truth = every_known_row()
    found = np.stack([chained(known, rows, list(order)) for order in itertools.permutations("abc")])
    assert (np.exp(truth) * np.ptp(found, axis=0)).sum() < 0.1
    kl = (np.exp(truth) * (truth - found)).sum(1)
    assert (kl > -1e-6).all() and kl.max() < 0.01


def test_log_prob_is_the_sum_of_its_conditionals_and_its_columns(synthesizer, table):
    order = list(synthesizer.model.plan.columns)
    whole = synthesizer.log_prob(table)
    np.testing.assert_allclose(chained(synthesizer, table, order), whole, atol=1e-4)
    np.testing.assert_allclose(synthesizer.log_prob(table, by_column=True).sum(axis=1), whole, rtol=1e-9)
    parts = synthesizer.log_prob(table, columns=["height", "sex"], given=["age"], by_column=True)
    assert list(parts.columns) == ["height", "sex"]
    np.testing.assert_allclose(
        parts.sum(axis=1), synthesizer.log_prob(table, columns=["height", "sex"], given=["age"]), rtol=1e-9
    )


def test_columns_that_are_not_asked_for_need_not_be_there(synthesizer, table):
    asked = {"columns": ["height"], "given": ["sex"]}
    alone = synthesizer.log_prob(table[["height", "sex"]], **asked)
    np.testing.assert_array_equal(alone, synthesizer.log_prob(table, **asked))


def test_several_orders_average_probabilities(known):
    rows, _ = every_known_row()
    assert np.exp(known.log_prob(rows, orders=6)).sum() == pytest.approx(1, abs=1e-6)
    with pytest.raises(GenerationError, match="leave orders at 1"):
        known.log_prob(rows, orders=6, by_column=True)


def test_predicted_probabilities_follow_what_is_known(known):
    rows = pd.DataFrame({"c": [0, 2], "a": ["no", "yes"]}, index=[7, 9])
    p = known.predict_proba(rows, "b")
    assert list(p.columns) == ["left", "right"] and list(p.index) == [7, 9]
    np.testing.assert_allclose(p.sum(axis=1), 1)
    joint = np.array([0.9 * 0.7, 0.1 * 0.1]), np.array([0.2 * 0.1, 0.8 * 0.6])
    want = [both / both.sum() for both in joint]
    np.testing.assert_allclose(p, want, atol=0.05)
    np.testing.assert_allclose(known.predict_proba(rows, "b", orders=4), want, atol=0.05)
    np.testing.assert_allclose(known.predict_proba(rows[["a"]], "b"), KNOWN["b"], atol=0.05)
    whole, _ = every_known_row()
    log_p = known.log_prob(whole, columns=["b"], given=["a", "c"])
    p = known.predict_proba(whole, "b")
    chosen = p.to_numpy()[np.arange(12), (whole.b == "right").astype(int)]
    np.testing.assert_allclose(np.log(chosen), log_p, atol=1e-5)


# ---- samples ----


def test_any_columns_can_be_given(synthesizer):
    tall = synthesizer.sample(600, given={"height": 190.0}, seed=1)
    assert (tall.height == 190.0).all() and (tall.sex == "Male").mean() > 0.85
    mixed = pd.DataFrame({"age": [30, 40, 50], "height": [190.0, 155.0, 190.0]})
    rows = synthesizer.sample(given=mixed)
    pd.testing.assert_frame_equal(rows[["age", "height"]], mixed)
    women = synthesizer.sample(600, given={"sex": "Female", "age": 33}, seed=2)
    assert women.height.mean() < 169


def test_rows_look_like_the_table(synthesizer, table):
    rows = synthesizer.sample(3000, seed=1)
    assert rows.dtypes.astype(str).tolist() == table.dtypes.astype(str).tolist()
    assert abs((rows.sex == "Female").mean() - 0.4) < 0.05
    assert abs(rows.height.isna().mean() - 0.1) < 0.05
    means = rows.groupby("sex").height.mean()
    assert means["Male"] - means["Female"] > 8


def test_the_same_seed_gives_the_same_rows_however_they_are_asked_for(synthesizer):
    whole = synthesizer.sample(1100, seed=4)
    parts = [synthesizer.sample(n, seed=4, first_row=at) for at, n in ((0, 300), (300, 700), (1000, 100))]
    pd.testing.assert_frame_equal(whole, pd.concat(parts, ignore_index=True))
    assert not whole.equals(synthesizer.sample(1100, seed=5))
    assert len(synthesizer.sample(0)) == 0


def test_the_order_of_columns_can_be_chosen(synthesizer, table):
    own, other = (synthesizer.sample(400, seed=1, order=order) for order in ("fixed", "random"))
    assert not own.equals(other)
    default = "random" if synthesizer.model.config.order == "random" else "fixed"
    pd.testing.assert_frame_equal(
        synthesizer.sample(400, seed=1, order=default), synthesizer.sample(400, seed=1)
    )
    with pytest.raises(GenerationError, match="order is 'sorted', expected one of random, fixed"):
        synthesizer.sample(3, order="sorted")


# ---- missing cells ----


@pytest.fixture
def gaps(table):
    hidden = np.random.default_rng(1).random(table.shape) < 0.3
    hidden[:2] = True  # rows with every cell missing
    return table.astype({"age": "Int64"}).mask(hidden).set_index(np.arange(len(table)) * 2)


def test_missing_cells_are_filled_and_the_others_left_alone(synthesizer, table, gaps):
    filled = synthesizer.impute(gaps, seed=3)
    assert not filled.isna().any().any()
    assert list(filled.columns) == list(gaps.columns) and filled.index.equals(gaps.index)
    for name in gaps:
        there = gaps[name].notna()
        assert (filled[name][there] == gaps[name][there]).all()
    drawn = filled[gaps.sex.isna() & gaps.height.notna()]
    assert drawn.groupby("sex").height.mean().diff().iloc[-1] > 6
    pd.testing.assert_frame_equal(filled, synthesizer.impute(gaps, seed=3))
    assert not filled.equals(synthesizer.impute(gaps, seed=4))
    whole = table.dropna()
    pd.testing.assert_frame_equal(synthesizer.impute(whole), whole)


def test_multiple_imputations_differ_in_what_was_missing_only(synthesizer, gaps):
    many = synthesizer.impute(gaps, seed=3, imputations=5)
    assert many.index.get_level_values("imputation").unique().tolist() == list(range(5))
    pd.testing.assert_frame_equal(many.loc[0], synthesizer.impute(gaps, seed=3))
    known = gaps.height.notna()
    spread = many.height.unstack("imputation").std(axis=1)
    assert (spread[known] == 0).all() and (spread[~known] > 0).mean() > 0.95


def test_columns_that_a_table_lacks_are_filled_too(synthesizer, table):
    filled = synthesizer.impute(table[["height"]].dropna())
    assert list(filled.columns) == ["sex", "age", "height"] and not filled.isna().any().any()


def test_files_are_imputed_a_piece_at_a_time(synthesizer, table, gaps, tmp_path):
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    synthesizer.save(tmp_path / "model")
    out = tmp_path / "out.csv"
    arguments = [str(tmp_path / "model"), str(tmp_path / "gaps.csv"), "--seed", "3", "-o", str(out)]
    assert main(["impute", *arguments]) == 0
    want = synthesizer.impute(gaps, seed=3).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.read_csv(out), want, check_dtype=False)


def absent_schema(table):
    schema = infer_schema(open_table(table)).to_dict()
    for column in schema["columns"]:
        column["missing"] = "absent"
    return Schema.from_dict(schema)


def test_absent_cells_are_left_out_of_training_scores_and_samples():
    table = known_table(3000)
    gaps = table.astype({"c": "Int64"}).mask(np.random.default_rng(2).random(table.shape) < 0.3)
    synthesizer = Synthesizer("cgm", **QUICK).fit(gaps, schema=absent_schema(gaps))
    assert not synthesizer.sample(2000, seed=1).isna().any().any()
    rows, truth = every_known_row()
    assert (np.exp(truth) * (truth - synthesizer.log_prob(rows))).sum() < 0.03
    one = pd.DataFrame({"a": ["yes"], "b": [None], "c": [2]}).astype({"c": "Int64"})
    without = synthesizer.log_prob(one[["a", "c"]], columns=["a", "c"])
    np.testing.assert_allclose(synthesizer.log_prob(one), without, atol=1e-5)
    nothing = pd.DataFrame({"a": [None], "b": [None], "c": [None]}).astype(
        {"a": object, "b": object, "c": "Int64"}
    )
    assert synthesizer.log_prob(nothing).tolist() == [0.0]
    assert not synthesizer.impute(nothing).isna().any().any()
    with pytest.raises(GenerationError, match=r"'b' is missing, and its missing cells are absent"):
        synthesizer.sample(3, given={"b": None})


# ---- what cannot be ----


def test_impossible_questions_say_what_to_do(synthesizer, table):
    everything = {"sex": "Male", "age": 30, "height": 180.0}
    for given, message in (
        (everything, "every column is given"),
        ({"sexx": "Male"}, r"no column 'sexx' \(did you mean 'sex'\?\)"),
        ({"sex": "Unknown"}, "sex.*Unknown"),
        ({"age": 200}, "age.*200"),
    ):
        with pytest.raises(GenerationError, match=message):
            synthesizer.sample(3, given=given)
    for question, message in (
        ({"columns": ["sex"], "given": ["sex"]}, "'sex' is both asked for and given"),
        ({"given": ["sex", "age", "height"]}, "every column is given"),
        ({"columns": ["sexx"]}, r"no column 'sexx' \(did you mean 'sex'\?\)"),
        ({"orders": 0}, "orders is 0"),
    ):
        with pytest.raises(GenerationError, match=message):
            synthesizer.log_prob(table, **question)
    with pytest.raises(SchemaError, match="column 'height' is missing"):
        synthesizer.log_prob(table[["sex"]], columns=["height"], given=["sex"])
    with pytest.raises(CodecError, match=r"'sex'.*missing"):
        synthesizer.log_prob(table.assign(sex=None))
    with pytest.raises(SchemaError, match="column 'weight' is not in the schema"):
        synthesizer.impute(table.assign(weight=1))
    with pytest.raises(GenerationError, match=r"'height' takes several tokens.*impute"):
        synthesizer.predict_proba(table, "height")
    odd = pd.DataFrame({"age": [200], "height": [170.0]})
    with pytest.raises(CodecError, match=r"column 'age'.*200"):
        synthesizer.impute(odd)
    assert synthesizer.impute(odd, unseen="nearest").sex.isin(["Female", "Male"]).all()
    with pytest.raises(GenerationError, match="imputations is 0"):
        synthesizer.impute(table, imputations=0)


def test_a_gpt_says_which_model_can(table):
    gpt = Synthesizer("gpt", model__hidden_size=16, trainer__max_steps=2, trainer__num_threads=1).fit(table)
    for call in (
        lambda: gpt.impute(table),
        lambda: gpt.predict_proba(table, "sex"),
        lambda: gpt.log_prob(table, columns=["sex"]),
        lambda: gpt.sample(3, order="random"),
    ):
        with pytest.raises(GenerationError, match=r"any order: fit the CGM, Synthesizer\('cgm'\)"):
            call()


def test_odd_little_tables_work():
    def tiny(**columns):
        quick = {"trainer__max_steps": 3, "trainer__num_threads": 1}
        return Synthesizer("cgm", **quick).fit(pd.DataFrame(columns))

    one = tiny(a=[7] * 60)
    assert (one.sample(20).a == 7).all()
    np.testing.assert_allclose(one.log_prob(pd.DataFrame({"a": [7]})), 0, atol=0.1)
    empty = tiny(a=[None] * 60, b=["x", "y"] * 30)
    assert empty.sample(20).a.isna().all()
    assert empty.impute(pd.DataFrame({"a": [None], "b": [None]})).b.isin(["x", "y"]).all()
    assert set(tiny(flag=[True, False] * 40).sample(20).flag) <= {True, False}


def test_saved_and_loaded_it_makes_the_same_rows(synthesizer, table, tmp_path):
    synthesizer.save(tmp_path / "model")
    loaded = Synthesizer.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.sample(50, seed=2), synthesizer.sample(50, seed=2))
    np.testing.assert_array_equal(loaded.log_prob(table), synthesizer.log_prob(table))
