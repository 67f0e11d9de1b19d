"""A column type enters; nothing leaves, or an AssertionError that says which promise was broken.

`nemo_tabular.testing.check_feature` is its public name. Shapes: N cells, H hidden.
"""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..codecs import DenseCodec, codec_from_json, fit_codec
from ..profile import profile
from ..schema import Column
from ..uniforms import row_states
from .base import Feature, build_feature
from .draw import Draw

HIDDEN = 16
ROWS = 300
STEPS, RATE, BATCH = 200, 5e-3, 100
MOST_CELLS = 20_000  # of a domain that is summed over
DRAWN = 4_000
SUM_ERROR = 0.01
"""How far the probabilities of all values may be from 1 in sum: a continuum is summed over a grid."""


def check_feature(
    kind: type[Feature], column: Column | None = None, cells: pa.Array | None = None, *, seed: int = 0
) -> None:
    """Check the whole contract of a column type, on its own `example` or on a column of your own with its
    cells.

    Shapes and types; cells within the domain; the loss is finite, falls when it is fitted, reaches the
    context; exact ones sum to 1 over their domain, where it is small, and draw what the loss says; each row's
    cell depends on its own context and randomness alone; the same seed, and saved weights, give the same."""
    if column is None or cells is None:
        column, cells = kind.example(ROWS, seed)
    found = profile([pa.record_batch([cells], names=[column.name])])
    codec = fit_codec(column, found.columns[column.name])
    assert isinstance(codec, DenseCodec), f"column {column.name!r} has no feature"
    feature = build_feature(codec, HIDDEN, seed)
    assert type(feature) is kind, f"the name {kind.name!r} stands for {type(feature)}"
    there = codec.encode(cells)[:, 0] == codec.there
    read = torch.from_numpy(codec.padded(codec.cells(cells.filter(pa.array(there)))))
    _check_shapes(feature, read)
    _check_learning(feature, read)
    feature.requires_grad_(False).eval()
    _check_domain(feature, codec)
    _check_rows_stand_alone(feature, read)
    if feature.exact:
        _check_law(feature, codec)
    _check_saving(feature, codec, read, seed)


def _contexts(rows: int, seed: int = 1) -> Tensor:
    return torch.randn(rows, HIDDEN, generator=torch.Generator().manual_seed(seed))


def _drawn(feature: Feature, context: Tensor, seed: int = 1) -> Tensor:
    with torch.inference_mode():
        return feature.decode(context, Draw(row_states(seed, 0, len(context)))).clone()


def _check_shapes(feature: Feature, read: Tensor) -> None:
    count = len(read)
    encoded = feature.encode(read)
    assert encoded.shape == (count, HIDDEN), (
        f"encode gave shape {tuple(encoded.shape)}, not {(count, HIDDEN)}"
    )
    assert encoded.dtype == torch.float32, f"encode gave {encoded.dtype}, not float32"
    assert bool(torch.isfinite(encoded).all()), "encode gave numbers that are not finite"
    loss = feature.loss(_contexts(count), read)
    assert loss.shape == (count,), f"loss gave shape {tuple(loss.shape)}, not {(count,)}: one number a cell"
    assert bool(torch.isfinite(loss).all()), "loss is not finite"
    cells = _drawn(feature, _contexts(7))
    assert cells.dtype == read.dtype, f"decode gave {cells.dtype}, the column's cells are {read.dtype}"
    ragged = bool(feature.codec.ragged)
    assert len(cells) == 7 and (ragged or cells.shape[1:] == read.shape[1:]), (
        f"decode gave shape {tuple(cells.shape)}, not (7, {', '.join(map(str, read.shape[1:]))})"
    )
    for one in (read[:1], read[:2]):
        assert feature.encode(one).shape == (len(one), HIDDEN), "encode must take any number of cells"


def _check_learning(feature: Feature, read: Tensor) -> None:
    """Fit cells given a context that says nothing and one that tells: both gradients must be there."""
    context = _contexts(len(read)).requires_grad_()
    feature.loss(context, read).sum().backward()
    grad = context.grad
    assert grad is not None and float(grad.abs().sum()) > 0, "no gradient reaches the context from the loss"
    assert bool((grad.abs().sum(1) > 0).float().mean() > 0.5), "the gradient reaches few rows' contexts"
    feature.encode(read).sum().backward()
    for name, parameter in feature.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, f"no gradient reaches {name}"
            assert bool(torch.isfinite(parameter.grad).all()), f"the gradient of {name} is not finite"
    _fit(feature, read)


def _fit(feature: Feature, read: Tensor) -> None:
    """To cells of which the smaller have one context and the larger another, so that both say something."""
    size = read.double().nan_to_num().reshape(len(read), -1).sum(1)
    larger = (size.argsort().argsort() >= len(read) // 2).long()
    contexts = _two_contexts()[larger]
    optimizer = torch.optim.Adam(feature.parameters(), lr=RATE)

    def mean_loss() -> float:
        with torch.no_grad():
            return float(feature.loss(contexts, read).mean())

    before = mean_loss()
    pieces = torch.arange(len(read)).split(BATCH)
    for step in range(STEPS):
        optimizer.zero_grad()
        piece = pieces[step % len(pieces)]
        feature.loss(contexts[piece], read[piece]).mean().backward()
        optimizer.step()
    after = mean_loss()
    assert np.isfinite(after), "the loss became not finite while it was fitted"
    assert not feature.exact or after < before - 1e-3, (
        f"the loss does not fall when it is fitted: {before:.4f}, then {after:.4f}"
    )


def _two_contexts() -> Tensor:
    return _contexts(2, seed=7)


def _check_domain(feature: Feature, codec: DenseCodec) -> None:
    """What is drawn from fitted and from wild contexts is of the column, and comes back as it is."""
    for scale in (1.0, 30.0):
        cells = _drawn(feature, scale * _contexts(200, seed=2))
        codes = np.full(len(cells), codec.there)
        values = codec.restore(codes, codec.unpadded(cells.numpy()))
        values.validate(full=True)
        again = codec.padded(codec.cells(values))  # raises where one is outside the domain
        assert (codec.encode(values)[:, 0] == codec.there).all(), (
            "a drawn cell is a value that has a code of its own"
        )
        one, other = (codec.restore(codes, codec.unpadded(x)) for x in (again, cells.numpy()))
        assert one.equals(other), "a drawn cell does not come back as it is"


def _check_rows_stand_alone(feature: Feature, read: Tensor) -> None:
    contexts = _contexts(12, seed=3)
    whole, states = _drawn(feature, contexts), row_states(1, 0, 12)
    with torch.inference_mode():
        part = feature.decode(contexts[5:9], Draw(states[5:9]))
        shared = min(whole.shape[1], part.shape[1]) if whole.dim() == 2 else None
        close = torch.allclose(
            whole[5:9][:, :shared].double() if shared else whole[5:9].double(),
            part[:, :shared].double() if shared else part.double(),
            rtol=1e-4, atol=1e-4, equal_nan=True,
        )  # fmt: skip
        assert close, "a row's cell depends on the rows beside it: take all randomness from `draw`"
        encoded, alone = feature.encode(read[:8]), feature.encode(read[3:5])
        assert torch.allclose(encoded[3:5], alone, atol=1e-4), "a cell's code depends on the cells beside it"
        if feature.exact:
            nats = feature.loss(_contexts(8), read[:8])
            part = feature.loss(_contexts(8)[3:5], read[3:5])
            assert torch.allclose(nats[3:5], part, atol=1e-3), "a cell's loss depends on the cells beside it"


def _check_law(feature: Feature, codec: DenseCodec) -> None:
    """Probabilities of all values sum to 1, and values are drawn as often as they say."""
    domain = codec.every(MOST_CELLS)
    if domain is None:
        return
    cells, size = torch.from_numpy(domain[0]), torch.from_numpy(domain[1])
    for seed, context in enumerate(_two_contexts().split(1)):  # those that it was fitted to
        with torch.inference_mode():
            pieces = [feature.loss(context.expand(len(c), -1), c) for c in cells.split(2048)]
        p = torch.exp(-torch.cat(pieces).double()) * size
        total = float(p.sum())
        assert abs(total - 1) < SUM_ERROR, f"probabilities of all values sum to {total:.4f}, not 1"
        drawn = _drawn(feature, context.expand(DRAWN, -1), seed)
        _check_frequencies(codec, domain[0], p.numpy(), drawn.numpy())


def _check_frequencies(codec: DenseCodec, domain: np.ndarray, p: np.ndarray, drawn: np.ndarray) -> None:
    """Total variation between drawn and true shares, in at most 64 classes of values of a like probability:
    far above what chance makes of it, the two differ."""
    numbers = np.arange(len(domain))
    if (codec.every(MOST_CELLS) or (0, np.ones(1)))[1][0] != 1:  # a continuum: to the middle of its box
        flat, points = drawn.reshape(len(drawn), -1), domain.reshape(len(domain), -1)
        places = [np.abs(points - x).sum(1).argmin() for x in flat[:2000]]
    else:
        index = {key(cell): i for i, cell in zip(numbers, domain, strict=True)}
        places = [index.get(key(cell), -1) for cell in drawn]
        assert min(places) >= 0, "a cell was drawn that is not in the domain"
    order = np.argsort(-p)
    classes = np.minimum((np.cumsum(p[order]) * 64).astype(int), 63)
    of = np.empty(len(p), int)
    of[order] = classes
    true = np.bincount(of, p, 64) / p.sum()
    found = np.bincount(of[np.array(places)], minlength=64) / len(places)
    distance, chance = np.abs(true - found).sum() / 2, np.sqrt(true * (1 - true) / len(places)).sum() / 2
    assert distance < 2.5 * chance + 0.01, (
        f"what is drawn does not follow what the loss says: total variation {distance:.3f}, chance gives "
        f"{chance:.3f}"
    )


def key(cell: np.ndarray) -> bytes:
    """Equal for equal cells, however long their padding."""
    flat = np.asarray(cell, np.float64).reshape(-1)
    if len(flat) > 1 and np.ndim(cell) == 1:
        flat = np.trim_zeros(flat - 256, "b") if flat[-1] == 256 else flat
    return (flat.round(9) + 0.0).tobytes()


def _check_saving(feature: Feature, codec: DenseCodec, read: Tensor, seed: int) -> None:
    """Parameters are all there is to save, and the first ones follow from the seed."""
    one, other = (build_feature(codec, HIDDEN, seed).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one), (
        "initial weights do not follow from the seed"
    )
    twin = codec_from_json(json.loads(json.dumps(codec.to_json())))
    assert isinstance(twin, DenseCodec)
    loaded = build_feature(twin, HIDDEN, seed + 1).requires_grad_(False).eval()
    loaded.load_state_dict(dict(feature.named_parameters()), strict=False)
    contexts = _contexts(20)
    assert _same(_drawn(feature, contexts), _drawn(feature, contexts)), "the same seed gives other cells"
    assert not _same(_drawn(feature, contexts), _drawn(feature, contexts, seed=9)), (
        "another seed gives the same cells"
    )
    assert _same(_drawn(feature, contexts), _drawn(loaded, contexts)), (
        "loaded parameters draw other cells: keep what is fitted in the codec, and buffers out of the state"
    )
    assert torch.equal(feature.encode(read), loaded.encode(read)), "loaded parameters encode otherwise"


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
