"""Adult with a share of its training cells removed at random: what the CGM loses that leaves them out of its
training, beside what is done otherwise.

    python benchmarks/missing.py [--share 0.3] [--models all absent ...] [--seed 1] [--recipe cgm_laptop]
                                 [--data FOLDER] [--cache FOLDER]

Judged by the negative log-likelihood of Adult's own test rows, which are complete. All models have the codes
of one tokenizer, fitted to the whole training file, so that their figures are of the same cells. Results are
kept in the cache folder and a training that was stopped goes on. Writes benchmarks/results/missing.md.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import torch
from kept import Stopped, counted, keep, kept, seconds, told, trained, working_folder
from results import write_result

from nemo_tabular.config import load_config
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import TokenStore, prepare
from nemo_tabular.synthesizer import validation_share
from nemo_tabular.tokenizer import TableTokenizer

HERE = Path(__file__).resolve()
BAR = 0.3
"""Nats a row that may be lost to the model of the complete table."""
PROTOCOL = 1


def filled(table: pd.DataFrame) -> pd.DataFrame:
    """Gaps filled with the column's median, in columns of texts with the most frequent one."""
    values = {}
    for name, column in table.items():
        text = not pd.api.types.is_numeric_dtype(column)
        values[name] = column.mode()[0] if text else int(column.median())
    return table.fillna(values)


MODELS: dict[str, tuple[str, Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]]] = {
    "all": ("trained on all cells", lambda table, gaps: table),
    "absent": ("`missing: absent`: trained on the cells that are there", lambda table, gaps: gaps),
    "drop": ("incomplete rows dropped first", lambda table, gaps: gaps.dropna()),
    "fill": ("median or most frequent value filled in first", lambda table, gaps: filled(gaps)),
}
"""Title, and the training table from the complete one and the one with gaps."""


def read(folder: Path, part: str) -> pd.DataFrame:
    table = pd.read_csv(folder / f"adult_{part}.csv.gz", keep_default_na=False)
    return table.astype(dict.fromkeys(table.select_dtypes("number"), "Int64"))


def with_gaps(table: pd.DataFrame, share: float, seed: int) -> pd.DataFrame:
    """Each cell is missing with this probability, whatever it holds."""
    return table.mask(np.random.default_rng(seed).random(table.shape) < share)


def tokenizer_of(table: pd.DataFrame, folder: Path) -> TableTokenizer:
    """Of the complete table, with room for gaps in every column."""
    if not folder.exists():
        schema = infer_schema(open_table(table)).to_dict()
        for column in schema["columns"]:
            column |= {"nullable": True, "missing": "absent"}
        prepare(open_table(table), folder, schema=Schema.from_dict(schema), splits=(1.0,))
    return TokenStore.open(folder).tokenizer


def run(model: str, options: argparse.Namespace) -> dict[str, float]:
    """Nats a test row, training rows and CPU seconds of one model."""
    folder = options.cache / f"{model}.{options.seed}"
    overrides = [f"run.seed={options.seed}", f"run.dir={folder / 'run'}"]
    config = load_config(HERE.parents[1] / "conf" / f"{options.recipe}.yaml", overrides)
    settings = {"model": model, "share": options.share, "protocol": PROTOCOL, "config": told(config)}
    path = options.cache / f"{model}.{options.seed}.json"
    found: dict[str, float] | None = kept(path, settings)
    if found is not None:
        return found
    print(f"{model}, seed {options.seed}", flush=True)
    working_folder(folder, settings)
    complete, test = read(options.data, "train"), read(options.data, "test")
    table = MODELS[model][1](complete, with_gaps(complete, options.share, options.seed))
    with counted(folder / "train_seconds"):
        if not (folder / "store").exists():
            share = validation_share(len(table))
            tokenizer = tokenizer_of(complete, folder / "whole")
            prepare(open_table(table), folder / "store", tokenizer=tokenizer, splits=(1 - share, share))
        synthesizer = trained(config, TokenStore.open(folder / "store"), model)
    found = {
        "rows": len(table),
        "own": float(-synthesizer.log_prob(test, unseen="nearest").mean()),
        "averaged": float(-synthesizer.log_prob(test, unseen="nearest", orders=8).mean()),
        "seconds": seconds(folder / "train_seconds"),
    }
    keep(path, settings, found)
    return found


def report(found: dict[str, dict[str, float]], options: argparse.Namespace) -> str:
    """The table, and whether the bars are met where all models are there."""
    lines = [
        f"{options.share:.0%} of the cells of the training file removed at random; conf/{options.recipe}.yaml"
        f", seed {options.seed}. Nats a row on the 16,281 complete test rows, fnlwgt to the unit.",
        "",
        "| trained on | rows | nats, the model's order | averaged over 8 orders | lost to all | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    best = found.get("all", {}).get("averaged")
    for model, one in found.items():
        lost = "" if best is None else f"{one['averaged'] - best:.3f}"
        lines.append(
            f"| {MODELS[model][0]} | {one['rows']:,.0f} | {one['own']:.3f} | {one['averaged']:.3f} | {lost}"
            f" | {one['seconds']:.0f} |"
        )
    if len(found) == len(MODELS):
        nats = {model: one["averaged"] for model, one in found.items()}
        met = nats["absent"] - nats["all"] <= BAR
        beats = nats["absent"] < min(nats["drop"], nats["fill"])
        lines += [
            "",
            f"Bar: `absent` within {BAR} nats of all cells: {'met' if met else 'not met'}; ahead of dropping "
            f"and of filling: {'met' if beats else 'not met'}.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--share", type=float, default=0.3, help="of the training cells (default: .3)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=1, help="of the gaps and of training")
    parser.add_argument("--recipe", default="cgm_laptop", help="conf/RECIPE.yaml")
    parser.add_argument("--data", type=Path, default=HERE.parents[2] / "shared" / "data" / "adult")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "nemo_tabular_missing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    found = {}
    for model in options.models:
        try:
            found[model] = run(model, options)
        except Stopped as stopped:
            raise SystemExit(str(stopped)) from None
        print(json.dumps(found[model]), flush=True)
    text = report(found, options)
    print(text)
    if len(found) == len(MODELS):
        write_result("missing", "Adult with missing cells", text)


if __name__ == "__main__":
    main()
