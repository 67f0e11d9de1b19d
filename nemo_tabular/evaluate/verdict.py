"""Enter: the measured scores.
Leave: one grade and one sentence an area, for a reader who reads nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nemo_tabular.evaluate.controls import alarm
from nemo_tabular.evaluate.scores import SCORES, Measured

Grade = Literal["good", "fair", "poor", "open"]

# Where a grade ends. Parts are of the way from the floor (a worthless table) to the ceiling (real rows).
GOOD_PART, FAIR_PART = 0.95, 0.75
TOLD_APART = 0.01
"""Floor and ceiling nearer to each other than this, or than the interval is wide, are the same."""
GOOD_SHAPE_GAP, FAIR_SHAPE_GAP = 0.01, 0.05
GOOD_AUC, FAIR_AUC = 0.55, 0.7
FAIR_SHARE = 0.56


@dataclass(frozen=True)
class Verdict:
    """What a manager reads. `open` means that the scores at hand cannot tell."""

    area: str
    grade: Grade
    sentence: str


def verdicts(measured: Mapping[str, Measured]) -> list[Verdict]:
    """One verdict for each area of which anything was measured."""
    found = [
        _fidelity(measured),
        _histories(measured),
        _detection(measured),
        _utility(measured),
        _privacy(measured),
    ]
    return [verdict for verdict in found if verdict is not None]


def _worst(grades: list[Grade]) -> Grade:
    for grade in ("poor", "fair", "good"):
        if grade in grades:
            return grade  # type: ignore[return-value]
    return "open"


def _by(value: float, good: float, fair: float, *, higher: bool) -> Grade:
    sign = 1 if higher else -1
    return "good" if sign * value >= sign * good else "fair" if sign * value >= sign * fair else "poor"


def part_of_way(name: str, score: Measured) -> float | None:
    """How far a score is from the floor (0) to the ceiling (1); None where the floor is hardly worse."""
    if score.ceiling is None or score.floor is None or not _floor_is_worse(name, score):
        return None
    return (score.figure.value - score.floor) / (score.ceiling - score.floor)


def told_apart(measured: Mapping[str, Measured]) -> tuple[dict[str, Measured], dict[str, Measured]]:
    """The scores that cannot tell independent columns from real rows on these tables, and those that can."""
    compared = {
        n: m
        for n, m in measured.items()
        if SCORES[n].area in ("fidelity", "detection") and None not in (m.ceiling, m.floor)
    }
    telling = {n: m for n, m in compared.items() if _floor_is_worse(n, m)}
    return {n: m for n, m in compared.items() if n not in telling}, telling


def _floor_is_worse(name: str, m: Measured) -> bool:
    assert m.ceiling is not None and m.floor is not None
    sign = 1 if SCORES[name].better == "higher" else -1  # nearest to .5 is lowest: no AUC is far below it
    noise = 0.0 if m.figure.low is None or m.figure.high is None else m.figure.high - m.figure.low
    return sign * (m.ceiling - m.floor) > max(TOLD_APART, noise)


def _fidelity(measured: Mapping[str, Measured]) -> Verdict | None:
    grades: list[Grade] = []
    words = []
    if "shapes" in measured:
        shapes = measured["shapes"]
        words.append(f"Single columns match to {_percent(shapes.figure.value)}{_real(shapes)}")
        if shapes.ceiling is not None:
            gap = shapes.ceiling - (shapes.figure.high or shapes.figure.value)
            grades.append(_by(gap, GOOD_SHAPE_GAP, FAIR_SHAPE_GAP, higher=False))
    for name in ("trends", "marginals_2", "marginals_3"):
        if name not in measured:
            continue
        part = part_of_way(name, measured[name])
        if part is not None:
            grades.append(_by(part, GOOD_PART, FAIR_PART, higher=True))
    if "trends" in measured:
        trends = measured["trends"]
        floor = "" if trends.floor is None else f", independent columns {_percent(trends.floor)}"
        words.append(f"dependent pairs to {_percent(trends.figure.value)}{_real(trends, floor)}")
    if "marginals_3" in measured:
        triples = measured["marginals_3"]
        words.append(f"triples to {_percent(triples.figure.value)}{_real(triples)}")
    return Verdict("fidelity", _worst(grades), ", ".join(words) + ".") if words else None


def _histories(measured: Mapping[str, Measured]) -> Verdict | None:
    names = [n for n in ("history_lengths", "history_gaps", "history_transitions") if n in measured]
    if not names:
        return None
    grades = []
    for name in names:
        score, part = measured[name], part_of_way(name, measured[name])
        if part is not None:
            grades.append(_by(part, GOOD_PART, FAIR_PART, higher=True))
        elif score.ceiling is not None:
            gap = score.ceiling - score.figure.value
            grades.append(_by(gap, GOOD_SHAPE_GAP, FAIR_SHAPE_GAP, higher=False))
    titles = {"history_lengths": "lengths", "history_gaps": "gaps", "history_transitions": "transitions"}
    words = ", ".join(f"{titles[n]} {_percent(measured[n].figure.value)}{_real(measured[n])}" for n in names)
    return Verdict("histories", _worst(grades), f"Histories match real ones in their {words}.")


def _detection(measured: Mapping[str, Measured]) -> Verdict | None:
    if "c2st" not in measured:
        return None
    score = measured["c2st"]
    drift = max(
        0.0, (score.ceiling or 0.5) - 0.5
    )  # what tells train from test is no fault of the synthetic rows
    grade = _by(score.figure.value - drift, GOOD_AUC, FAIR_AUC, higher=False)
    can = {"good": "can hardly tell", "fair": "can often tell", "poor": "can tell"}[grade]
    return Verdict(
        "detection",
        grade,
        f"A detector trained on both {can} synthetic rows from unseen real ones: AUC "
        f"{score.figure.value:.3f} (0.5 is a coin, 1 is always right{_real(score, brackets=False)}).",
    )


def _utility(measured: Mapping[str, Measured]) -> Verdict | None:
    for name, title in (("utility_auc", "an AUC"), ("utility_r2", "an R² (share of variance explained)")):
        if name in measured:
            score = measured[name]
            part = part_of_way(name, score)
            grade: Grade = "open" if part is None else _by(part, GOOD_PART, FAIR_PART, higher=True)
            beside = "" if score.ceiling is None else f", one trained on real rows {score.ceiling:.3f}"
            return Verdict(
                "utility",
                grade,
                f"A model trained on the synthetic rows reaches {title} of {score.figure.value:.3f} on "
                f"unseen real rows{beside}.",
            )
    return None


def _privacy(measured: Mapping[str, Measured]) -> Verdict | None:
    names = [n for n in measured if SCORES[n].area == "privacy"]
    if not names:
        return None
    valid = [n for n in names if measured[n].valid]
    faults = [_privacy_fault(n, measured[n]) for n in valid if _alarmed(n, measured[n])]
    if not faults and set(valid) <= {"copies"}:
        return Verdict("privacy", "open", "The tables at hand are too small or too alike to tell.")
    if not faults:
        sentence = f"None of {len(valid)} tests found training rows in the synthetic table"
        shares = [f"{_percent(measured['copies'].figure.value)} exact copies" if "copies" in valid else ""]
        if "dcr_share" in valid:
            shares.append(
                f"{_percent(measured['dcr_share'].figure.value)} closer to training than to unseen rows"
            )
        beside = ", ".join(s for s in shares if s)
        beside = f" ({beside})" if beside else ""
        return Verdict("privacy", "good", f"{sentence}{beside}. They try known attacks and are no guarantee.")
    return Verdict(
        "privacy",
        _worst([grade for grade, _ in faults]),
        "Synthetic rows repeat training rows: " + "; ".join(words for _, words in faults) + ".",
    )


def _alarmed(name: str, score: Measured) -> bool:
    return alarm(name, score.figure, score.ceiling or 0.0)


def _privacy_fault(name: str, score: Measured) -> tuple[Grade, str]:
    """The grade of a score that raised the alarm, and what is wrong."""
    value, natural = score.figure.value, score.ceiling or 0.0
    if name in ("copies", "near_copies"):
        kind = "exact copies" if name == "copies" else "near copies"
        return "poor", f"{_percent(value)} are {kind}, {_percent(natural)} of held-out rows are"
    if name == "nndr":
        return (
            "poor",
            f"the nearest training row is too near (ratio {value:.2f}, held-out rows {natural:.2f})",
        )
    low = value if score.figure.low is None else score.figure.low
    grade: Grade = "fair" if low <= FAIR_SHARE else "poor"
    return grade, {
        "dcr_share": f"{_percent(value)} are closer to training than to unseen rows (50\u00a0% is natural)",
        "membership": f"membership can be guessed with an AUC of {value:.3f} (0.5 is natural)",
        "likelihood": f"the model's likelihood tells members with an AUC of {value:.3f} (0.5 is natural)",
        "singling_out": f"{_percent(value)} of the rows singled out are training rows (50\u00a0% is natural)",
    }[name]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}\u00a0%" if share else "0\u00a0%"


def _real(score: Measured, more: str = "", *, brackets: bool = True) -> str:
    if score.ceiling is None:
        return ""
    if not brackets:
        return f"; real rows get {score.ceiling:.3f}"
    return f" (real rows {_percent(score.ceiling)}{more})"
