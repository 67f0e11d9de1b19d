"""`base` and `code_len` by hand, as in NeMo: every digit is modelled, half a level of error."""

import numpy as np
import pyarrow as pa
import pytest

from nemo_tabular.codecs.digits import DigitsCodec
from nemo_tabular.errors import CodecError
from nemo_tabular.testing import check_codec

from .conftest import fit

VALUES = np.random.default_rng(0).standard_t(3, 4_000) * 1234.567


@pytest.mark.parametrize("transform", ["auto", "identity", "robust", "log1p", "yeo-johnson", "quantile"])
@pytest.mark.parametrize(("base", "code_len"), [(10, 3), (100, 2), (32, 3), (2, 9)])
def test_floats_keep_half_a_level(transform: str, base: int, code_len: int) -> None:
    column = pa.array(VALUES)
    codec = fit(column, "digits", base=base, code_len=code_len, transform=transform)
    check_codec(codec, column)
    assert [(slot.size, slot.residual) for slot in codec.slots] == [(base, False)] * code_len


def test_linear_levels_span_the_range() -> None:
    codec = fit(pa.array(VALUES), "digits", base=10, code_len=3, transform="identity")
    back = codec.decode(codec.encode(pa.array(VALUES))).to_numpy()
    assert np.abs(back - VALUES).max() <= (VALUES.max() - VALUES.min()) / 999 / 2 * (1 + 1e-9)
    assert {VALUES.min(), VALUES.max()} <= set(back)


def test_integers_are_exact_or_refused() -> None:
    column = pa.array(np.arange(1_000) * 7 + 3)
    codec = fit(column, "digits", base=10, code_len=4, step=1)
    check_codec(codec, column)
    assert np.array_equal(codec.codes_for(3 + 456), [0, 4, 5, 6])
    with pytest.raises(CodecError, match=r"column 'x': code_len too small: \[3, 6996\].*set code_len: 4"):
        fit(column, "digits", base=10, code_len=3, step=1)


def test_sixty_four_bits_in_base_100() -> None:
    column = pa.array([3527213246127876953, -727612092139916043, 5817218446178736267])
    codec = fit(column, "digits", base=100, code_len=10)
    check_codec(codec, column)
    assert isinstance(codec, DigitsCodec) and codec.starts is None


def test_cents_are_exact_where_the_digits_suffice() -> None:
    column = pa.array(np.round(np.random.default_rng(0).uniform(0, 99, 500), 2))
    codec = fit(column, "digits", base=100, code_len=2)
    assert codec.decode(codec.encode(column)).equals(column)
    rough = fit(column, "digits", base=10, code_len=2)
    check_codec(rough, column)
    assert rough.half_step(column) is not None


def test_missing_takes_one_code_of_the_first_slot() -> None:
    codec = fit(pa.array([None, 0, 99]), "digits", base=10, code_len=2, step=1)
    assert [slot.size for slot in codec.slots] == [11, 10]


def test_auto_prefers_a_leading_digit_that_tells_something() -> None:
    heavy = pa.array(np.exp(np.random.default_rng(0).normal(0, 3, 5_000)))
    codec = fit(heavy, "digits", base=10, code_len=3, transform="auto")
    shares = np.bincount(codec.encode(heavy)[:, 0], minlength=10) / 5_000
    assert shares.max() < 0.6  # linear levels would give the leading digit 0 to 99.9 %
