"""Parameters of mixtures of Gaussians enter; exact log-probabilities of numbers leave, and numbers drawn.

The numbers are those of a column: within bounds, and, where they come in steps, each step has the probability
of its interval, so that probabilities of all values sum to 1 whatever the widths. Everything is in units of
the column's deviation from its mean.

Shapes: ... any, K components.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .draw import Draw

NARROW = 0.01
"""An interval of so few deviations has the density at its middle times its width, to 4e-6 of itself."""
LEAST_LOG_STD, MOST_LOG_STD = -7.0, 3.0


@dataclass(frozen=True)
class Support:
    """Which numbers there are. Tensors of any shape that fits the numbers'."""

    low: Tensor
    high: Tensor
    """Edges: half a step beyond the least and the greatest number."""
    step: Tensor
    """0: a continuum."""


def split(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(..., 3 K) -> log-weights, means and standard deviations (..., K)."""
    logits, mean, log_std = parameters.chunk(3, -1)
    return logits.log_softmax(-1), mean, log_std.clamp(LEAST_LOG_STD, MOST_LOG_STD).exp()


def log_interval(a: Tensor, b: Tensor) -> Tensor:
    """log P(a < Z < b) of a standard normal Z, for a < b: exact in the tails, finite with finite
    gradients."""
    turned = a + b > 0  # both ends on the left, where log_ndtr is accurate
    a, b = torch.where(turned, -b, a), torch.where(turned, -a, b)
    width = b - a
    narrow = width < NARROW
    middle = (a + b) / 2
    density = -0.5 * middle**2 - 0.5 * math.log(2 * math.pi) + width.clamp_min(1e-30).log()
    upper = torch.special.log_ndtr(torch.where(narrow, a + 1, b))
    fall = (torch.special.log_ndtr(a) - upper).clamp_max(-1e-6)
    return torch.where(narrow, density, upper + torch.log(-torch.expm1(fall)))


def log_prob(parameters: Tensor, z: Tensor, support: Support, without: Tensor | None = None) -> Tensor:
    """(...) of numbers z (...): log-probability of its step, or log-density. `without` (A,): numbers that do
    not occur."""
    log_w, mean, std = split(parameters.float())
    low, high, step = (x.unsqueeze(-1) for x in (support.low, support.high, support.step))

    def between(a: Tensor, b: Tensor) -> Tensor:
        return torch.logsumexp(log_w + log_interval((a - mean) / std, (b - mean) / std), -1)

    x = z.unsqueeze(-1)
    score = (x - mean) / std
    density = log_w - 0.5 * score**2 - std.log() - 0.5 * math.log(2 * math.pi)
    stepped = support.step > 0
    whole = between(low, high)
    if without is not None and len(without):
        gone = torch.stack([between(atom - step / 2, atom + step / 2) for atom in without]).logsumexp(0)
        whole = whole + torch.log1p(-(gone - whole).exp().clamp_max(1 - 1e-6))
    if not bool(stepped.any()):
        return torch.logsumexp(density, -1) - whole
    found = between(x - step / 2, x + step / 2)
    return torch.where(stepped, found, torch.logsumexp(density, -1)) - whole


def sample(parameters: Tensor, support: Support, draw: Draw) -> Tensor:
    """float64 (N,) from parameters (N, 3 K); not yet rounded to steps."""
    log_w, mean, std = (x.double() for x in split(parameters.float()))
    low, high = support.low.double().unsqueeze(-1), support.high.double().unsqueeze(-1)
    k = draw.choose(log_w + log_interval((low - mean) / std, (high - mean) / std)).unsqueeze(1)
    mean, std = mean.gather(1, k).squeeze(1), std.gather(1, k).squeeze(1)
    a, b = (low.squeeze(-1) - mean) / std, (high.squeeze(-1) - mean) / std
    turned = a + b > 0
    left, right = torch.where(turned, -b, a), torch.where(turned, -a, b)
    first, last = torch.special.ndtr(left), torch.special.ndtr(right)
    score = torch.special.ndtri(first + draw.uniform()[:, 0] * (last - first)).clamp(left, right)
    return mean + std * torch.where(turned, -score, score)
