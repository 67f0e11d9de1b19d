"""The column types of a CGM, each at its column's slot: a batch enters; what cells add to the sequence that
the transformer reads leaves, and the losses of the cells it predicts.

The same in training (models/cgm.py), in scoring (score.py) and in drawing (generate/cells.py).

Shapes: S slots, T positions, B rows, H hidden, N cells of one column that are there.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote

import torch
from torch import Tensor

from ..batches import DenseCells, SetBatch
from ..codecs import DenseCodec
from ..errors import FeatureError
from ..features import Feature, build_feature

NUMBERS_AT_ONCE = (
    1 << 17
)  # of cells that are scored without gradients: a network's states are many times as many


class Place(NamedTuple):
    """Where a column type stands."""

    column: str
    slot: int
    there: int
    """Code of cells that are there."""
    feature: Feature


class Features(torch.nn.ModuleDict):
    """`codecs`: of the dense columns, by their slot in the plan's order. A stage of a pipeline holds what it
    needs: the first one the encoders, the last one the decoders."""

    def __init__(
        self,
        codecs: Mapping[int, DenseCodec],
        hidden: int,
        seed: int = 0,
        *,
        encoders: bool = True,
        decoders: bool = True,
    ) -> None:
        super().__init__()
        self._slots = dict(codecs)
        for codec in codecs.values():
            feature = build_feature(codec, hidden, seed)
            feature.encoder = feature.encoder if encoders else None
            feature.decoder = feature.decoder if decoders else None
            self[module_name(codec.name)] = feature

    def places(self) -> Iterator[Place]:
        """Every column type."""
        for slot, codec in self._slots.items():
            feature = self[module_name(codec.name)]
            assert isinstance(feature, Feature)
            yield Place(codec.name, slot, codec.there, feature)

    def seen(self, x_TBH: Tensor, batch: SetBatch) -> Tensor:
        """The transformer's input with what it sees of the cells: at the position after theirs."""
        for place in self.places():
            there_B = batch.codes[place.slot] == place.there
            t_N, b_N = ((batch.order[:-1] == place.slot) & there_B).nonzero(as_tuple=True)
            if not len(t_N):
                x_TBH = x_TBH + _nothing(place.feature)
                continue
            encoded_NH = encode(place, _cells(batch, place, b_N))
            x_TBH = x_TBH.index_put((t_N + 1, b_N), encoded_NH.to(x_TBH.dtype), accumulate=True)
        return x_TBH

    def losses(self, hidden: Sequence[Tensor], batch: SetBatch) -> Iterator[tuple[Place, Tensor, Tensor]]:
        """Of each column type: its place, the rows (N,) whose cell is there and counts, and their losses
        (N,); `hidden`: the state that predicts each slot, S of (B, H)."""
        for place in self.places():
            counts_B = batch.codes[place.slot] == place.there
            if batch.scored is not None:
                counts_B = counts_B & (batch.scored[place.slot] > 0)
            (b_N,) = counts_B.nonzero(as_tuple=True)
            if len(b_N):
                yield place, b_N, loss(place, hidden[place.slot][b_N].float(), _cells(batch, place, b_N))
            else:
                yield place, b_N, hidden[place.slot].new_zeros(0, dtype=torch.float32)

    def by_slot(self, hidden: Sequence[Tensor], batch: SetBatch, exact: bool) -> Tensor:
        """fp32 (S,): sums of the losses, of the exact ones only where so wanted."""
        sums = list(hidden[0].new_zeros(len(hidden), dtype=torch.float32).unbind(0))
        for place, _, nats_N in self.losses(hidden, batch):
            if place.feature.exact or not exact:
                sums[place.slot] = nats_N.sum() + (0.0 if len(nats_N) else _nothing(place.feature))
        return torch.stack(sums)


def module_name(column: str) -> str:
    """A column's name as part of a parameter's."""
    return "@" + quote(column, safe="").replace(".", "%2E")


def _cells(batch: SetBatch, place: Place, rows: Tensor) -> Tensor:
    assert isinstance(batch.dense, DenseCells), (
        "a model with dense columns reads batches that have their cells"
    )
    return batch.dense.columns[place.column][rows]


def _nothing(feature: Feature) -> Tensor:
    """Zero, of which every parameter has a gradient: Megatron's overlapped exchange waits for all of them."""
    return sum((p.sum() * 0 for p in feature.parameters()), torch.zeros(()))


def encode(place: Place, cells: Tensor) -> Tensor:
    """What cells add to the sequence, (N, H). FeatureError where it is not that."""
    found = place.feature.encode(cells)
    wanted = len(cells), place.feature.hidden_size
    if tuple(found.shape) != wanted:
        raise FeatureError(_broken(place, f"encode gave shape {tuple(found.shape)}, expected {wanted}"))
    if not bool(torch.isfinite(found).all()) and all(
        bool(torch.isfinite(p).all()) for p in place.feature.parameters()
    ):
        raise FeatureError(_broken(place, "encode gave numbers that are not finite"))
    return found


def loss(place: Place, context: Tensor, cells: Tensor) -> Tensor:
    """The losses of cells, (N,). FeatureError where they are not that, or not finite though the context
    is."""
    if not torch.is_grad_enabled():
        size = max(1, NUMBERS_AT_ONCE // max(1, cells[0].numel()))
        pieces = zip(context.split(size), cells.split(size), strict=True)
        return torch.cat([_checked(place, x, c, place.feature.loss(x, c)) for x, c in pieces])
    return _checked(place, context, cells, place.feature.loss(context, cells))


def _checked(place: Place, context: Tensor, cells: Tensor, found: Tensor) -> Tensor:
    if tuple(found.shape) != (len(cells),):
        raise FeatureError(_broken(place, f"loss gave shape {tuple(found.shape)}, expected {(len(cells),)}"))
    if not bool(torch.isfinite(found).all()) and bool(torch.isfinite(context).all()):
        bad = int((~torch.isfinite(found)).sum())
        raise FeatureError(_broken(place, f"loss is not finite for {bad:,} of {len(cells):,} cells"))
    return found


def _broken(place: Place, what: str) -> str:
    return (
        f"column {place.column!r}: feature {place.feature.name!r}: {what}. Check the column type with "
        "nemo_tabular.testing.check_feature; if it is sound, lower optim.lr"
    )
