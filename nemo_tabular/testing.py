"""A fitted codec and a column, or a column type, enter; nothing leaves, or an AssertionError that says which
promise was broken.

One oracle for every codec, ours and third parties': `check_codec(MyCodec.fit(column, profile), values)`; and
one for every column type of the CGM: `check_feature(MyType)`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.codecs import Codec, codec_from_json

if TYPE_CHECKING:
    from nemo_tabular.features import Feature
    from nemo_tabular.schema import Column


def check_codec(codec: Codec, values: pa.Array, *, seed: int = 0, random_rows: int = 200) -> None:
    """Check the whole contract of `codec` on `values`, which it must be able to hold.

    Codes have the promised type, shape and range; values come back with the exact type, missing and special
    values as themselves, numbers exactly or within `half_step`; any in-range codes decode; the residual is
    uniform over `widths` points of the cell and leaves the modelled slots alone; JSON gives an equal codec.
    """
    codes = codec.encode(values)
    _check_codes(codec, codes, len(values))
    back = codec.decode(codes)
    _check_values(codec, values, back)
    assert np.array_equal(codec.encode(back), codes), (
        f"column {codec.name!r}: decoded values encode differently"
    )
    rng = np.random.default_rng(seed)
    sizes = [slot.size for slot in codec.slots]
    any_codes = np.stack([rng.integers(0, size, random_rows) for size in sizes], axis=1).astype(np.int32)
    for some in (any_codes, np.zeros((1, len(sizes)), np.int32), np.array([sizes], np.int32) - 1):
        decoded = codec.decode(some)
        assert decoded.type == codec.arrow_type and len(decoded) == len(some)
        decoded.validate(full=True)
    _check_residual(codec, codes, rng)
    _check_json(codec, values, codes)


def _check_codes(codec: Codec, codes: np.ndarray, rows: int) -> None:
    assert codes.dtype == np.int32, f"codes are {codes.dtype}, not int32"
    assert codes.shape == (rows, len(codec.slots)), f"codes have shape {codes.shape}"
    residual = [slot.residual for slot in codec.slots]
    assert residual == sorted(residual) and not residual[0], "residual slots must come last"
    for k, slot in enumerate(codec.slots):
        assert slot.size >= 1 and (rows == 0 or (codes[:, k].min() >= 0 and codes[:, k].max() < slot.size)), k


def _check_values(codec: Codec, values: pa.Array, back: pa.Array) -> None:
    assert back.type == codec.arrow_type, f"decoded type {back.type}, column type {codec.type}"
    back.validate(full=True)
    if isinstance(values, pa.DictionaryArray):
        values = values.dictionary_decode()
    if values.type != back.type:
        values = values.cast(back.type)
    assert back.is_null().equals(values.is_null()), f"column {codec.name!r}: missing values moved"
    if not pa.types.is_floating(back.type):
        assert back.equals(values), f"column {codec.name!r}: {_first_difference(values, back)}"
        return
    values, back = values.drop_null(), back.drop_null()
    want, got = (a.to_numpy().astype(np.float64) for a in (values, back))
    finite = np.isfinite(want)
    assert np.array_equal(want[~finite], got[~finite], equal_nan=True), (
        f"column {codec.name!r}: nan or inf changed"
    )
    assert np.isfinite(got[finite]).all(), f"column {codec.name!r}: a number became nan or inf"
    bound = codec.half_step(values)
    if bound is None:
        assert np.array_equal(want[finite], got[finite]), (
            f"column {codec.name!r}: {_first_difference(values, back)}"
        )
        return
    with np.errstate(over="ignore"):  # next to the largest number
        rounding = 4 * np.spacing(np.abs(values.to_numpy()[finite]))  # of the type itself, once each way
    error = np.abs(want[finite] - got[finite])
    excess = error - bound[finite] * (1 + 1e-6) - rounding
    assert (excess <= 0).all(), f"column {codec.name!r}: error exceeds the stated accuracy by {excess.max()}"


def _first_difference(values: pa.Array, back: pa.Array) -> str:
    differs = pc.fill_null(pc.not_equal(values, back), False).to_numpy(zero_copy_only=False)
    row = int(np.flatnonzero(differs)[0])
    return f"row {row}: {values[row].as_py()!r} came back as {back[row].as_py()!r}"


def _check_residual(codec: Codec, codes: np.ndarray, rng: np.random.Generator) -> None:
    modelled = sum(not slot.residual for slot in codec.slots)
    widths = codec.widths(codes)
    assert widths.dtype == np.int64 and widths.shape == (len(codes),) and (widths >= 1).all()
    if modelled == len(codec.slots):
        assert (widths == 1).all(), "a codec without residual slots has cells of one point"
    blank = codes.copy()
    blank[:, modelled:] = 0
    assert np.array_equal(codec.widths(blank), widths), "widths must not depend on the residual"
    for uniforms in (rng.random(len(codes)), np.zeros(len(codes)), np.full(len(codes), np.nextafter(1, 0))):
        filled = codec.fill_residual(blank, uniforms)
        _check_codes(codec, filled, len(codes))
        again = codec.encode(codec.decode(filled))
        assert np.array_equal(again[:, :modelled], codes[:, :modelled]), "a residual led out of its cell"


def _check_json(codec: Codec, values: pa.Array, codes: np.ndarray) -> None:
    text = json.dumps(codec.to_json(), allow_nan=False, sort_keys=True)
    twin = codec_from_json(json.loads(text))
    assert twin == codec and type(twin) is type(codec)
    assert json.dumps(twin.to_json(), allow_nan=False, sort_keys=True) == text
    assert np.array_equal(twin.encode(values), codes)


def check_feature(
    kind: type[Feature], column: Column | None = None, cells: pa.Array | None = None, *, seed: int = 0
) -> None:
    """Check the whole contract of a column type, on its own `example`, or on `column` with `cells`; see
    features/check.py."""
    from nemo_tabular.features.check import check_feature  # torch: checking codecs can do without

    check_feature(kind, column, cells, seed=seed)
