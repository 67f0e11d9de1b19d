"""Enter: a trained model, its training rows and unseen rows.
Leave: whether the model's likelihood tells who was in the training table, with both controls.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from nemo_tabular.errors import GenerationError, SchemaError, TabularError
from nemo_tabular.evaluate.detection import auc_and_variance
from nemo_tabular.evaluate.scores import Figure, Findings
from nemo_tabular.evaluate.tables import Tables, rows_of
from nemo_tabular.schema import Schema

MAX_ROWS = 10_000


class Scorer(Protocol):
    """What is asked of a model; `Synthesizer` is one."""

    @property
    def schema(self) -> Schema: ...

    def log_prob(self, table: Any, *, unseen: str | None = None) -> np.ndarray: ...


def measure_likelihood(
    model: Scorer, train: Any, test: Any, tables: Tables, *, seed: int = 0
) -> tuple[Findings, Findings, Findings]:
    """AUC of the log-likelihood, members (train) against strangers (test); 0.5: it tells nothing.

    Held-out control: one half of the test rows against the other. Training-table control: the same model,
    half of whose probability is moved onto the training rows. Raises SchemaError where the rows are not the
    model's.
    """
    rng = np.random.default_rng(seed)
    members, strangers = (
        np.sort(rng.permutation(n)[:MAX_ROWS]) for n in (tables.train.rows, tables.test.rows)
    )
    kept = tables.kept.get
    try:
        inside = _log_prob(model, train, kept("train", np.arange(tables.train.rows))[members])
        outside = _log_prob(model, test, kept("test", np.arange(tables.test.rows))[strangers])
    except GenerationError as error:
        return Findings(notes=(f"membership by likelihood: {error}; left out",)), Findings(), Findings()
    except TabularError as error:
        raise SchemaError(f"the model cannot score these rows: {error}") from None
    half = len(outside) // 2
    mixed = rng.permutation(outside)  # a file may be sorted
    shares = _shares_of_train(tables, members, strangers)
    learnt = [_mixed(ll, share) for ll, share in zip((inside, outside), shares, strict=True)]
    notes = (
        f"membership by likelihood: {len(inside):,} of {tables.train.rows:,} training rows and "
        f"{len(outside):,} of {tables.test.rows:,} test rows",
    )
    return (
        Findings({"likelihood": _auc(inside, outside)}, notes=notes),
        Findings({"likelihood": _auc(mixed[:half], mixed[half:])}),
        Findings({"likelihood": _auc(*learnt)}),
    )


def _log_prob(model: Scorer, source: Any, index: np.ndarray) -> np.ndarray:
    return model.log_prob(rows_of(source, index, model.schema), unseen="nearest")


def _shares_of_train(tables: Tables, members: np.ndarray, strangers: np.ndarray) -> list[np.ndarray]:
    """How large a share of the training table equals each of these rows."""
    known, counts = np.unique(tables.train.row_hashes(), return_counts=True)
    shares = []
    for table, index in ((tables.train, members), (tables.test, strangers)):
        hashes = table.row_hashes()[index]
        place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        shares.append(np.where(known[place] == hashes, counts[place], 0) / tables.train.rows)
    return shares


def _mixed(log_likelihood: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Half of the probability from the model, half from the training table itself."""
    with np.errstate(divide="ignore"):
        return np.logaddexp(log_likelihood, np.log(share)) + np.log(0.5)


def _auc(inside: np.ndarray, outside: np.ndarray) -> Figure:
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    auc, variance = auc_and_variance(labels, np.concatenate([inside, outside]))
    error = 1.96 * float(np.sqrt(variance))
    return Figure(auc, auc - error, auc + error)
