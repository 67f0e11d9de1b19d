"""Enter: one privacy figure of the synthetic table, of held-out real rows, or of the training table.
Leave: whether it says that training rows are repeated, and whether the score can be believed at all.
"""

from __future__ import annotations

from nemo_tabular.evaluate.scores import Figure

SHARE = 0.53
"""Of scores whose natural value is .5: beyond it by more than the interval, something leaks."""
NEAR_COPIES = 0.02
COPIES_BEYOND_NATURAL = 0.001
RATIO_BELOW_NATURAL = 0.02


def alarm(name: str, figure: Figure, natural: float) -> bool:
    """Whether even the favourable end of the interval is beyond what held-out rows get (`natural`)."""
    low = figure.value if figure.low is None else figure.low
    high = figure.value if figure.high is None else figure.high
    if name == "copies":
        return low > natural + COPIES_BEYOND_NATURAL
    if name == "near_copies":
        return low > max(NEAR_COPIES, 2 * natural)
    if name == "nndr":
        return high < natural - RATIO_BELOW_NATURAL
    return low > SHARE


def control_fault(name: str, held_out: Figure | None, train: Figure | None) -> str:
    """Why the score is no evidence on these tables; empty where both controls came out as they must.

    The training table itself must raise the alarm, real rows that nobody trained on must not.
    """
    if held_out is None or train is None:
        return "it could not be tried on real rows"
    if alarm(name, held_out, held_out.value):
        return f"held-out real rows fail it too ({held_out.value:.3f})"
    if not alarm(name, train, held_out.value):
        return f"the training table itself passes it ({train.value:.3f})"
    return ""
