"""A training table and the name of a synthesiser enter; its synthetic rows and what they cost leave.

    python rival_models.py NAME train.csv synthetic.csv cost.json [--seconds CAP] [--seed N]

`rivals.py` starts this file in the environment of the synthesiser named: it imports nothing else. Everyone
runs with its default settings and on one thread; CAP is in CPU seconds of training, imports included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Fitted = tuple[Callable[[int], Any], str]
"""rows -> frame, and what was cut short in training (empty: nothing)."""


def cpu_seconds() -> float:
    """Of this process and of those it has started and seen end."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usages)


def read(path: Path) -> Any:
    """Only the empty cell is missing: `?` is a value, as the tables' publishers meant it."""
    import pandas as pd

    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


# ---------------------------------------------------------------- ours


def ours(kind: str) -> Callable[..., Fitted]:
    def fit(path: Path, seed: int, cap: float) -> Fitted:
        from nemo_tabular import Synthesizer

        synthesizer = Synthesizer(kind, trainer__num_threads=1, run__seed=seed).fit(path)
        return lambda rows: synthesizer.sample(rows, seed=seed), ""

    return fit


# ---------------------------------------------------------------- mostlyai-engine


def argn(flexible: bool) -> Callable[..., Fitted]:
    """TabularARGN; any order is its default, a fixed order its faster mode. It splits off validation rows."""

    def fit(path: Path, seed: int, cap: float) -> Fitted:
        one_thread()
        from mostlyai.engine import TabularARGN

        model = TabularARGN(
            enable_flexible_generation=flexible, max_training_time=cap / 60, random_state=seed, device="cpu"
        )
        started = time.monotonic()
        model.fit(read(path))
        cut = "" if time.monotonic() - started < cap else f"training stopped after {cap:.0f} s"
        return lambda rows: model.sample(n_samples=rows, device="cpu"), cut

    return fit


# ---------------------------------------------------------------- SDV


def sdv(name: str) -> Callable[..., Fitted]:
    def fit(path: Path, seed: int, cap: float) -> Fitted:
        one_thread()
        import numpy as np
        import sdv.single_table
        import torch
        from sdv.metadata import Metadata

        np.random.seed(seed)
        torch.manual_seed(seed)
        tables = {"table": read(path)}
        # no keys: their columns were dropped, and a column of distinct amounts must not be taken for one
        metadata = Metadata.detect_from_dataframes(tables, infer_keys=None)
        made = getattr(sdv.single_table, name)(metadata)
        with epochs_within(cap) as done:
            made.fit(tables)
        cut = f"{done[0]} of {done[1]} epochs" if done and done[0] < done[1] else ""
        return lambda rows: made.sample(rows)["table"], cut

    return fit


@contextlib.contextmanager
def epochs_within(cap: float) -> Iterator[list[int]]:
    """CTGAN and TVAE count epochs with tqdm: one that ends when the time is over ends their training."""
    from ctgan.synthesizers import ctgan, tvae

    done: list[int] = []

    class Epochs:
        def __init__(self, epochs: range, **_: Any) -> None:
            self.epochs = epochs
            done[:] = [0, len(epochs)]

        def __iter__(self) -> Iterator[int]:
            started = cpu_seconds()
            for epoch in self.epochs:
                if cpu_seconds() - started > cap:
                    return
                done[0] += 1
                yield epoch

        def set_description(self, *_: Any, **__: Any) -> None:
            pass

    kept = ctgan.tqdm, tvae.tqdm
    ctgan.tqdm = tvae.tqdm = Epochs
    try:
        yield done
    finally:
        ctgan.tqdm, tvae.tqdm = kept


# ---------------------------------------------------------------- REaLTabFormer


class TimeIsUp(Exception):
    """Raised between two training steps; the model keeps what it has learnt."""


def realtabformer(path: Path, seed: int, cap: float) -> Fitted:
    one_thread()
    import tempfile

    import transformers
    from realtabformer import REaLTabFormer

    started, step = cpu_seconds(), transformers.Trainer.training_step

    def timed(self: Any, *arguments: Any, **options: Any) -> Any:
        if cpu_seconds() - started > cap:
            raise TimeIsUp
        return step(self, *arguments, **options)

    transformers.Trainer.training_step = timed
    table, cut = read(path), ""
    model = REaLTabFormer(
        model_type="tabular", random_state=seed, checkpoints_dir=tempfile.mkdtemp(prefix="realtabformer_")
    )
    try:
        model.fit(table, device="cpu")
    except TimeIsUp:
        cut = f"training stopped after {cap:.0f} CPU s"
        model.experiment_id = "cut"
    model.model.eval()
    return lambda rows: model.sample(n_samples=rows, device="cpu"), cut


MODELS: dict[str, Callable[..., Fitted]] = {
    "gpt": ours("gpt"),
    "cgm": ours("cgm"),
    "argn": argn(flexible=True),
    "argn-fixed": argn(flexible=False),
    "ctgan": sdv("CTGANSynthesizer"),
    "tvae": sdv("TVAESynthesizer"),
    "copula": sdv("GaussianCopulaSynthesizer"),
    "realtabformer": realtabformer,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=MODELS)
    for name in ("train", "synthetic", "cost"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    random.seed(options.seed)
    rows = sum(1 for _ in options.train.open("rb")) - 1
    started = cpu_seconds()
    sample, cut = MODELS[options.name](options.train, options.seed, options.seconds)
    trained = cpu_seconds()
    frame = sample(rows)
    made = cpu_seconds()
    frame.to_csv(options.synthetic, index=False)
    peak = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    cost = {
        "train_cpu_seconds": trained - started,
        "generate_cpu_seconds": made - trained,
        "rows": len(frame),
        "peak_gb": peak / 1e6,
        "cut": cut,
    }
    options.cost.write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
