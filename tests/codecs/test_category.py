"""Strings, dictionaries and booleans come in; one token a value goes out, and what is unseen is named."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

TEXTS = st.lists(st.none() | st.text(max_size=6), min_size=1, max_size=40)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_strings_and_dictionaries_come_back(values: list) -> None:
    column = pa.array(values, pa.string())
    codec = fit(column, "category")
    check_codec(codec, column, random_rows=20)
    assert np.array_equal(codec.encode(column.dictionary_encode()), codec.encode(column))
    assert np.array_equal(codec.encode(column.cast(pa.large_string())), codec.encode(column))


def test_values_stand_in_text_order_after_missing() -> None:
    codec = fit(pa.array(["b", None, "a", "é", "Z"]), "category")
    assert codec.encode(pa.array([None, "Z", "a", "b", "é"]))[:, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("values", [[True, False, None], [True], [None, None]])
def test_booleans(values: list) -> None:
    column = pa.array(values, pa.bool_())
    codec = fit(column, "category")
    check_codec(codec, column)
    if True in values:
        assert codec.codes_for("true").tolist() == codec.codes_for(True).tolist()


def test_integers_as_categories_keep_their_type() -> None:
    column = pa.array([3, 10, None, 3], pa.int16())
    check_codec(fit(column, "category"), column)


def test_a_dictionary_with_unused_words_and_nulls_inside() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0, 2, None, 3]), pa.array(["a", "unused", "b", None]))
    codec = fit(pa.array(["a", "b", None]), "category")
    assert codec.decode(codec.encode(column)).to_pylist() == ["a", "b", None, None]


def test_a_slice_of_an_array_is_read_where_it_lies() -> None:
    column = pa.array(["a", None, "b", "c", None, "a"])
    codec = fit(column, "category")
    for piece in (column.slice(2, 3), column.dictionary_encode().slice(2, 3)):
        assert codec.decode(codec.encode(piece)).to_pylist() == ["b", "c", None]


def test_unseen_categories() -> None:
    column = pa.array(["Female", "Male"] * 3)
    with pytest.raises(
        CodecError, match=r"column 'x': 'Femal' was not seen at fit \(did you mean 'Female'\?\) \(1 of 2"
    ):
        fit(column, "category").encode(pa.array(["Male", "Femal"]))
    other = fit(column, "category", unseen="other", other_text="?")
    assert other.decode(other.encode(pa.array(["Male", "Femal"]))).to_pylist() == ["Male", "?"]
    missing = fit(column, "category", unseen="missing")
    assert missing.decode(missing.encode(pa.array(["Male", "Femal"]))).to_pylist() == ["Male", None]
    # The caller's policy wins where it means something here; "clip" is a policy of numbers.
    assert fit(column, "category", nullable=True).encode(pa.array(["?"]), unseen="missing").tolist() == [[0]]
    with pytest.raises(CodecError, match="was not seen at fit"):
        fit(column, "category").encode(pa.array(["?"]), unseen="clip")


def test_rare_values_become_other() -> None:
    column = pa.array(["a"] * 5 + ["b"] * 5 + ["c", "d"])
    codec = fit(column, "category", min_count=2)
    assert codec.decode(codec.encode(column)).to_pylist() == ["a"] * 5 + ["b"] * 5 + ["other"] * 2
    with pytest.raises(CodecError, match="unseen: error is not possible here"):
        fit(column, "category", min_count=2, unseen="error")


def test_missing_that_was_not_there_at_fit() -> None:
    with pytest.raises(CodecError, match="column 'x': 1 of 2 values are missing, and none was at fit"):
        fit(pa.array(["a"]), "category").encode(pa.array(["a", None]))


def test_twenty_thousand_categories() -> None:
    words = [f"word-{i}" for i in range(20_000)]
    column = pa.array(words)
    codec = fit(column, "category")
    assert codec.slots[0].size == 20_000
    assert codec.decode(codec.encode(column)).equals(column)
