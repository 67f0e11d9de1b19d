"""The books that all codecs share: registry, JSON, types, and an oracle that catches a codec that lies."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from nemo_tabular.codecs import CODECS, Codec, Slot, ValuesCodec, codec_from_json
from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit


def test_the_registry_names_every_codec() -> None:
    assert set(CODECS) >= {"category", "values", "digits", "calendar", "epoch", "text"}


def test_unknown_codecs_are_named() -> None:
    with pytest.raises(CodecError, match="column 'x': unknown codec 'morse'"):
        codec_from_json({"codec": "morse", "name": "x"})


def test_damaged_json_is_named() -> None:
    document = fit(pa.array([1, 2]), "values").to_json()
    del document["numbers"]
    with pytest.raises(CodecError, match=r"column 'x': not a values codec.*was the file edited"):
        codec_from_json(document)


def test_values_of_another_type_are_cast_or_refused() -> None:
    codec = fit(pa.array([1, 2]), "values")
    assert codec.encode(pa.array([2.0])).tolist() == [[1]]
    with pytest.raises(
        CodecError, match="column 'x': values of type double where the codec was fitted on int64"
    ):
        codec.encode(pa.array([2.5]))


def test_codecs_are_equal_if_their_json_is() -> None:
    a, b, c = (fit(pa.array(values), "values") for values in ([1, 2], [2, 1], [1, 3]))
    assert a == b and hash(a) == hash(b) and a != c


def test_codecs_are_frozen() -> None:
    with pytest.raises(AttributeError):
        fit(pa.array([1, 2]), "values").name = "y"  # type: ignore[misc]


def test_no_rows() -> None:
    for kind in ("values", "digits"):
        codec = fit(pa.array([1, 2]), kind)
        empty = codec.encode(pa.array([], pa.int64()))
        assert empty.shape == (0, 1) and codec.decode(empty).equals(pa.array([], pa.int64()))


@dataclass(frozen=True, eq=False, kw_only=True)
class Truncating(ValuesCodec):
    """A codec that breaks its promise, as NeMo's truncation does."""

    codec: ClassVar[str] = "truncating-in-a-test"

    def _decode(self, codes: np.ndarray) -> pa.Array:
        return super()._decode(np.maximum(codes - 1, 0))


def test_the_oracle_catches_a_wrong_value() -> None:
    good = fit(pa.array([1, 2, 3]), "values")
    bad = Truncating(name="x", type="int64", nullable=False, numbers=good.numbers)
    with pytest.raises(AssertionError, match="row 1: 2 came back as 1"):
        check_codec(bad, pa.array([1, 2, 3]))


def test_the_oracle_catches_a_wrong_type() -> None:
    codec = fit(pa.array([1, 2, 3]), "values")
    narrow = replace(codec, type="int32")
    object.__setattr__(narrow, "_decode", lambda codes: ValuesCodec._decode(codec, codes))
    with pytest.raises(AssertionError, match="decoded type int64, column type int32"):
        check_codec(narrow, pa.array([1, 2, 3]))


@dataclass(frozen=True, eq=False, kw_only=True)
class Upper(Codec):
    """The least that an author has to write."""

    codec: ClassVar[str] = "upper-in-a-test"

    @classmethod
    def fit(cls, column: Any, profile: Any) -> "Upper":
        return cls(name=column.name, type=column.type, nullable=False)

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(26),)

    def _encode(self, array: pa.Array, codes: np.ndarray, policy: str | None) -> None:
        codes[:, 0] = [ord(letter) - 65 for letter in array.to_pylist()]

    def _decode(self, codes: np.ndarray) -> pa.Array:
        return pa.array([chr(65 + code) for code in codes[:, 0]])

    def _params(self) -> dict[str, Any]:
        return {}

    @classmethod
    def _restore(cls, books: dict[str, Any], params: dict[str, Any]) -> "Upper":
        return cls(**books, **params)


def test_a_third_party_codec_is_registered_by_its_definition() -> None:
    column = pa.array(["A", "Z"])
    check_codec(Upper(name="x", type="string", nullable=False), column)


@pytest.mark.parametrize("values", [
    pa.array(np.random.default_rng(0).normal(size=2000).tolist() + [7.25] * 500 + [None, np.nan]),
    pa.array(np.random.default_rng(1).integers(0, 10**6, 5000)),
])  # fmt: skip
def test_digits_at_higher_places_are_greater_and_what_is_no_digit_stands_nowhere(values: pa.Array) -> None:
    made = fit(values, "digits")
    places = made.places(0)
    assert places is not None and len(places) == made.slots[0].size
    codes = np.zeros((len(places), len(made.slots)), np.int32)
    codes[:, 0] = np.arange(len(places))
    known = np.flatnonzero(~np.isnan(places))
    decoded = made.decode(codes).to_pandas().to_numpy(float)[known]
    assert (np.diff(decoded[np.argsort(places[known])]) > 0).all() and 7.25 not in decoded
    assert len(known) == made.slots[0].size - (3 if values.null_count else 0)


def test_values_and_categories_have_no_places() -> None:
    assert fit(pa.array(["a", "b"]), "category").places(0) is None
    assert fit(pa.array([1.0, 2.0]), "values").places(0) is None
