"""Enter: figures that the scorers of this folder measured.
Leave: each figure with its interval, its ceiling and floor, and the words that say how to read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Better = Literal["higher", "lower", "near"]


@dataclass(frozen=True)
class Definition:
    """What a score is, independent of any table."""

    area: str
    """fidelity | detection | utility | privacy | histories"""
    title: str
    better: Better
    means: str
    """One line: what is compared with what."""
    blind: str = ""
    """What a good figure does not say."""
    reference: float | None = None
    """The value that a perfect table approaches, where `better` is "near"."""


@dataclass(frozen=True)
class Figure:
    """One measured value and, where it was estimated, its 95 % interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """One score of the synthetic table beside what real rows and a worthless table get."""

    figure: Figure
    ceiling: float | None = None
    """Real rows in place of the synthetic ones."""
    floor: float | None = None
    """Independent marginals in their place; for privacy the training table itself."""

    fault: str = ""
    """Why the score is no evidence on these tables; empty for a valid one."""

    @property
    def valid(self) -> bool:
        return not self.fault


@dataclass(frozen=True)
class Findings:
    """What one scorer found: figures by score name, details for tables and pictures, notes for the reader."""

    figures: Mapping[str, Figure] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


SCORES: dict[str, Definition] = {
    "shapes": Definition(
        "fidelity",
        "Column shapes",
        "higher",
        "SDMetrics Column Shapes: 1 - KS distance (numbers) or 1 - total variation (categories), by column",
        "every dependence between columns: independently drawn columns score just as well",
    ),
    "trends": Definition(
        "fidelity",
        "Pair trends",
        "higher",
        "SDMetrics Column Pair Trends: 1 - |difference of correlations| / 2, or 1 - total variation, mean of "
        "the pairs whose correlation exceeds .5 or whose Cramer's V exceeds .3 in the real table",
        "weakly dependent pairs; dependence of three columns and more",
    ),
    "trends_all": Definition(
        "fidelity",
        "Pair trends, all pairs",
        "higher",
        "the same over all pairs, as SDMetrics did before it left out pairs that hardly depend on each other",
        "pairs of independent columns score high by themselves; three columns and more",
    ),
    "marginals_1": Definition(
        "fidelity",
        "1-way marginals",
        "higher",
        "1 - total variation over deciles or the ten commonest values, mean over the columns",
        "anything finer than a tenth of the table, every dependence between columns",
    ),
    "marginals_2": Definition(
        "fidelity",
        "2-way marginals",
        "higher",
        "the same for every pair of columns",
        "anything finer than a tenth of the table, three columns and more",
    ),
    "marginals_3": Definition(
        "fidelity",
        "3-way marginals",
        "higher",
        "the same for every triple of columns, or a stated sample of them",
        "anything finer than a tenth of the table, four columns and more",
    ),
    "spikes": Definition(
        "fidelity",
        "Spike error",
        "lower",
        "total variation over the repeated values (1 % of train or more) of each number column, mean",
        "values between the spikes, every dependence between columns",
    ),
    "missing": Definition(
        "fidelity",
        "Missing share error",
        "lower",
        "largest difference of a column's share of missing cells",
        "which rows have them",
    ),
    "associations": Definition(
        "fidelity",
        "Association error",
        "lower",
        "mean |difference| of the association matrices: rank correlation, correlation ratio, Cramer's V",
        "every dependence that is not monotonous, three columns and more",
    ),
    "alpha_precision": Definition(
        "fidelity",
        "Alpha-precision",
        "higher",
        "synthetic rows lie where real rows lie: share within the ball of each share of the real rows",
        "missing variety, dependence between columns",
    ),
    "beta_recall": Definition(
        "fidelity",
        "Beta-recall",
        "higher",
        "real rows are reached: share with a synthetic row nearer than their nearest real neighbour",
        "copies of training rows score best",
    ),
    "rules": Definition(
        "fidelity",
        "Broken rules",
        "lower",
        "mean share of rows that break a rule of train: one column determines, bounds or goes with another",
        "rules of more than two columns",
    ),
    "c2st": Definition(
        "detection",
        "Boosted trees, AUC",
        "near",
        "gradient boosting tells unseen real rows (test) from as many synthetic ones; 0.5: it cannot",
        "copies of training rows look real",
        reference=0.5,
    ),
    "c2st_logistic": Definition(
        "detection",
        "Logistic regression, AUC",
        "near",
        "the same with logistic regression",
        "every dependence between columns; copies of training rows",
        reference=0.5,
    ),
    "utility_accuracy": Definition(
        "utility",
        "Accuracy",
        "higher",
        "gradient boosting trained on synthetic rows, judged on test rows",
        "rare classes",
    ),
    "utility_f1": Definition(
        "utility",
        "F1",
        "higher",
        "the same: F1 of the rarer class (mean over the classes if there are more than two)",
    ),
    "utility_auc": Definition(
        "utility",
        "AUC",
        "higher",
        "the same: area under the ROC curve (mean over one class against the rest)",
    ),
    "utility_r2": Definition(
        "utility",
        "R2",
        "higher",
        "gradient boosting trained on synthetic rows, judged on test rows: share of the variance explained",
    ),
    "utility_mae": Definition(
        "utility",
        "Mean absolute error",
        "lower",
        "the same: mean absolute error, in the target's unit",
    ),
    "copies": Definition(
        "privacy",
        "Exact copies",
        "lower",
        "share of synthetic rows that equal a training row in every column; held-out rows: what is natural",
        "near copies",
    ),
    "near_copies": Definition(
        "privacy",
        "Near copies",
        "lower",
        "share of rows closer to a training row than 99 % of the held-out rows are; 0.01 is natural",
        "which rows they are",
    ),
    "dcr_share": Definition(
        "privacy",
        "Closest-record share",
        "near",
        "share of synthetic rows closer to a training row than to any of as many test rows; 0.5: no closer",
        "copies of single rare rows",
        reference=0.5,
    ),
    "nndr": Definition(
        "privacy",
        "Nearest-neighbour ratio",
        "higher",
        "median of distance to the nearest / to the second nearest training row; copies give 0",
        "copies of rows that stand in a crowd",
    ),
    "membership": Definition(
        "privacy",
        "Membership inference, AUC",
        "near",
        "guessing from the distance to the nearest synthetic row who was in train; 0.5: a coin",
        "an attacker who has the model, or knows more than the table",
        reference=0.5,
    ),
    "likelihood": Definition(
        "privacy",
        "Membership by likelihood, AUC",
        "near",
        "guessing from the model's likelihood of a row who was in train; 0.5: a coin. Held-out control: test "
        "against test; training-table control: half of the model's probability moved onto the training rows",
        "an attacker who has a second model to compare with",
        reference=0.5,
    ),
    "singling_out": Definition(
        "privacy",
        "Singling out",
        "near",
        "of the rare combinations of two to four columns that single out one real row, the share that single "
        "out a training row rather than an unseen one; 0.5: no more",
        "combinations of more columns; what an attacker knows already",
        reference=0.5,
    ),
    "history_lengths": Definition(
        "histories",
        "Lengths",
        "higher",
        "1 - KS distance of the numbers of rows in a history",
        "what is in them",
    ),
    "history_gaps": Definition(
        "histories",
        "Time between rows",
        "higher",
        "1 - KS distance of the times from one row of a history to the next",
        "what happens at those times",
    ),
    "history_transitions": Definition(
        "histories",
        "Transitions",
        "higher",
        "1 - total variation over (value, next value), deciles or ten commonest values, mean of the columns",
        "memory longer than one row",
    ),
    "history_autocorrelation": Definition(
        "histories",
        "Autocorrelation error",
        "lower",
        "|difference| of the rank autocorrelations at lags 1 to 3, mean over the number columns",
        "memory longer than three rows, dependence between columns",
    ),
    "history_constants": Definition(
        "histories",
        "Broken constants",
        "lower",
        "share of histories that change what never changes within a training history, mean over such columns",
    ),
}
