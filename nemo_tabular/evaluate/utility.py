"""Enter: train, test and synthetic rows and a target column.
Leave: how good a model trained on synthetic rows is on real test rows.
"""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score, roc_auc_score

from nemo_tabular.evaluate.detection import boosted_classifier, category_mask, model_matrix
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import CodedTable, ColumnView

MIN_ROWS = 50


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
    figures = {}
    for name in runs[0]:
        values = np.array([run[name][0] for run in runs])
        error = 1.96 * float(np.sqrt(values.var() + runs[0][name][1]))
        figures[name] = Figure(
            float(values.mean()), float(values.mean()) - error, float(values.mean()) + error
        )
    return Findings(figures)


Scored = dict[str, tuple[float, float]]
"""Score name -> value, variance from the finite test table (0 where it is not estimated)."""


def _fit_classes(x_train, y_train, x_test, y_test, columns, seed: int) -> Scored:  # type: ignore[no-untyped-def]
    model = boosted_classifier(columns, seed).fit(x_train, y_train)
    probabilities = model.predict_proba(x_test)
    predicted = model.classes_[probabilities.argmax(axis=1)]
    accuracy = accuracy_score(y_test, predicted)
    classes = np.unique(y_test)
    # levels are coded by falling share in train: of two classes the higher code is the rarer one
    f1 = (
        f1_score(y_test == classes.max(), predicted == classes.max(), zero_division=0)
        if len(classes) <= 2
        else f1_score(y_test, predicted, average="macro", zero_division=0)
    )
    scored = {
        "utility_accuracy": (float(accuracy), float(accuracy * (1 - accuracy) / len(y_test))),
        "utility_f1": (float(f1), 0.0),
    }
    if len(classes) > 1:
        scored["utility_auc"] = (_mean_auc(y_test, probabilities, model.classes_), 0.0)
    return scored


def _mean_auc(y_test: np.ndarray, probabilities: np.ndarray, seen: np.ndarray) -> float:
    """One against the rest, mean over the classes of the test rows; one never seen in training scores 0.5."""
    classes = np.unique(y_test)
    columns = {c: probabilities[:, i] for i, c in enumerate(seen)}
    flat = np.zeros(len(y_test))
    aucs = [
        roc_auc_score(y_test == c, columns.get(c, flat))
        for c in (classes if len(classes) > 2 else classes[1:])
    ]
    return float(np.mean(aucs))


def _fit_numbers(x_train, y_train, x_test, y_test, columns, seed: int) -> Scored:  # type: ignore[no-untyped-def]
    model = HistGradientBoostingRegressor(categorical_features=category_mask(columns), random_state=seed)
    predicted = model.fit(x_train, y_train).predict(x_test)
    absolute = np.abs(predicted - y_test)
    return {
        "utility_r2": (float(r2_score(y_test, predicted)), 0.0),
        "utility_mae": (float(mean_absolute_error(y_test, predicted)), float(absolute.var() / len(y_test))),
    }
