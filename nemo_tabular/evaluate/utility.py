"""Enter: train, test and synthetic rows and a target column.
Leave: how good a model trained on synthetic rows is on real test rows.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, r2_score

from nemo_tabular.evaluate.detection import (
    auc_and_variance,
    boosted_classifier,
    category_mask,
    model_matrix,
)
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

MIN_ROWS = 50
RESAMPLES = 200


def measure_utility(
    training: CodedTable, test: CodedTable, target: ColumnView, *, seed: int = 0, seeds: int = 3
) -> Findings:
    """Scores on `test` of gradient boosting trained on `training`, mean over `seeds` fits.

    A category target gives accuracy, F1 of the rarer class and AUC; a number target R2 and mean absolute
    error. Rows without a target are left out. The interval is that of the seeds and of the finite test table.
    """
    training, test = (t.take(~np.isnan(t[target.name])) for t in (training, test))
    if min(training.rows, test.rows) < MIN_ROWS:
        return Findings(notes=(f"utility: fewer than {MIN_ROWS} rows with a target; left out",))
    columns = tuple(c for c in training.columns if c.name != target.name)
    x_train, x_test = (model_matrix(CodedTable(columns, t.data, t.rows)) for t in (training, test))
    y_train, y_test = training[target.name], test[target.name]
    if target.kind == "category" and len(np.unique(y_train)) < 2:
        return Findings(
            notes=(f"utility: target {target.name!r} has one class only in the training rows; left out",)
        )
    fit = _fit_classes if target.kind == "category" else _fit_numbers
    runs = [fit(x_train, y_train, x_test, y_test, columns, seed + i) for i in range(seeds)]
    return Findings({name: _mean([run[name] for run in runs]) for name in runs[0]})


Scored = dict[str, tuple[float, float]]
"""Score name -> value, variance from the finite test table."""


def _mean(runs: list[tuple[float, float]]) -> Figure:
    values, variances = np.array(runs).T
    error = 1.96 * float(np.sqrt(values.var() + variances.mean()))
    return Figure(float(values.mean()), float(values.mean()) - error, float(values.mean()) + error)


def _resampled(rows: int, seed: int) -> np.ndarray:
    """float32 (RESAMPLES, R): how often each test row occurs in each bootstrap sample (Poisson weights)."""
    return np.random.default_rng(seed).poisson(1.0, (RESAMPLES, rows)).astype(np.float32)


def _fit_classes(x_train, y_train, x_test, y_test, columns, seed: int) -> Scored:  # type: ignore[no-untyped-def]
    model = boosted_classifier(columns, seed).fit(x_train, y_train)
    probabilities = model.predict_proba(x_test)
    predicted = model.classes_[probabilities.argmax(axis=1)]
    classes = np.unique(y_test)
    # levels are coded by falling share in train: of two classes the higher code is the rarer one
    scored_classes = classes[-1:] if len(classes) <= 2 else classes
    accuracy = accuracy_score(y_test, predicted)
    scored = {
        "utility_accuracy": (float(accuracy), float(accuracy * (1 - accuracy) / len(y_test))),
        "utility_f1": _f1(y_test, predicted, scored_classes, seed),
    }
    if len(classes) > 1:
        scored["utility_auc"] = _auc(y_test, probabilities, model.classes_, scored_classes)
    return scored


def _f1(y_test: np.ndarray, predicted: np.ndarray, classes: np.ndarray, seed: int) -> tuple[float, float]:
    """Mean F1 over `classes`; a class that is neither there nor predicted counts 0."""
    is_class, called = (np.float32(v[:, None] == classes) for v in (y_test, predicted))
    weights = np.vstack([np.ones(len(y_test), np.float32), _resampled(len(y_test), seed)])
    hits, both = weights @ (is_class * called), weights @ is_class + weights @ called
    f1 = (2 * hits / np.maximum(both, 1)).mean(axis=1)
    return float(f1[0]), float(f1[1:].var())


def _auc(
    y_test: np.ndarray, probabilities: np.ndarray, seen: np.ndarray, classes: np.ndarray
) -> tuple[float, float]:
    """One class against the rest, mean over `classes`; a class never seen in training scores 0.5."""
    columns = {c: probabilities[:, i] for i, c in enumerate(seen)}
    flat = np.zeros(len(y_test))
    found = [auc_and_variance((y_test == c).astype(int), columns.get(c, flat)) for c in classes]
    aucs, variances = np.array(found).T
    # the classes' areas share the test rows: their errors count as wholly dependent, to be safe
    return float(aucs.mean()), float(np.sqrt(variances).mean() ** 2)


def _fit_numbers(x_train, y_train, x_test, y_test, columns, seed: int) -> Scored:  # type: ignore[no-untyped-def]
    model = HistGradientBoostingRegressor(categorical_features=category_mask(columns), random_state=seed)
    predicted = model.fit(x_train, y_train).predict(x_test)
    absolute = np.abs(predicted - y_test)
    weights = _resampled(len(y_test), seed)
    totals = weights.sum(axis=1)
    spread = weights @ (y_test**2) / totals - (weights @ y_test / totals) ** 2
    resampled_r2 = 1 - weights @ absolute**2 / totals / np.maximum(spread, 1e-300)
    return {
        "utility_r2": (float(r2_score(y_test, predicted)), float(resampled_r2.var())),
        "utility_mae": (float(absolute.mean()), float(absolute.var() / len(y_test))),
    }
