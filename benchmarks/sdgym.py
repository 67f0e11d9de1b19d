"""SDGym's leaderboard protocol (version 0.2.2) with our models, beside what was published: the tables of the
CGM's paper.

    python benchmarks/sdgym.py [--sets ring asia ...] [--models identity cgm ...] [--seeds 1 2 3]
                               [--data FOLDER] [--cache FOLDER]

Without --sets the seven simulated ones. Each (set, model, seed) is kept in the cache folder as one JSON file,
which is used again as long as the settings are the same; a training that was stopped (Ctrl-C, SIGTERM) goes
on where it was. CPU seconds are this process's, one thread. Writes benchmarks/results/sdgym.md from all that
is there.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from kept import Stopped, counted, keep, kept, seconds, told, trained, working_folder
from sdgym_report import report
from sdgym_scores import score
from sdgym_tables import DECIMALS, REAL, SIMULATED, TASKS, Task
from sklearn.mixture import GaussianMixture

from nemo_tabular import Synthesizer
from nemo_tabular.config import Config, load_config
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import TokenStore, prepare
from nemo_tabular.synthesizer import validation_share

HERE = Path(__file__).resolve()
CONF = HERE.parents[1] / "conf"
RECIPES = {"gpt": "gpt_laptop", "cgm": "cgm_laptop", "paper": "cgm_paper"}
QUANTILE_CODES = {"codec": "digits", "options": {"transform": "quantile", "cells": 128, "spikes": "none"}}
"""The paper's, of columns that are no categories."""
REPETITIONS = 3
PROTOCOL = 2
"""To be raised with every change of data or scores: kept results of another number are made anew."""

# ---------------------------------------------------------------- SDGym's baselines


def identity(task: Task, rng: np.random.Generator) -> pd.DataFrame:
    """A bootstrap of the training rows: the ceiling."""
    return task.train.iloc[rng.integers(len(task.train), size=len(task.train))]


def uniform(task: Task, rng: np.random.Generator) -> pd.DataFrame:
    """Each column uniform over its codes, or between its extremes."""
    columns = {}
    for name, column in task.train.items():
        low, high, rows = column.min(), column.max(), len(column)
        whole = name not in task.continuous
        columns[name] = rng.integers(low, high + 1, rows) if whole else rng.uniform(low, high, rows)
    return pd.DataFrame(columns)


def independent(task: Task, rng: np.random.Generator) -> pd.DataFrame:
    """Each column alone: its frequencies, or a mixture of five Gaussians within its range."""
    columns = {}
    for name, column in task.train.items():
        values = column.to_numpy(float)
        if name in task.continuous:
            state = int(rng.integers(1 << 31))
            mixture = GaussianMixture(5, random_state=state).fit(values[:, None])
            drawn = rng.permutation(mixture.sample(len(values))[0][:, 0])
            columns[name] = np.clip(drawn, values.min(), values.max())
        else:
            columns[name] = rng.choice(values, len(values)).astype(np.int64)
    return pd.DataFrame(columns)


BASELINES: dict[str, Callable[[Task, np.random.Generator], pd.DataFrame]] = {
    "uniform": uniform,
    "independent": independent,
    "identity": identity,
}

# ---------------------------------------------------------------- our models


def store_of(task: Task, model: str, folder: Path) -> TokenStore:
    """The training rows as tokens, a part held out where the recipe validates."""
    if (folder / "store").exists():
        return TokenStore.open(folder / "store")
    reader = open_table(task.train)
    coded = {} if model != "paper" else dict.fromkeys(task.continuous, QUANTILE_CODES)
    schema: Schema = infer_schema(reader, overrides=coded)
    share = 0.0 if model == "paper" else validation_share(schema.rows)
    return prepare(reader, folder / "store", schema=schema, splits=(1 - share, share)[: 1 + (share > 0)])


def nats(task: Task, synthesizer: Synthesizer, **orders: int) -> float:
    """KL divergence from the law to the model, estimated on the test rows."""
    assert task.law is not None
    log_p = synthesizer.log_prob(task.test, unseen="nearest", **orders)
    if not task.categorical:  # from the probability of a step to a density
        log_p = log_p + task.test.shape[1] * DECIMALS * np.log(10)
    return float((task.law.log_p(task.test.to_numpy()) - log_p).mean())


def our_rows(task: Task, model: str, seed: int, config: Config, folder: Path) -> dict[str, dict[str, float]]:
    """Scores by the order in which the columns of the samples were drawn."""
    spent_training = folder / "train_seconds"
    with counted(spent_training):
        synthesizer = trained(config, store_of(task, model, folder), f"{task.name}, {model}")
    orders = {"gpt": {"": 1}, "cgm": {"any order": 8, "fixed order": 1}, "paper": {"any order": 8}}[model]
    rows = {}
    for title, averaged in orders.items():
        order, spent = {"any order": "random", "fixed order": "fixed"}.get(title), []

        def draw(
            rng: np.random.Generator, order: str | None = order, spent: list[float] = spent
        ) -> pd.DataFrame:
            begun = time.process_time()
            table = synthesizer.sample(len(task.train), seed=int(rng.integers(1 << 31)), order=order)
            spent.append(time.process_time() - begun)
            return table

        found = repeated(task, draw, seed) | {
            "train": seconds(spent_training),
            "rate": len(spent) * len(task.train) / sum(spent),
        }
        if task.law is not None:
            found["KL"] = nats(task, synthesizer, **({"orders": averaged} if averaged > 1 else {}))
        rows[title] = found
    return rows


# ---------------------------------------------------------------- one job


def repeated(task: Task, draw: Callable[[np.random.Generator], pd.DataFrame], seed: int) -> dict[str, float]:
    """Mean scores of as many synthetic tables as the protocol wants, of real sets of one: their classifiers
    take longer than the training, and --seeds repeats it all."""
    repetitions = REPETITIONS if task.law is not None else 1
    scores = [score(task, draw(np.random.default_rng([seed, i])), seed + i) for i in range(repetitions)]
    return {name: float(np.mean([one[name] for one in scores])) for name in scores[0]}


def run(get_task: Callable[[], Task], name: str, model: str, seed: int, cache: Path) -> None:
    """Leave the result of one set, model and seed in the cache, unless it is there with equal settings."""
    folder, path = cache / "work" / name / f"{model}.{seed}", cache / f"{name}.{model}.{seed}.json"
    config = _config(model, seed, folder / "run")
    settings = {"set": name, "model": model, "seed": seed, "protocol": PROTOCOL}
    settings["config"] = config and told(config)
    if kept(path, settings) is not None:
        return
    print(f"{name}: {model}, seed {seed}", flush=True)
    task = get_task()
    if config is None:
        rows = {"": repeated(task, partial(BASELINES[model], task), seed)}
    else:
        rows = our_rows(task, model, seed, config, working_folder(folder, settings))
    print(json.dumps(rows), flush=True)
    keep(path, settings, rows)


def _config(model: str, seed: int, run_dir: Path) -> Config | None:
    if model not in RECIPES:
        return None
    return load_config(CONF / f"{RECIPES[model]}.yaml", [f"run.seed={seed}", f"run.dir={run_dir}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = [*BASELINES, *RECIPES]
    parser.add_argument("--sets", nargs="+", choices=[*SIMULATED, *REAL], default=SIMULATED)
    parser.add_argument("--models", nargs="+", choices=models, default=models)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of training, samples and scores")
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "nemo_tabular_sdgym")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    for name in options.sets:
        tasks: list[Task] = []

        def task(name: str = name, tasks: list[Task] = tasks) -> Task:
            if not tasks:
                tasks.append(TASKS[name](options.data))
            return tasks[0]

        try:
            for model in options.models:
                for seed in options.seeds:
                    run(task, name, model, seed, options.cache)
        except Stopped as stopped:
            raise SystemExit(str(stopped)) from None
    report(options.cache, options.data)


if __name__ == "__main__":
    main()
