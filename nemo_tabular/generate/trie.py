"""A model's weights and a seed come in; codes of rows leave: row i depends on (seed, i) only.
Each distinct prefix of a tile of rows is computed once, and every row draws from it with its own uniform
numbers.

Two decoders do the work, each exact at every split into batches and tiles: compiled C on CPUs (kernel.py),
torch operations elsewhere (levels.py). Their numbers differ in the last bits, so `backend` belongs in a
manifest.

Shapes: N rows, S slots in the model's order, G slots given, V ids.
"""

import ctypes
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..engine.ranks import device
from ..errors import GenerationError
from ..models.weights import DecoderWeights
from .compiled import CompiledDecoder
from .constraints import Draw, leading_codes, masked_bias
from .kernel import library
from .levels import LevelDecoder
from .request import Sampling

WIDE = 512  # hidden size from which torch decodes bf16 faster
SMALLEST_TILE = 8192  # fewer rows share too few prefixes to be worth a thread
BACKENDS = ("auto", "compiled", "torch")


class RowDecoder:
    """Draws rows from a model. `dtype`: of the network's arithmetic; the output layer and the draws are exact
    in both.

    `share=False` computes every row on its own (the same rows, slower): for tests. `tile`: rows decoded at a
    time. `threads`: tiles at a time (compiled only). `nodes`: prefixes computed so far; over the rows made,
    the cost of one, at most S.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        dtype: torch.dtype = torch.float32,
        *,
        device: torch.device | str = "cpu",
        backend: str = "auto",
        share: bool = True,
        tile: int | None = None,
        threads: int = 1,
    ) -> None:
        if weights.histories:
            raise GenerationError("this model makes documents of many rows: decode it with DocumentDecoder")
        self.weights = weights
        self._bias_V = weights.bias.detach().float().cpu().numpy()
        self._decoder = _decoder(weights, dtype, torch.device(device), backend, share)
        self.backend = "torch" if isinstance(self._decoder, LevelDecoder) else "compiled"
        self.tile = tile or self._decoder.tile
        self.threads = threads if self.backend == "compiled" else 1  # torch has threads of its own
        self.nodes = 0

    def sample(
        self,
        rows: int,
        seed: int,
        first_row: int = 0,
        given: np.ndarray | None = None,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> np.ndarray:
        """Codes of rows first_row, ..., first_row + rows - 1: uint16 or int32 of shape (rows, slots).

        `given`: codes of the leading slots, int (G,) for all rows, or (n, G): row i takes line i % n.
        `allowed`: for each slot a bool array of its codes, or None for all. Raises GenerationError for codes
        that are not the slot's.
        """
        out = np.empty((rows, self.weights.slots), self.dtype)
        at = 0
        for tile in self.tiles(rows, seed, first_row, given, Sampling(temperature, top_k, top_p), allowed):
            out[at : at + len(tile)] = tile
            at += len(tile)
        return out

    def tiles(
        self,
        rows: int,
        seed: int,
        first_row: int = 0,
        given: np.ndarray | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
        allowed: Sequence[np.ndarray | None] | None = None,
    ) -> Iterator[np.ndarray]:
        """As `sample`, a tile at a time: memory does not grow with the rows."""
        lead = leading_codes(given, self.weights.sizes)
        bias = masked_bias(self._bias_V, allowed, self.weights.sizes, lead.shape[1])
        tile = min(self.tile, max(SMALLEST_TILE, -(-rows // self.threads)))
        jobs = (
            (min(tile, rows - start), Draw(seed, first_row + start, sampling, lead, bias))
            for start in range(0, rows, tile)
        )
        for codes, nodes in self._results(jobs):
            self.nodes += nodes
            yield codes.astype(self.dtype, copy=False)

    def _results(self, jobs: Iterable[tuple[int, Draw]]) -> Iterator[tuple[np.ndarray, int]]:
        """In order; with threads, as many tiles ahead. A pool's threads would not have torch's thread
        settings."""
        if self.threads == 1:
            yield from (self._decoder.sample(*job) for job in jobs)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            ahead: deque[Future[tuple[np.ndarray, int]]] = deque()
            for job in jobs:
                ahead.append(pool.submit(self._decoder.sample, *job))
                if len(ahead) > self.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    @property
    def dtype(self) -> np.dtype:
        """Of the codes: uint16 where they fit, else int32."""
        return np.dtype(np.uint16 if max(self.weights.sizes) <= 1 << 16 else np.int32)


def _decoder(
    weights: DecoderWeights, dtype: torch.dtype, device: torch.device, backend: str, share: bool
) -> LevelDecoder | CompiledDecoder:
    found = compiled_library(weights, dtype, device, backend)
    if found is not None:
        return CompiledDecoder(found, weights, dtype, share)
    return LevelDecoder(weights, dtype, device, share)


def placement(hidden: int) -> tuple[torch.dtype, torch.device]:
    """Arithmetic and device for a model of this width: its own CUDA card where there is one, wide models in
    bf16 there; else the CPU, in fp32.
    """
    found = device()
    wide = found.type == "cuda" and hidden >= WIDE
    return torch.bfloat16 if wide else torch.float32, found


def compiled_library(
    weights: DecoderWeights, dtype: torch.dtype, device: torch.device, backend: str
) -> ctypes.CDLL | None:
    """The compiled decoder, for CPUs where there is a compiler, except where torch's bf16 is faster than its
    fp32; else None.

    Raises GenerationError where it is wanted and cannot be had.
    """
    if backend not in BACKENDS:
        raise GenerationError(f"backend is {backend!r}, expected one of {BACKENDS}")
    wide = dtype != torch.float32 and weights.hidden >= WIDE
    wanted = backend == "compiled" or (backend == "auto" and device.type == "cpu" and not wide)
    found = library() if wanted else None
    if backend == "compiled" and found is None:
        raise GenerationError("the compiled decoder is not to be had here (the log says why): backend='auto'")
    return found
