"""Samples of a forecast and what came true enter; the forecast's score leaves, by which fine-tuning is judged
as much as backtests are.

Shapes: S samples.
"""

import numpy as np


def crps(samples_S: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Continuous ranked probability score of the samples' own distribution, in the truth's unit; lower is
    better.

    samples (S, ...), truth (...) -> (...). Exact, mean|x - y| - mean|x - x'| / 2 over all pairs, from the
    sorted samples; not an estimate for the distribution that they come from (which would be smaller by a
    share 1 / S of its second term).
    """
    ordered = np.sort(samples_S, 0)
    count = len(ordered)
    weight = (2 * np.arange(count) + 1 - count) / count**2  # sum of weight * x = mean |x - x'| / 2
    spread = np.tensordot(weight, ordered, 1)
    return np.abs(ordered - truth).mean(0) - spread
