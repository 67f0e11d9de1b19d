"""Our models and the field's, on the same rows, one thread each, judged by the same report.

    python benchmarks/rivals.py [--tables adult magic ...] [--models gpt argn ...] [--seconds CAP]
                                [--data FOLDER] [--cache FOLDER]

Each rival is installed into a virtual environment of its own under the cache folder and runs with its
default settings as a process of its own. What is done is kept there, one folder for each table and model, so
that a run that was stopped goes on where it was, and a failure is tried again with the next start; delete a
folder to do it anew. Training is stopped after CAP CPU seconds (TabularARGN counts by the clock), and the
table says so. Writes benchmarks/results/rivals.md from all that is there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from results import write_result

from nemo_tabular.evaluate import evaluate

HERE = Path(__file__).parent
TEST_SHARE = 0.25
SPLIT_SEED = 0
TABLES = ("adult", "default_credit", "magic", "cardio", "churn_modelling", "california_housing")


@dataclass(frozen=True)
class Contender:
    """A model and the environment it runs in; without packages that is ours."""

    title: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    alone: tuple[str, ...] = ()
    """Packages installed without what they ask for: the parts of them that run here do not need it."""


# torch first and by its exact version: a wider range would bring gigabytes of CUDA. The engine is installed
# without its language models' dependencies, which its tables do not use.
TORCH = ("torch==2.13.0",)
ENGINE = ("numpy>=2", "pandas>=2.2,<3", "pyarrow", "scikit-learn", "joblib", "psutil<6", "pydantic")
ENGINE += (
    "opacus>=1.6",
    "datasets",
    "transformers>=5.5.3",
    "accelerate",
    "peft",
    "tokenizers",
    "json-repair",
)
CONTENDERS = {
    "gpt": Contender("ours: GPT"),
    "cgm": Contender("ours: CGM"),
    "argn": Contender("TabularARGN, any order (default)", "mostlyai", ENGINE, ("mostlyai-engine==2.7.3",)),
    "argn-fixed": Contender("TabularARGN, fixed order", "mostlyai", ENGINE, ("mostlyai-engine==2.7.3",)),
    "copula": Contender("GaussianCopula (SDV)", "sdv", ("sdv==2.0.0",)),
    "tvae": Contender("TVAE (SDV)", "sdv", ("sdv==2.0.0",)),
    "ctgan": Contender("CTGAN (SDV)", "sdv", ("sdv==2.0.0",)),
    "realtabformer": Contender("REaLTabFormer", "realtabformer", ("realtabformer==0.2.4", "transformers<5")),
}

SCORES = {  # score: (heading, digits)
    "shapes": ("Shapes", 4),
    "trends": ("Trends", 4),
    "trends_all": ("Trends, all pairs", 4),
    "marginals_3": ("3-way", 4),
    "c2st": ("C2ST", 3),
    "utility_auc": ("utility AUC", 4),
    "utility_r2": ("utility R2", 4),
    "spikes": ("spike error", 4),
    "rules": ("broken rules", 4),
    "dcr_share": ("DCR share", 3),
    "copies": ("copies", 4),
    "membership": ("membership", 3),
}

LEGEND = (
    "Default settings for everyone, one thread, the same rows; training was stopped where the last column "
    "says so. C2ST: AUC of boosted trees against unseen rows, .5 is ideal; DCR share and membership: .5 is "
    "natural. CPU seconds of training with imports and reading; rows per CPU second of generation without."
)


# ---------------------------------------------------------------- environments


def interpreter(contender: Contender, cache: Path) -> Path:
    """The contender's Python, installed at the first call. A half-made environment is made again."""
    if not contender.environment:
        return Path(sys.executable)
    folder = cache / "venv" / contender.environment
    python, ready = folder / "bin" / "python", folder / ".ready"
    wanted = "\n".join([*TORCH, *contender.packages, *contender.alone])
    if ready.exists() and ready.read_text() == wanted:
        return python
    print(f"installing {contender.environment} into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *TORCH], check=True)
    subprocess.run([*pip, *TORCH, *contender.packages], check=True)
    if contender.alone:
        subprocess.run([*pip, "--no-deps", *contender.alone], check=True)
    ready.write_text(wanted)
    return python


# ---------------------------------------------------------------- tables


def split_table(name: str, data: Path, cache: Path) -> tuple[Path, Path, str]:
    """train.csv, test.csv and the target: the table's own split, or a fixed quarter of its rows for test."""
    folder, source = cache / "tables" / name, data / name
    columns = pd.read_csv(source / "columns.csv")
    target = str(columns["column"][columns["role"].str.contains("target")].iloc[0])
    paths = folder / "train.csv", folder / "test.csv"
    if not all(p.exists() for p in paths):
        dropped = list(columns["column"][columns["kind"] == "id"])
        folder.mkdir(parents=True, exist_ok=True)
        for frame, path in zip(_parts(name, source), paths, strict=True):
            frame.drop(columns=dropped).to_csv(path.with_suffix(".part"), index=False)
        for path in paths:
            path.with_suffix(".part").rename(path)
    return *paths, target


def _parts(name: str, source: Path) -> list[pd.DataFrame]:
    """Train and test as texts, exactly as they stand in the file."""

    def read(path: Path) -> pd.DataFrame:
        return pd.read_csv(path, dtype=str, keep_default_na=False)

    if (source / f"{name}_train.csv.gz").exists():
        return [read(source / f"{name}_{part}.csv.gz") for part in ("train", "test")]
    table = read(source / f"{name}.csv.gz")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(table))
    held = int(len(table) * TEST_SHARE)
    return [table.iloc[np.sort(part)] for part in (order[held:], order[:held])]


# ---------------------------------------------------------------- one run


def run(model: str, table: str, options: argparse.Namespace) -> None:
    """Train, generate and judge, each step only if its result is not there yet."""
    folder = options.cache / "runs" / table / model
    folder.mkdir(parents=True, exist_ok=True)
    train, test, target = split_table(table, options.data, options.cache)
    synthetic, cost, report = (folder / n for n in ("synthetic.csv", "cost.json", "report.json"))
    if not cost.exists():
        print(f"{table}: {model}", flush=True)
        python = interpreter(CONTENDERS[model], options.cache)
        _train(python, model, (train, synthetic, cost), options, folder / "log.txt")
    if cost.exists() and not report.exists():
        # what real rows and independent columns score is the same for all, and takes twice the time
        others = [json.loads(path.read_text()) for path in folder.parent.glob("*/report.json")]
        references = not any(map(_has_references, others))
        evaluate(train, test, synthetic, target=target, references=references).to_json(report)


def _has_references(report: dict) -> bool:  # type: ignore[type-arg]
    return report["scores"]["shapes"]["ceiling"] is not None


def _train(python: Path, model: str, paths: Sequence[Path], options: argparse.Namespace, log: Path) -> None:
    """In a process of its own; where it fails the log says why, and the table that it failed."""
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT")
    environment = os.environ | dict.fromkeys(threads, "1") | {"HF_HUB_OFFLINE": "1"}
    if CONTENDERS[model].environment:
        environment.pop("PYTHONPATH", None)
    command = [str(python), str(HERE / "rival_models.py"), model, *map(str, paths)]
    with log.open("w") as out:
        status = subprocess.run(
            [*command, "--seconds", str(options.seconds), "--seed", str(options.seed)],
            env=environment, stdout=out, stderr=subprocess.STDOUT, check=False,
        ).returncode  # fmt: skip
    if status:
        last = (log.read_text(errors="replace").strip().splitlines() or ["no word"])[-1]
        print(f"  failed ({last[:150]}); see {log}", flush=True)


# ---------------------------------------------------------------- the table


def result_lines(cache: Path, tables: Sequence[str], models: Sequence[str]) -> list[str]:
    """One Markdown table for each data set: all contenders that are done, real rows, independent columns."""
    lines: list[str] = []
    for table in tables:
        done = {m: cache / "runs" / table / m for m in models if (cache / "runs" / table / m).exists()}
        reports = {m: json.loads((f / "report.json").read_text()) for m, f in done.items()
                   if (f / "report.json").exists()}  # fmt: skip
        if not reports:
            continue
        full = next((r for r in reports.values() if _has_references(r)), next(iter(reports.values())))
        names = [n for n in SCORES if n in full["scores"]]
        rows = full["rows"]
        lines += [
            f"## {table}: {rows['train']:,} training, {rows['test']:,} test rows, "
            f"{len(full['columns'])} columns",
            "",
            "| | " + " | ".join(SCORES[n][0] for n in names) + " | train, CPU s | rows / CPU s | GB | |",
            "|---|" + "---|" * (len(names) + 4),
        ]
        for model in done:
            lines.append(_row(CONTENDERS[model].title, names, reports.get(model), done[model]))
        for title, key in (("real rows", "ceiling"), ("independent columns; train for privacy", "floor")):
            figures = [_figure(n, full["scores"][n][key]) for n in names]
            lines.append(f"| *{title}* | " + " | ".join(figures) + " | | | | |")
        lines.append("")
    return lines


def _row(title: str, names: Sequence[str], report: dict | None, folder: Path) -> str:  # type: ignore[type-arg]
    if report is None:
        return f"| {title} |" + " |" * (len(names) + 3) + " failed |"
    cost = json.loads((folder / "cost.json").read_text())
    figures = [_figure(n, report["scores"].get(n, {}).get("value")) for n in names]
    rate = cost["rows"] / max(cost["generate_cpu_seconds"], 1e-9)
    costs = [f"{cost['train_cpu_seconds']:.0f}", f"{rate:,.0f}", f"{cost['peak_gb']:.2f}", cost["cut"]]
    return f"| {title} | " + " | ".join([*figures, *costs]) + " |"


def _figure(name: str, value: float | None) -> str:
    return "" if value is None else f"{value:.{SCORES[name][1]}f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--models", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--seconds", type=float, default=3600, help="of training, for each (default: 3600)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "nemo_tabular_rivals")
    options = parser.parse_args()
    for table in options.tables:
        for model in options.models:
            try:
                run(model, table, options)
            except Exception:  # one rival's fault must not end a run of hours
                traceback.print_exc()
    lines = result_lines(options.cache, TABLES, list(CONTENDERS))
    print("\n".join(lines))
    write_result("rivals", "Side by side", "\n".join([LEGEND, "", *lines]))


if __name__ == "__main__":
    main()
