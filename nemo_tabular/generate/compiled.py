"""A model's weights come in and are laid out as csrc/ wants them; codes of rows leave, decoded in C.
Arithmetic is fp32 throughout; with dtype bf16 the network's weights are those rounded to bf16.

Shapes: K rows and N columns of a matrix, W width of an attention row in lanes, V ids.
"""

import ctypes
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..errors import GenerationError
from ..features.draw import NOT_FINITE, Sampling
from ..models.weights import DecoderWeights
from .constraints import Draw
from .lanes import LaneStep

PANEL = 32  # columns that are multiplied at a time
TABLE_FLOATS = 1 << 25  # 128 MB: beyond, the first layer's keys and values are computed, not looked up
STATUS_NOT_FINITE = 2

_int, _long, _double, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_double, ctypes.c_void_p

# The structures of csrc/, field by field.
LAYER = ("norm1_w", "norm1_b", "qkv", "proj", "norm2_w", "norm2_b", "fc1", "fc2")
MODEL_INTS = ("slots", "layers", "hidden", "hp", "fp", "heads_in_lanes", "groups", "vectors", "gelu", "rms")
MODEL_POINTERS = (
    *("sizes", "offsets", "input", "first", "mask", "final_w", "final_b", "head", "layer"),
    *("position", "place"),
)
LANE_ARRAYS = ("lane", "id", "place", "position", "endless", "least", "uniform")


class _Layer(ctypes.Structure):
    _fields_ = [(name, _pointer) for name in LAYER]


class _Model(ctypes.Structure):
    _fields_ = [
        *((name, _int) for name in MODEL_INTS),
        ("eps", ctypes.c_float),
        *((name, _pointer) for name in MODEL_POINTERS),
    ]


class _Request(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("seed", "first_row")),
        *((name, _long) for name in ("rows", "given_rows")),
        *((name, _int) for name in ("given_slots", "share", "top_k", "wide")),
        *((name, _double) for name in ("inverse_temperature", "top_p")),
        *((name, _pointer) for name in ("given", "bias", "out")),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        *((name, _long) for name in ("count", "capacity")),
        *((name, _int) for name in ("slot", "drawn")),
        *((name, _pointer) for name in (*LANE_ARRAYS, "cache", "code")),
    ]


class CompiledDecoder:
    """csrc/decode_rows.c with one model's weights; threads may share it."""

    tile = 1 << 17
    """Rows at a time: more rows share more prefixes, at 36 bytes of memory each, besides their codes."""

    def __init__(
        self,
        library: ctypes.CDLL,
        weights: DecoderWeights,
        dtype: torch.dtype = torch.float32,
        share: bool = True,
    ) -> None:
        self.library, self.weights, self.share = library, weights, share
        self._packed = Packed(weights, dtype, library.lanes())

    def sample(self, rows: int, draw: Draw) -> tuple[np.ndarray, int]:
        """Codes, uint16 or int32 (rows, slots), and the number of prefixes computed for them."""
        sizes = self.weights.sizes
        out = np.empty((rows, len(sizes)), np.int32 if max(sizes) > 1 << 16 else np.uint16)
        request = _Request(
            seed=draw.seed & (1 << 64) - 1,
            first_row=draw.first_row,
            rows=rows,
            given_rows=len(draw.given),
            given_slots=draw.given.shape[1],
            share=self.share,
            wide=out.dtype == np.int32,
            given=draw.given.ctypes.data,
            out=out.ctypes.data,
        )
        held = _set_drawing(request, draw.sampling, draw.bias, sizes)
        nodes = _long()
        model = ctypes.byref(self._packed.model)
        status = self.library.decode_rows(model, ctypes.byref(request), ctypes.byref(nodes))
        del held
        if status == STATUS_NOT_FINITE:
            raise GenerationError(NOT_FINITE)
        if status:
            raise MemoryError(f"no memory to decode {rows} rows at a time: set a smaller tile")
        return out, nodes.value


class CompiledSteps:
    """csrc/decode_documents.c: one slot of many documents at a time, each with a cache of its own."""

    def __init__(self, library: ctypes.CDLL, weights: DecoderWeights, dtype: torch.dtype, batch: int) -> None:
        self.library, self.weights = library, weights
        self.batch = min(batch, library.block())
        self.capacity = weights.max_rows * weights.slots + 1
        self._packed = Packed(weights, dtype, library.lanes())
        floats = 2 * self._packed.width * self.capacity * weights.layers
        self._cache = torch.zeros(self.batch, floats)
        self._steps = _pointer(library.open_steps(ctypes.byref(self._packed.model), _long(self.capacity)))
        if not self._steps:
            raise MemoryError("no memory to decode documents")

    def __del__(self) -> None:
        if getattr(self, "_steps", None):
            self.library.close_steps(self._steps)

    def begin(self, sampling: Sampling, bias_V: np.ndarray) -> None:
        """What the following steps draw with."""
        self._request = _Request()
        self._held = _set_drawing(self._request, sampling, bias_V, self.weights.sizes)

    def step(self, slot: int, lanes: LaneStep) -> np.ndarray:
        """int32 codes (count,), one for each lane; meaningless where nothing is drawn."""
        code = np.zeros(len(lanes.lane), np.int32)
        step = _Step(
            count=len(code),
            capacity=self.capacity,
            slot=slot,
            drawn=lanes.drawn,
            **{name: getattr(lanes, name).ctypes.data for name in LANE_ARRAYS},
            cache=self._cache.data_ptr(),
            code=code.ctypes.data,
        )
        if self.library.decode_step(self._steps, ctypes.byref(self._request), ctypes.byref(step)):
            raise GenerationError(NOT_FINITE)
        return code


@dataclass(frozen=True)
class Lanes:
    """Where the elements of the heads stand in an attention row, for vectors of `lanes` floats (see
    csrc/network.h)."""

    lanes: int
    heads: int
    dim: int

    @property
    def abreast(self) -> int:
        """Heads side by side in one vector: a power of two."""
        return min(self.lanes, 1 << (self.heads - 1).bit_length())

    @property
    def groups(self) -> int:
        """Times that so many heads are needed."""
        return -(-self.heads // self.abreast)

    @property
    def vectors(self) -> int:
        """Vectors of one group."""
        return -(-self.dim // (self.lanes // self.abreast))

    @property
    def width(self) -> int:
        """W."""
        return self.groups * self.vectors * self.lanes

    def spread(self, x: Tensor) -> Tensor:
        """(..., heads * dim) -> (..., W), zeros between."""
        head, element = np.divmod(np.arange(self.heads * self.dim), self.dim)
        group, lane = np.divmod(head, self.abreast)
        vector, part = np.divmod(element, self.lanes // self.abreast)
        place = ((group * self.vectors + vector) * self.lanes) + part * self.abreast + lane
        out = x.new_zeros(*x.shape[:-1], self.width)
        out[..., torch.from_numpy(place)] = x
        return out


class Packed:
    """The C structure of a model, and the tensors that it points to."""

    def __init__(self, w: DecoderWeights, dtype: torch.dtype, vector: int) -> None:
        self._held: list[object] = []
        self._dtype = dtype
        self._lanes = Lanes(vector, w.heads, w.hidden // w.heads)
        self.width = self._lanes.width
        blocks = [{name: self._rounded(x) for name, x in b.items() if x is not None} for b in w.blocks]
        layers = (_Layer * len(blocks))(*(_Layer(**self._layer(w, block)) for block in blocks))
        position_SH = self._rounded(w.position)
        if w.histories:
            input_VH = torch.cat([self._rounded(w.begin), self._rounded(w.embedding)])
        else:
            inputs = [self._rounded(w.begin), *self._rounded(w.embedding).split(list(w.sizes))[:-1]]
            input_VH = torch.cat([x + place for x, place in zip(inputs, position_SH, strict=True)])
        heads = w.embedding.detach().cpu().float().split(list(w.sizes))
        final_b = torch.zeros(w.hidden) if w.final_b is None else w.final_b
        self._held.append(layers)
        self.model = _Model(
            slots=w.slots,
            layers=w.layers,
            hidden=w.hidden,
            hp=_up(w.hidden),
            fp=_up(w.blocks[0]["fc1"].shape[0]),
            heads_in_lanes=self._lanes.abreast,
            groups=self._lanes.groups,
            vectors=self._lanes.vectors,
            gelu=w.act == "gelu",
            rms=w.rms,
            eps=w.eps,
            sizes=self._keep(torch.tensor(w.sizes, dtype=torch.int32)),
            offsets=self._keep(torch.tensor(w.offsets, dtype=torch.int64)),
            input=self._keep(_padded(input_VH)),
            first=None if w.histories else self._first(w, input_VH, blocks[0]),
            mask=self._keep(_padded(torch.ones(w.hidden))),
            final_w=self._keep(_padded(self._rounded(w.final_w))),
            final_b=self._keep(_padded(self._rounded(final_b))),
            head=self._keep_all([_panels(x_CH.T) for x_CH in heads]),
            layer=ctypes.addressof(layers),
            position=self._keep(_padded(position_SH)),
            place=None if w.row_position is None else self._keep(_padded(self._rounded(w.row_position))),
        )

    def _rounded(self, x: Tensor) -> Tensor:
        return x.detach().cpu().to(self._dtype).float()

    def _layer(self, w: DecoderWeights, block: Mapping[str, Tensor]) -> dict[str, int]:
        packed = {
            "qkv": _panels(self._qkv(w, block)),
            "proj": _panels(self._lanes.spread(block["proj"]).T, fill_rows=False),
            "fc1": _panels(block["fc1"].T),
            "fc2": _panels(block["fc2"].T),
        }
        zeros = torch.zeros(w.hidden)
        return {
            name: self._keep(packed[name] if name in packed else _padded(block.get(name, zeros)))
            for name in LAYER
        }

    def _qkv(self, w: DecoderWeights, block: Mapping[str, Tensor]) -> Tensor:
        """(hidden, 3W): scores come out as base-2 logarithms."""
        q, k, v = (self._lanes.spread(x.T) for x in block["qkv"].chunk(3))
        return torch.cat([q * (math.log2(math.e) / math.sqrt(self._lanes.dim)), k, v], 1)

    def _first(self, w: DecoderWeights, input_VH: Tensor, block: Mapping[str, Tensor]) -> int | None:
        """The table of the first layer's queries, keys and values (V, 3W): they depend on the id alone."""
        if len(input_VH) * 3 * self._lanes.width > TABLE_FLOATS:
            return None
        shape, weight = (w.hidden,), block["norm1_w"]
        if w.rms:
            normed_VH = functional.rms_norm(input_VH, shape, weight, w.eps)
        else:
            normed_VH = functional.layer_norm(input_VH, shape, weight, block["norm1_b"], w.eps)
        return self._keep(normed_VH @ self._qkv(w, block))

    def _keep(self, x: Tensor) -> int:
        """Its address; it stays where it is as long as this object lives."""
        x = x.contiguous()
        self._held.append(x)
        return x.data_ptr()

    def _keep_all(self, tensors: list[Tensor]) -> int:
        table = _addresses(tensors)
        self._held += [table, *tensors]
        return ctypes.addressof(table)


def _set_drawing(
    request: _Request, sampling: Sampling, bias_V: np.ndarray, sizes: Sequence[int]
) -> list[object]:
    """How to draw, into the request; what it points to is returned and must be kept as long."""
    biases = [_padded(part, -math.inf) for part in torch.from_numpy(bias_V).split(list(sizes))]
    table = _addresses(biases)
    request.top_k, request.top_p = sampling.top_k, sampling.top_p
    request.inverse_temperature = 1 / sampling.temperature
    request.bias = ctypes.addressof(table)
    return [table, *biases]


def _up(n: int) -> int:
    return -(-n // PANEL) * PANEL


def _padded(x: Tensor, value: float = 0.0) -> Tensor:
    """The last dimension filled up to whole panels."""
    return functional.pad(x.float(), (0, _up(x.shape[-1]) - x.shape[-1]), value=value).contiguous()


def _panels(x_KN: Tensor, fill_rows: bool = True) -> Tensor:
    """(N / PANEL, K, PANEL), both dimensions filled with zeros."""
    if fill_rows:
        x_KN = _padded(x_KN.T).T
    x_KN = _padded(x_KN)
    return x_KN.view(len(x_KN), -1, PANEL).transpose(0, 1).contiguous()


def _addresses(tensors: list[Tensor]) -> ctypes.Array:
    return (_pointer * len(tensors))(*(x.data_ptr() for x in tensors))
