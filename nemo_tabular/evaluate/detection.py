"""Enter: unseen real rows and as many synthetic rows.
Leave: how well a classifier tells them apart: a classifier two-sample test (C2ST).
"""

from __future__ import annotations

import warnings

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

FOLDS = 5
MIN_ROWS = 50
"""Below this a cross-validated AUC says nothing."""
MAX_LEVELS = 255
"""HistGradientBoosting takes no more values of a category: the commonest keep theirs, the rest share one."""
ONE_HOT_LEVELS = 50
EASIEST, DONORS = 10, 30


def measure_detection(
    real: CodedTable, synthetic: CodedTable, *, seed: int = 0, logistic: bool = True, explain: bool = False
) -> Findings:
    """AUC of boosted trees and of logistic regression, real against an equal number of synthetic rows.

    `explain` adds which columns told them apart and which synthetic rows were the easiest, with their values.
    """
    rng = np.random.default_rng(seed)
    rows = min(real.rows, synthetic.rows)
    if rows < MIN_ROWS:
        return Findings(notes=(f"detection: {rows} rows are too few, {MIN_ROWS} are needed; left out",))
    real, synthetic = real.sample(rows, rng), synthetic.sample(rows, rng)
    labels = np.repeat([0, 1], rows)
    x_RK = np.concatenate([model_matrix(real), model_matrix(synthetic)])
    make = lambda: boosted_classifier(real.columns, seed)  # noqa: E731
    figures = {"c2st": _cross_validated(x_RK, labels, make, seed)}
    if logistic:
        dense = linear_matrix(real.columns, x_RK)
        figures["c2st_logistic"] = _cross_validated(
            dense, labels, lambda: LogisticRegression(max_iter=200), seed
        )
    details = explanation(real, synthetic, x_RK, labels, seed) if explain else {}
    return Findings(figures, details)


def model_matrix(table: CodedTable) -> np.ndarray:
    """float64 (R, K) for boosted trees: categories as codes, the rarest of very many together."""
    x_RK = table.features()
    for k, column in enumerate(table.columns):
        if column.discrete:
            x_RK[:, k] = np.minimum(x_RK[:, k], MAX_LEVELS - 1)
    return x_RK


def category_mask(columns: tuple[ColumnView, ...]) -> np.ndarray:
    return np.array([c.discrete for c in columns])


def boosted_classifier(columns: tuple[ColumnView, ...], seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(categorical_features=category_mask(columns), random_state=seed)


def linear_matrix(columns: tuple[ColumnView, ...], x_RK: np.ndarray) -> np.ndarray:
    """float64 (R, features): standardised numbers, one-hot categories, flags of missing cells."""
    parts = []
    for k, column in enumerate(columns):
        values = x_RK[:, k]
        absent = np.isnan(values)
        if column.discrete:
            size = min(len(column.levels), ONE_HOT_LEVELS)
            codes = np.where(absent, size, np.minimum(values, size)).astype(np.int64)
            parts.append(np.eye(size + 1)[codes])
            continue
        spread = np.nanstd(values) if not absent.all() else 0.0
        middle = np.nanmean(values) if not absent.all() else 0.0
        scaled = np.where(absent, 0.0, (values - middle) / (spread or 1.0))
        parts.append(np.stack([np.clip(scaled, -10, 10), absent], axis=1))
    return np.concatenate(parts, axis=1)


def _cross_validated(x_RK: np.ndarray, labels: np.ndarray, make, seed: int) -> Figure:  # type: ignore[no-untyped-def]
    """Mean AUC over the folds, each fold judged by a model that has not seen it; interval by DeLong."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    aucs, variances = [], []
    for seen, unseen in folds.split(x_RK, labels):
        with warnings.catch_warnings():
            # 200 steps of a logistic regression detect what it can detect, converged to the last digit or not
            warnings.simplefilter("ignore", ConvergenceWarning)
            model = make().fit(x_RK[seen], labels[seen])
        auc, variance = auc_and_variance(labels[unseen], model.predict_proba(x_RK[unseen])[:, 1])
        aucs.append(auc)
        variances.append(variance)
    value, error = float(np.mean(aucs)), 1.96 * float(np.sqrt(np.sum(variances))) / FOLDS
    return Figure(value, value - error, value + error)


# ---------------------------------------------------------------- what gave them away


def explanation(
    real: CodedTable, synthetic: CodedTable, x_RK: np.ndarray, labels: np.ndarray, seed: int
) -> dict[str, object]:
    """{"giveaways": [{column, auc_drop}], "easiest": [{certainty, because, values}]}, judged on unseen rows.

    The drop is that of the AUC when the column's values are shuffled over all rows: what the detector loses
    without it. A row's `because` are the columns whose replacement by real values calms the detector most.
    """
    seen, unseen = next(StratifiedKFold(2, shuffle=True, random_state=seed).split(x_RK, labels))
    model = boosted_classifier(real.columns, seed).fit(x_RK[seen], labels[seen])
    rng = np.random.default_rng(seed)
    drops = _auc_drops(model, x_RK[unseen], labels[unseen], rng)
    giveaways = [
        {"column": real.columns[k].name, "auc_drop": float(drops[k])}
        for k in np.argsort(-drops)
        if drops[k] > 0
    ]
    fakes = unseen[labels[unseen] == 1]
    certainty = model.predict_proba(x_RK[fakes])[:, 1]
    reals = x_RK[unseen][labels[unseen] == 0]
    easiest = []
    for i in np.argsort(-certainty, kind="stable")[:EASIEST]:
        because = _because(model, x_RK[fakes[i]], reals, rng)
        row = fakes[i] - real.rows
        easiest.append(
            {
                "certainty": float(certainty[i]),
                "because": [real.columns[k].name for k in because],
                "values": {c.name: c.show(synthetic[c.name][row]) for c in real.columns},
            }
        )
    return {"giveaways": giveaways, "easiest": easiest}


def _auc_drops(model, x_RK: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:  # type: ignore[no-untyped-def]
    whole, _ = auc_and_variance(labels, model.predict_proba(x_RK)[:, 1])
    drops = []
    for k in range(x_RK.shape[1]):
        shuffled = x_RK.copy()
        shuffled[:, k] = rng.permutation(shuffled[:, k])
        drops.append(whole - auc_and_variance(labels, model.predict_proba(shuffled)[:, 1])[0])
    return np.array(drops)


def _because(model, row_K: np.ndarray, reals: np.ndarray, rng: np.random.Generator) -> list[int]:  # type: ignore[no-untyped-def]
    """The (at most three) columns of a row whose replacement by real values calms the detector most."""
    donors = reals[rng.integers(0, len(reals), DONORS)]
    trials = np.tile(row_K, (len(row_K) * DONORS, 1))
    for k in range(len(row_K)):
        trials[k * DONORS : (k + 1) * DONORS, k] = donors[:, k]
    before = model.decision_function(row_K[None])[0]
    drops = before - model.decision_function(trials).reshape(len(row_K), DONORS).mean(axis=1)
    return [int(k) for k in np.argsort(-drops)[:3] if drops[k] > 0.1 * drops.max() > 0]


# ---------------------------------------------------------------- area under the curve


def auc_and_variance(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Area under the ROC curve and its variance (DeLong et al. 1988), ties counted half."""
    positive, negative = np.sort(scores[labels == 1]), np.sort(scores[labels == 0])
    below = _share_below(negative, positive)
    above = 1 - _share_below(positive, negative)
    variance = below.var() / len(positive) + above.var() / len(negative)
    return float(below.mean()), float(variance)


def _share_below(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    low, high = np.searchsorted(reference, values, "left"), np.searchsorted(reference, values, "right")
    return (low + high) / 2 / len(reference)
