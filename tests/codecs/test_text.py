"""Short text and codes of fixed form come in; bytes go out, slot by slot, and come back as the same text."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nemo_tabular.codecs import TextCodec
from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

TEXTS = st.lists(st.none() | st.text(max_size=8) | st.just("\0"), min_size=1, max_size=40)


@settings(max_examples=120, deadline=None)
@given(TEXTS, st.sampled_from(["bytes", "code"]))
def test_every_text_comes_back(values: list, form: str) -> None:
    column = pa.array(values, pa.string())
    check_codec(fit(column, "text", form=form), column, random_rows=50)


def test_large_strings_and_slices() -> None:
    column = pa.array(["abc", None, "", "ünï"])
    codec = fit(column, "text")
    assert np.array_equal(codec.encode(column.cast(pa.large_string())), codec.encode(column))
    assert codec.decode(codec.encode(column.slice(1, 3))).to_pylist() == [None, "", "ünï"]


@pytest.mark.parametrize(
    "raw", [b"\xff", b"a\xc3", b"\xc3\0\xa9", b"\x80\x80\x80", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\0\0\xff"]
)
def test_bytes_that_are_no_text_are_replaced_as_python_does(raw: bytes) -> None:
    codec = fit(pa.array(["12345678"]), "text")
    rows = [raw, b"ok", raw + raw, b"\xc3\xa9"]
    codes = np.zeros((4, 8), np.int32)
    for row, data in zip(codes, rows, strict=True):
        row[: len(data)] = np.frombuffer(data, np.uint8) + np.int32(1)
    decoded = codec.decode(codes)
    decoded.validate(full=True)
    assert decoded.to_pylist() == [data.decode("utf-8", "replace") for data in rows]


def test_codes_keep_length_form_and_leading_zeros() -> None:
    zips = [f"{n:05d}" for n in range(0, 100_000, 7)]
    column = pa.array(zips)
    codec = fit(column, "text", kind="code")
    assert [slot.size for slot in codec.slots] == [10] * 5
    check_codec(codec, column)
    drawn = codec.decode(np.random.default_rng(0).integers(0, 10, (100, 5)).astype(np.int32)).to_pylist()
    assert all(len(code) == 5 and code.isdigit() for code in drawn)


def test_codes_of_several_lengths_may_end_where_one_ended() -> None:
    column = pa.array(["02134", "02134-1234"])
    codec = fit(column, "text", kind="code")
    check_codec(codec, column)
    assert codec.slots[4].size == 1 and codec.slots[5].size == 2


def test_a_sample_of_codes_stands_for_its_kinds_of_characters() -> None:
    from nemo_tabular.codecs import fit_codec
    from nemo_tabular.schema import Column

    from .conftest import profile_of

    column = pa.array([f"A{n:06d}x" for n in range(3_000)])
    profile = profile_of(column, text_cap=100, sample_rows=50)
    codec = fit_codec(Column("x", "code", "string", "text", nullable=False), profile)
    assert [slot.size for slot in codec.slots] == [26, *[10] * 6, 26]
    assert codec.decode(codec.encode(column)).equals(column)


def test_too_long_names_column_and_value() -> None:
    codec = fit(pa.array(["abc", "de"]), "text")
    with pytest.raises(
        CodecError, match=r"column 'x': 'abcd' is 4 bytes long, the slots hold 3 \(1 of 2 values\)"
    ):
        codec.encode(pa.array(["a", "abcd"]))
    with pytest.raises(CodecError, match=r"'a{60}\.\.\.' is 1,000 bytes long"):
        codec.encode(pa.array(["a" * 1_000]))
    missing = fit(pa.array(["abc"]), "text", unseen="missing")
    assert missing.decode(missing.encode(pa.array(["abcd", "a"]))).to_pylist() == [None, "a"]


def test_truncation_keeps_characters_whole() -> None:
    codec = fit(pa.array(["abc"]), "text", unseen="truncate")
    texts = ["abcdef", "abé", "aé", "aéé", "😀", "a€", "ab€", "abc", "é" * 500]
    back = codec.decode(codec.encode(pa.array(texts))).to_pylist()
    assert back == ["abc", "ab", "aé", "aé", "", "a", "ab", "abc", "é"]
    assert codec.encode(pa.array(["a" * 99_999]), unseen="truncate").shape == (1, 3)


def test_an_unseen_character_of_a_code_is_named() -> None:
    codec = fit(pa.array(["A1", "B2"]), "text", kind="code")
    with pytest.raises(
        CodecError, match=r"column 'x': 'A3' has a character where none like it was seen.*form: bytes"
    ):
        codec.encode(pa.array(["A3"]))
    with pytest.raises(CodecError, match="a code of fixed form cannot be truncated"):
        fit(pa.array(["A1"]), "text", kind="code", unseen="truncate")


def test_more_bytes_than_seen() -> None:
    codec = fit(pa.array(["abc"]), "text", max_bytes=10)
    assert isinstance(codec, TextCodec) and len(codec.slots) == 10
    assert codec.decode(codec.encode(pa.array(["0123456789"]))).to_pylist() == ["0123456789"]


def test_conditions() -> None:
    codec = fit(pa.array(["00501", "94110"]), "text", kind="code")
    assert codec.decode(codec.codes_for("00501")[None]).to_pylist() == ["00501"]
