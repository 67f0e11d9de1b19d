"""A task and a synthetic table enter; the scores that SDGym 0.2.2 gave, and those that it could not, leave.

Simulated sets: L_syn is what the law thinks of the synthetic rows, L_test what a law fitted to the synthetic
rows thinks of the test rows. Real sets: SDGym's classifiers learn from the synthetic rows and predict the
test rows. `true log p` is the synthetic rows' under the true law, without SDGym's floor.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import xlogy
from sdgym_tables import Mixture, Network, Task
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.mixture import GaussianMixture
from sklearn.neural_network import MLPClassifier
from sklearn.tree import DecisionTreeClassifier

Scores = dict[str, float]

FLOOR = 1e-8
"""Added to a network's probabilities: no row is worth less than log(1e-8) = -18.42."""
MOST_ROWS = 50_000
"""Rows that classifiers learn from, and that they are tested on."""


def score(task: Task, synthetic: pd.DataFrame, seed: int) -> Scores:
    """Scores of a synthetic table with the columns of the task."""
    rows = synthetic[list(task.train)]
    if isinstance(task.law, Mixture):
        return _mixture_scores(task.law, rows.to_numpy(float), task.test.to_numpy(float), seed)
    if isinstance(task.law, Network):
        return _network_scores(task.law, rows.to_numpy(np.int64), task.test.to_numpy(np.int64))
    return _classifier_scores(task, rows, seed)


# ---------------------------------------------------------------- likelihood


def _mixture_scores(law: Mixture, synthetic: np.ndarray, test: np.ndarray, seed: int) -> Scores:
    """Means over mixtures of 10 and 30 components with diagonal covariances."""

    def fitted(rows: np.ndarray, components: int) -> GaussianMixture:
        return GaussianMixture(components, covariance_type="diag", random_state=seed).fit(rows)

    return {
        "L_syn": float(np.mean([fitted(test, k).score(synthetic) for k in (10, 30)])),
        "L_test": float(np.mean([fitted(synthetic, k).score(test) for k in (10, 30)])),
        "true log p": float(law.log_p(synthetic).mean()),
    }


def _network_scores(law: Network, synthetic: np.ndarray, test: np.ndarray) -> Scores:
    found = law.p(synthetic)
    return {
        "L_syn": float(np.log(found + FLOOR).mean()),
        "L_test": float(np.log(_refitted(law, synthetic, test) + FLOOR).mean()),
        # rows that cannot occur would make it minus infinity: it is the mean of those that can
        "true log p": float(np.log(found[found > 0]).mean()),
        "impossible": float((found == 0).mean()),
    }


def _refitted(law: Network, synthetic: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities of the test rows under relative frequencies of the synthetic ones. Where the parents'
    states do not occur: uniform over the states that do; a state that does not occur has none.
    """
    tables, seen_everywhere = [], np.ones(len(test), bool)
    for i, states in enumerate(law.states):
        counts = np.zeros(law.tables[i].shape)
        np.add.at(counts, (*(synthetic[:, j] for j in law.parents[i]), synthetic[:, i]), 1)
        seen = np.bincount(synthetic[:, i], minlength=states) > 0
        total = counts.sum(-1, keepdims=True)
        tables.append(np.where(total > 0, counts / np.maximum(total, 1), 1 / seen.sum()))
        seen_everywhere &= seen[test[:, i]]
    return law.p(test, tables) * seen_everywhere


# ---------------------------------------------------------------- classifiers


class AdaBoost:
    """SAMME.R (Zhu et al. 2009) with 50 stumps, the default of scikit-learn before 0.24, which newer ones no
    longer have."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "AdaBoost":
        self.classes_, index = np.unique(y, return_inverse=True)
        k = len(self.classes_)
        coding = np.where(np.arange(k) == index[:, None], 1.0, -1 / (k - 1))
        weight, self.stumps = np.full(len(y), 1 / len(y)), []
        for number in range(50):
            stump = DecisionTreeClassifier(max_depth=1, random_state=number).fit(x, y, sample_weight=weight)
            self.stumps.append(stump)
            p = np.maximum(stump.predict_proba(x), np.finfo(float).eps)
            weight = weight * np.exp(-(k - 1) / k * xlogy(coding, p).sum(1))
            weight /= weight.sum()
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        eps = np.finfo(float).eps
        logs = sum(np.log(np.maximum(stump.predict_proba(x), eps)) for stump in self.stumps)
        return self.classes_[np.asarray(logs).argmax(1)]


def _classifiers(classes: int, seed: int) -> list[Any]:
    if classes > 2:
        return [
            DecisionTreeClassifier(max_depth=30, class_weight="balanced", random_state=seed),
            MLPClassifier((100,), max_iter=50, random_state=seed),
        ]
    return [
        DecisionTreeClassifier(max_depth=15, class_weight="balanced", random_state=seed),
        AdaBoost(),
        LogisticRegression(class_weight="balanced", max_iter=50, random_state=seed),
        MLPClassifier((50,), max_iter=50, random_state=seed),
    ]


def _classifier_scores(task: Task, synthetic: pd.DataFrame, seed: int) -> Scores:
    """Means over the classifiers; F1 is that of class 1 of two, else the mean over the classes."""
    rng = np.random.default_rng(seed)
    fit, judge = (_some(rows, rng) for rows in (synthetic, task.test))
    features = _features(task, fit)
    x, y = features(fit), fit[task.label].to_numpy()
    x_test, y_test = features(judge), judge[task.label].to_numpy()
    classes = int(max(task.train[task.label].max(), task.test[task.label].max())) + 1
    average = "binary" if classes == 2 else "macro"
    scores = []
    for classifier in _classifiers(classes, seed):
        one = len(np.unique(y)) == 1
        found = np.full(len(y_test), y[0]) if one else classifier.fit(x, y).predict(x_test)
        f1 = f1_score(y_test, found, average=average, zero_division=0)
        scores.append((accuracy_score(y_test, found), f1))
    accuracy, f1 = np.mean(scores, 0)
    return {"accuracy": float(accuracy), "F1": float(f1)}


def _some(rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    return rows.iloc[rng.permutation(len(rows))[:MOST_ROWS]]


def _features(task: Task, fit: pd.DataFrame) -> Callable[[pd.DataFrame], np.ndarray]:
    """The function from rows to a classifier's inputs: one-hot over the values that `fit` has."""
    every = task.train if task.name == "census" else pd.concat([task.train, task.test])
    parts: list[Callable[[pd.DataFrame], np.ndarray]] = []
    for name in task.train.columns.drop(task.label):
        low, high = float(every[name].min()), float(every[name].max())
        if name in task.categorical and every[name].nunique() > 2:
            values = np.unique(fit[name])
            parts.append(lambda rows, name=name, v=values: rows[name].to_numpy()[:, None] == v)
        elif name in task.categorical or name in task.ordinal:
            parts.append(lambda rows, name=name: rows[[name]].to_numpy(float))
        elif low >= 0 and high >= 1000:
            parts.append(lambda rows, name=name: np.log(np.maximum(rows[[name]].to_numpy(float), 0.01)))
        else:
            parts.append(
                lambda rows, name=name, low=low, high=high: (
                    (rows[[name]].to_numpy(float) - low) / max(high - low, 1e-12) * 5
                )
            )
    return lambda rows: np.hstack([part(rows) for part in parts]).astype(np.float32)
