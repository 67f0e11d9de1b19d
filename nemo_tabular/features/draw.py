"""Row states and how to draw enter; uniform numbers, normal numbers and choices leave, each row's its own:
they do not depend on the rows beside it."""

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..errors import GenerationError
from ..uniforms import words

NOT_FINITE = "the model's probabilities are not finite: did its training diverge? Take another checkpoint"
FIRST_NUMBER = 1 << 41  # of a row's random numbers: those below are for slots and the remainders of numbers
NUMBERS = 1 << 21  # of one column


@dataclass(frozen=True)
class Sampling:
    """How a code is drawn from its slot's distribution; the defaults draw from the model as it is."""

    temperature: float = 1.0
    """Logits are divided by it: below 1 the likely becomes likelier."""
    top_k: int = 0
    """Draw among the k most probable codes of each slot; 0: among all."""
    top_p: float = 1.0
    """Draw among the fewest codes of each slot that hold this probability together; 1: among all."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise GenerationError(
                f"temperature is {self.temperature}, expected above 0; top_k=1 takes the most probable code"
            )
        if self.top_k < 0:
            raise GenerationError(f"top_k is {self.top_k}, expected 0 (all codes) or more")
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}, expected above 0 and at most 1 (all codes)")

    @property
    def plain(self) -> bool:
        """Whether codes are drawn from the model's own distribution."""
        return self == Sampling()


@dataclass
class Draw:
    """The randomness of one column's cells in some rows; each call takes the next numbers of every row."""

    states: np.ndarray
    """uint64 (rows,): see uniforms.py."""
    column: int = 0
    """Number of the column: another one has other numbers."""
    sampling: Sampling = field(default_factory=Sampling)
    _next: int = 0

    def uniform(self, count: int = 1) -> Tensor:
        """float64 (rows, count), between 0 and 1, both excluded."""
        first = FIRST_NUMBER + self.column * NUMBERS + self._next
        self._next += count
        numbers = np.arange(first, first + count, dtype=np.uint64)
        high = (words(self.states[:, None], numbers) >> np.uint64(11)).astype(np.float64)
        return torch.from_numpy((high + 0.5) * 2.0**-53)

    def normal(self, count: int = 1) -> Tensor:
        """float64 (rows, count), standard normal."""
        return torch.special.ndtri(self.uniform(count))

    def choose(self, logits: Tensor) -> Tensor:
        """int64 (rows,): one of each row's classes, logits (rows, classes)."""
        return invert(cumulative(logits.double(), self.sampling), self.uniform()[:, 0].to(logits.device))


def cumulative(logits_MC: Tensor, sampling: Sampling) -> Tensor:
    """The cumulative distribution (not divided by its total) of float64 logits after temperature, top-k and
    top-p."""
    scaled = logits_MC / sampling.temperature if sampling.temperature != 1 else logits_MC
    p_MC = (scaled - scaled.amax(1, keepdim=True)).exp_()
    size = p_MC.shape[1]
    if 0 < sampling.top_k < size or sampling.top_p < 1:
        sorted_MC, index_MC = p_MC.sort(stable=True, dim=1, descending=True)
        sorted_MC[:, sampling.top_k or size :] = 0
        if sampling.top_p < 1:
            before_MC = sorted_MC.cumsum(1) - sorted_MC
            sorted_MC[before_MC >= sampling.top_p * sorted_MC.sum(1, keepdim=True)] = 0
        p_MC = torch.zeros_like(p_MC).scatter_(1, index_MC, sorted_MC)
    return p_MC.cumsum_(1)


def invert(cdf_NC: Tensor, uniform_N: Tensor) -> Tensor:
    """The first code whose cumulative probability exceeds the uniform's share: never one of probability 0."""
    total_N1 = cdf_NC[:, -1:]
    if not bool(torch.isfinite(total_N1).all()):
        raise GenerationError(NOT_FINITE)
    return torch.searchsorted(cdf_NC.contiguous(), uniform_N.unsqueeze(1) * total_N1, right=True).squeeze(1)
