"""Enter: train, test and synthetic tables, ours or anyone's.
Leave: a Report with every score, its ceiling (real rows) and its floor (independent marginals).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nemo_tabular.errors import ConfigError, nearest
from nemo_tabular.evaluate.association import measure_association
from nemo_tabular.evaluate.controls import control_fault
from nemo_tabular.evaluate.coverage import measure_coverage
from nemo_tabular.evaluate.detection import measure_detection
from nemo_tabular.evaluate.fidelity import measure_fidelity
from nemo_tabular.evaluate.histories import (
    measure_histories,
    resampled_histories,
    shuffled_histories,
    sorted_histories,
)
from nemo_tabular.evaluate.likelihood import Scorer, measure_likelihood
from nemo_tabular.evaluate.privacy import measure_privacy, overlap
from nemo_tabular.evaluate.report import Report
from nemo_tabular.evaluate.rules import rule_findings
from nemo_tabular.evaluate.scores import SCORES, Figure, Findings, Measured
from nemo_tabular.evaluate.tables import CodedTable, Tables, align
from nemo_tabular.evaluate.utility import measure_utility
from nemo_tabular.schema import Schema

# Beyond these the figures hardly move and the cost does; every cut is stated in the report.
FIDELITY_ROWS, DETECTION_ROWS, UTILITY_ROWS = 100_000, 25_000, 100_000
DRIFT_AUC = 0.55
RESAMPLES, RESAMPLED_ROWS, RESAMPLED_CELLS = 8, 10_000, 2_000_000
"""Bootstrap samples, their rows at most, and rows times pairs of columns at most."""
RESAMPLED_HISTORY_ROWS = 50_000
T_QUANTILE = 2.36
"""Of Student's t at RESAMPLES - 1 degrees of freedom: the spread of so few samples is itself uncertain."""

Triple = tuple[Findings, Findings, Findings]
"""The synthetic table, the ceiling, the floor."""


def evaluate(
    train: Any,
    test: Any,
    synthetic: Any,
    *,
    target: str | None = None,
    schema: Schema | None = None,
    seed: int = 0,
    scores: Iterable[str] | None = None,
    references: bool = True,
    model: Scorer | None = None,
) -> Report:
    """Judge a synthetic table against the real rows it was made from (train) and unseen ones (test).

    Tables are DataFrames or paths. `target` names the column for the utility scores; a schema with `group_by`
    adds the scores of histories. `scores` names areas (fidelity, histories, detection, utility, privacy) or
    single scores; None measures all. `references=False` leaves out ceilings, floors and intervals, which take
    most of the time. `model` (a fitted Synthesizer) adds membership inference by its likelihood. The same
    seed gives the same figures.

    Raises SchemaError where the tables do not fit each other, ConfigError for an unknown score.
    """
    started = time.process_time()
    areas, wanted = _wanted(scores, target, bool(schema and schema.group_by), model is not None)
    tables = align(train, test, synthetic, schema=schema, target=target)
    notes = [*tables.notes, *_overlap_note(tables)]
    triples = [_AREAS[area](tables, target, seed, references) for area in areas]
    if model is not None and "likelihood" in wanted:
        triples.append(measure_likelihood(model, train, test, tables, seed=seed))
    measured: dict[str, Measured] = {}
    details: dict[str, Any] = {}
    for triple in triples:
        measured |= {n: m for n, m in _measured(triple).items() if n in wanted}
        details |= triple[0].details
        notes += triple[0].notes
    notes += _drift_note(measured)
    return Report(measured, details, tuple(notes), tables, target, seed, time.process_time() - started)


def _wanted(
    scores: Iterable[str] | None, target: str | None, grouped: bool, modelled: bool
) -> tuple[list[str], set[str]]:
    """The areas to run and the scores to show."""
    names = list(_AREAS) if scores is None else [scores] if isinstance(scores, str) else list(scores)
    known = [*_AREAS, *SCORES]
    for name in names:
        if name not in known:
            raise ConfigError(f"unknown score {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    wanted = {s for s, d in SCORES.items() if s in names or d.area in names}
    if "likelihood" in names and not modelled:
        raise ConfigError("membership by likelihood needs the model: say which with model (--model RUN)")
    areas = [a for a in _AREAS if any(_AREA_OF[s] == a for s in wanted - {"likelihood"})]
    if target is None and "utility" in areas:
        if scores is not None:
            raise ConfigError("utility scores need a target column: say which with target")
        areas.remove("utility")
    if not grouped and "histories" in areas:
        if scores is not None:
            raise ConfigError(
                "scores of histories need a schema with group_by: say what tells histories apart"
            )
        areas.remove("histories")
    return areas, wanted


def _overlap_note(tables: Tables) -> list[str]:
    share, natural = overlap(tables)
    if share == 0:
        return []
    note = f"{share:.2%} of the test rows are also in train"
    if share > 2 * natural + 0.001:
        note += (
            f", though only {natural:.2%} of the training rows have a double within train: the test set "
            "overlaps the training set, and every score that relies on unseen rows is too favourable"
        )
    return [note]


def _drift_note(measured: Mapping[str, Measured]) -> list[str]:
    ceiling = measured["c2st"].ceiling if "c2st" in measured else None
    if ceiling is None or ceiling < DRIFT_AUC:
        return []
    return [
        f"test and training rows differ: a detector tells them apart, AUC {ceiling:.3f}; a test set "
        "drawn at random would judge the synthetic rows more fairly"
    ]


def _measured(triple: Triple) -> dict[str, Measured]:
    own, ceiling, floor = (findings.figures for findings in triple)
    return {
        name: Measured(
            figure,
            ceiling[name].value if name in ceiling else None,
            floor[name].value if name in floor else None,
            control_fault(name, ceiling.get(name), floor.get(name)) if _AREA_OF[name] == "privacy" else "",
        )
        for name, figure in own.items()
    }


_AREA_OF = {name: definition.area for name, definition in SCORES.items()}


# ---------------------------------------------------------------- areas


def _cut(table: CodedTable, limit: int, what: str, rng: np.random.Generator, notes: list[str]) -> CodedTable:
    if table.rows <= limit:
        return table
    notes.append(f"{what}: {limit:,} of {table.rows:,} rows, drawn at random")
    return table.sample(limit, rng)


def _bootstrap(table: CodedTable, rows: int, rng: np.random.Generator) -> CodedTable:
    return table.take(rng.integers(0, table.rows, rows))


def _fidelity(tables: Tables, target: str | None, seed: int, references: bool) -> Triple:
    """The floor: training rows drawn again, each column by itself."""
    rng, notes = np.random.default_rng(seed), []  # type: ignore[var-annotated]
    real = _cut(tables.train, FIDELITY_ROWS, "fidelity: train", rng, notes)
    synthetic = _cut(tables.synthetic, FIDELITY_ROWS, "fidelity: synthetic", rng, notes)
    own = _all_fidelity(real, synthetic, seed)
    worst = _bootstrap(tables.train, synthetic.rows, rng).shuffled_columns(rng)
    rules = rule_findings(real, tables.test, synthetic, worst, seed=seed)
    said = Findings(notes=tuple(notes))
    if not references:
        return _joined(own, rules[0], said), Findings(), Findings()
    ceiling = _fidelity_ceiling(own, real, tables.test, synthetic, rng, seed)
    own = _with_intervals(own, real, synthetic, rng, seed)
    floor = _all_fidelity(real, worst, seed)
    return _joined(own, rules[0], said), _joined(ceiling, rules[1]), _joined(floor, rules[2])


def _fidelity_ceiling(
    own: Findings,
    real: CodedTable,
    test: CodedTable,
    synthetic: CodedTable,
    rng: np.random.Generator,
    seed: int,
) -> Findings:
    """What as many unseen real rows would get.

    Fewer rows score worse by sampling noise alone, and the test table is mostly the smaller one. So both are
    compared at the test table's size, and the difference is added to the score of the whole synthetic table.
    """
    rows = min(test.rows, synthetic.rows)
    fresh = _all_fidelity(real, test.sample(rows, rng), seed).figures
    same = (
        own.figures
        if rows == synthetic.rows
        else _all_fidelity(real, synthetic.sample(rows, rng), seed).figures
    )
    return Findings(
        {
            n: Figure(_within_unit(own.figures[n].value + f.value - same[n].value))
            for n, f in fresh.items()
            if n in same
        }
    )


def _within_unit(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _all_fidelity(real: CodedTable, synthetic: CodedTable, seed: int) -> Findings:
    return _joined(
        measure_fidelity(real, synthetic, seed=seed),
        measure_association(real, synthetic),
        measure_coverage(real, synthetic, seed=seed),
    )


def _with_intervals(
    own: Findings, real: CodedTable, synthetic: CodedTable, rng: np.random.Generator, seed: int
) -> Findings:
    """95 % intervals, for the scores that have none yet, from the spread over bootstrap samples.

    The spread only: their mean is biased, since drawing again adds noise that the table itself does not have.
    Of a large table smaller samples are drawn, whose spread shrinks with the root of the rows (m out of n).
    """
    pairs = max(1, len(real.columns) * (len(real.columns) - 1) // 2)
    rows = min(synthetic.rows, RESAMPLED_ROWS, max(1000, RESAMPLED_CELLS // pairs))
    again = []
    for _ in range(RESAMPLES):
        drawn = _bootstrap(synthetic, rows, rng)
        spread = measure_fidelity(real, drawn, seed=seed).figures
        again.append({**spread, **measure_association(real, drawn).figures})
    return _with_spread(own, again, rows / synthetic.rows)


def _with_spread(own: Findings, again: Sequence[Mapping[str, Figure]], share: float) -> Findings:
    """Intervals from the same scores of samples that hold `share` of the rows, or of the histories."""
    figures = dict(own.figures)
    for name in again[0]:
        drawn, value = [a[name].value for a in again if name in a], figures[name].value
        error = T_QUANTILE * float(np.sqrt(share) * np.std(drawn, ddof=1)) if len(drawn) > 1 else np.nan
        figures[name] = Figure(value, _within_unit(value - error), _within_unit(value + error))
    return replace(own, figures=figures)


def _joined(*findings: Findings) -> Findings:
    return Findings(
        {n: f for each in findings for n, f in each.figures.items()},
        {n: d for each in findings for n, d in each.details.items()},
        tuple(note for each in findings for note in each.notes),
    )


def _detection(tables: Tables, target: str | None, seed: int, references: bool) -> Triple:
    """The ceiling: training rows instead of synthetic ones, each once (a row is told by its double)."""
    rng, notes = np.random.default_rng(seed), []  # type: ignore[var-annotated]
    rows = min(tables.test.rows, tables.synthetic.rows)
    real = _cut(tables.test.sample(rows, rng), DETECTION_ROWS, "detection: test", rng, notes)
    if real.rows < tables.synthetic.rows:
        notes.append(f"detection: {real.rows:,} of {tables.synthetic.rows:,} synthetic rows, drawn at random")
    own = measure_detection(real, tables.synthetic, seed=seed, explain=True)
    own = replace(own, notes=(*notes, *own.notes))
    if not references:
        return own, Findings(), Findings()
    floor = measure_detection(real, tables.train.shuffled_columns(rng), seed=seed)
    return own, measure_detection(real, tables.train, seed=seed), floor


def _utility(tables: Tables, target: str | None, seed: int, references: bool) -> Triple:
    """The ceiling trains on train, cut to as many rows as the synthetic table has if that has fewer."""
    assert target is not None
    rng, notes, column = np.random.default_rng(seed), [], tables.column(target)  # type: ignore[var-annotated]
    test = _cut(tables.test, UTILITY_ROWS, "utility: test", rng, notes)
    training = _cut(tables.synthetic, UTILITY_ROWS, "utility: synthetic", rng, notes)
    real = _cut(tables.train, UTILITY_ROWS, "utility: train", rng, notes)
    own = measure_utility(training, test, column, seed=seed)
    own = replace(own, notes=(*notes, *own.notes))
    if not references:
        return own, Findings(), Findings()
    floor = measure_utility(real.shuffled_columns(rng), test, column, seed=seed, seeds=1)
    return own, measure_utility(real, test, column, seed=seed), floor


def _privacy(tables: Tables, target: str | None, seed: int, references: bool) -> Triple:
    """Never without its controls: a distance alone says nothing."""
    return measure_privacy(tables, seed=seed)


def _histories(tables: Tables, target: str | None, seed: int, references: bool) -> Triple:
    """Ceiling: the histories of the test table. Floor: the training rows dealt to its histories at random."""
    parts = {"train": tables.train, "test": tables.test, "synthetic": tables.synthetic}
    found = {r: sorted_histories(t, tables.groups[r], tables.order_by) for r, t in parts.items()}
    own = measure_histories(found["train"], found["synthetic"], tables.order_by)
    own = replace(own, details={"histories": own.details})
    if not references or not own.figures:
        return own, Findings(), Findings()
    rng = np.random.default_rng(seed)
    share = min(1.0, RESAMPLED_HISTORY_ROWS / tables.synthetic.rows)
    samples = [resampled_histories(found["synthetic"], share, rng) for _ in range(RESAMPLES)]
    again = [measure_histories(found["train"], h, tables.order_by).figures for h in samples]
    own = _with_spread(own, again, share)
    dealt = shuffled_histories(found["train"], rng)
    ceiling, floor = (measure_histories(found["train"], h, tables.order_by) for h in (found["test"], dealt))
    return own, ceiling, floor


_AREAS: dict[str, Callable[[Tables, str | None, int, bool], Triple]] = {
    "fidelity": _fidelity,
    "histories": _histories,
    "detection": _detection,
    "utility": _utility,
    "privacy": _privacy,
}
