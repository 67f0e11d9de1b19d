"""Adult, from CSV to scores, through the command line: quality, CPU seconds and memory against the bars we
hold ourselves to.

    python benchmarks/adult.py [--data FOLDER] [--seeds 1 2 3]

FOLDER holds adult_train.csv(.gz) and adult_test.csv(.gz) (UCI, 32,561 and 16,281 rows with a header). Each
stage is a process of its own on one thread; its CPU seconds (start-up included) and peak memory are the
operating system's. Writes benchmarks/results/adult.md.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from results import write_result

from nemo_tabular import Synthesizer
from nemo_tabular.evaluate import evaluate
from nemo_tabular.schema import Schema

RECIPE = Path(__file__).parents[1] / "conf" / "gpt_adult.yaml"
ROWS = 32_561
BARS = {  # score: (bar, whether larger is better)
    "shapes": (0.995, True),
    "trends": (0.990, True),
    "c2st": (0.53, False),
    "utility_accuracy": (0.868, True),
    "utility_f1": (0.70, True),
    "utility_auc": (0.923, True),
    "spikes": (0.008, False),
}


def stage(*arguments: str) -> tuple[float, float]:
    """Run one verb of the command line on one thread. Returns CPU seconds and peak memory in GB."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "nemo_tabular.cli", *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"nemo-tabular {' '.join(arguments)} failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


def find(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.csv.gz", folder / f"{name}.csv"):
        if path.exists():
            return path
    raise SystemExit(f"{folder} holds no {name}.csv(.gz)")


def reference_widths(train: pd.DataFrame, test: pd.DataFrame) -> float:
    """Mean log width of the 128 quantile bins of fnlwgt that the test rows fall in.

    The bar of 19.95 nats was set with fnlwgt at that resolution; our figure is at the resolution of whole
    numbers. Both are densities over the same numbers: subtracting this makes them comparable.
    """
    edges = np.unique(np.quantile(train["fnlwgt"], np.linspace(0, 1, 129)))
    place = np.clip(np.searchsorted(edges, test["fnlwgt"], side="right") - 1, 0, len(edges) - 2)
    return float(np.log(np.diff(edges)[place]).mean())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "adult")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the generation")
    parser.add_argument("--override", nargs="*", default=[], help="settings over the recipe")
    options = parser.parse_args()
    train_csv, test_csv = find(options.data, "adult_train"), find(options.data, "adult_test")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema, store, run = folder / "schema.yaml", folder / "store", folder / "run"
        costs = {
            "schema": stage("schema", str(train_csv), "-o", str(schema)),
            "prepare": stage("prepare", str(train_csv), "--schema", str(schema), "-o", str(store)),
            "train": stage("train", str(RECIPE), f"data.store={store}", f"run.dir={run}", *options.override),
        }
        synthetic = []
        for seed in options.seeds:
            out = folder / f"synthetic{seed}.csv"
            costs[f"generate {ROWS:,} rows"] = stage(
                "generate", str(run), "--rows", str(ROWS), "--seed", str(seed), "-o", str(out)
            )
            synthetic.append(out)
        many = 1_000_000
        costs[f"generate {many:,} rows"] = stage(
            "generate", str(run), "--rows", str(many), "--seed", "9", "-o", str(folder / "many.csv")
        )
        read = {"schema": Schema.from_yaml(schema), "target": "income"}
        reports = [evaluate(train_csv, test_csv, path, references=False, **read).scores for path in synthetic]
        tables = [pd.read_csv(path, keep_default_na=False) for path in (train_csv, test_csv)]
        nll = -Synthesizer.load(run).log_prob(tables[1], unseen="nearest").mean()
    lines = ["| score | bar | mean | " + " | ".join(f"seed {s}" for s in options.seeds) + " | |"]
    lines.append("|---|" + "---|" * (len(options.seeds) + 3))
    for score, (bar, larger) in BARS.items():
        values = [report[score] for report in reports]
        mean = float(np.mean(values))
        met = "met" if (mean >= bar) == larger or mean == bar else "not met"
        lines.append(
            f"| {score} | {'at least' if larger else 'at most'} {bar} | {mean:.4f} | "
            + " | ".join(f"{v:.4f}" for v in values)
            + f" | {met} |"
        )
    coarse = nll - reference_widths(*tables)
    small, large = costs[f"generate {ROWS:,} rows"][0], costs[f"generate {many:,} rows"][0]
    rate = (many - ROWS) / (large - small)
    lines += [
        "",
        f"Test NLL: {nll:.4f} nats a row with fnlwgt to the unit; {coarse:.4f} with fnlwgt in 128 quantile "
        "bins, the "
        f"resolution of the bar (at most 19.95): {'met' if coarse <= 19.95 else 'not met'}.",
        "",
        f"Generation: {rate:,.0f} rows per CPU second beyond start-up (bar: 40,000), "
        f"{many / large:,.0f} with start-up at a million rows, CSV written.",
        "",
        "| stage, one thread | CPU s, start-up included | peak memory, GB |",
        "|---|---|---|",
        *(f"| {name} | {cpu:.1f} | {memory:.2f} |" for name, (cpu, memory) in costs.items()),
        "",
        "Bars: training at most 40 CPU seconds; training and generation at most 1.2 GB.",
    ]
    print("\n".join(lines))
    write_result("adult", "Adult", "\n".join(lines))


if __name__ == "__main__":
    main()
