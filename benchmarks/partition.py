"""Tables enter as CSV or Parquet files; held-out log densities of their numeric columns under several
partitions leave.

A codec's cells are a density: the mass of a cell, uniform within it. Each column is fitted on one half of the
rows and scored on the other: plain quantile cells, quantile cells of which a quarter go to cutting the widest
in two, the `digits` codec's own, and a kernel density whose bandwidth was chosen on the held-out rows (a
reference that cheats).

    python benchmarks/partition.py FILE...
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
from results import write_result

from nemo_tabular.codecs import DigitsCodec, digits_fit, fit_codec
from nemo_tabular.codecs.cells import adaptive, equal_mass
from nemo_tabular.codecs.grid import DecimalGrid
from nemo_tabular.profile import profile
from nemo_tabular.schema import Column

MOST_ROWS = 60_000
FEW_VALUES = 256
KERNEL_ROWS = 1_000
KERNELS = 15_000
BANDWIDTHS = (0.15, 0.25, 0.4, 0.6, 1.0)

Rule = Callable[[np.ndarray, int, int, int], list[int]]


def halves(path: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Train and held-out values of every column with too many values for one token each."""
    table = pd.read_parquet(path) if path.endswith(".parquet") else pd.read_csv(path)
    table = table.sample(min(len(table), MOST_ROWS), random_state=0)
    found = {}
    for name in table.select_dtypes("number"):
        values = table[name].dropna().to_numpy()
        distinct = len(np.unique(values))
        if distinct > FEW_VALUES and not (distinct == len(values) and values.dtype.kind == "i"):
            found[f"{Path(path).name.split('.')[0]}.{name}"] = (values[::2], values[1::2])
    return found


def quantiles(sample: np.ndarray, last: int, cells: int, most: int) -> list[int]:
    """K cells of equal mass."""
    return equal_mass(sample, last, cells)


def quantiles_and_tails(sample: np.ndarray, last: int, cells: int, most: int) -> list[int]:
    """Three quarters of the cells of equal mass, the rest from halving the widest."""
    edges = [*equal_mass(sample, last, cells * 3 // 4), last + 1]
    while len(edges) - 1 < cells:
        widest = int(np.argmax(np.diff(np.array(edges, np.float64))))
        edges.insert(widest + 1, (edges[widest] + edges[widest + 1]) // 2)
    return sorted(set(edges[:-1]))


def density(train: np.ndarray, test: np.ndarray, rule: Rule) -> tuple[float, DigitsCodec]:
    """Mean held-out log probability of a lattice point, in nats; each code counts half a row more."""
    column = Column("x", "float", str(pa.array(train).type), "digits", nullable=False, options={"step": 1})
    found = profile([pa.RecordBatch.from_arrays([pa.array(train)], ["x"])]).columns["x"]
    with patch.object(digits_fit, "adaptive", rule):
        codec = fit_codec(column, found)
    assert isinstance(codec, DigitsCodec)
    sizes = [slot.size for slot in codec.slots[: len(codec.bases)]]

    def number(codes: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(tuple(codes[:, : len(sizes)].T), sizes)

    counts = np.bincount(number(codec.encode(pa.array(train))), minlength=int(np.prod(sizes))) + 0.5
    codes = codec.encode(pa.array(test), unseen="clip")
    chance = counts[number(codes)] / counts.sum()
    return float((np.log(chance) - np.log(codec.widths(codes))).mean()), codec


def kernel(train: np.ndarray, test: np.ndarray, codec: DigitsCodec) -> float:
    """The same of a Gaussian kernel density, nearest-neighbour bandwidths; NaN where there are spikes."""
    if codec.spikes or codec.grid is None:
        return float("nan")
    step = 10.0**-codec.grid.decimals if isinstance(codec.grid, DecimalGrid) else codec.grid.step
    x = np.sort(train[:: max(1, len(train) // KERNELS)].astype(np.float64))
    y = np.random.default_rng(1).permutation(test)[:KERNEL_ROWS].astype(np.float64)
    index, near = np.arange(len(x)), int(len(x) ** 0.5)
    width = x[np.minimum(index + near, len(x) - 1)] - x[np.maximum(index - near, 0)]
    width = np.maximum(width, 1e-9 * x.std())
    scores = []
    for factor in BANDWIDTHS:
        blocks = [((block[:, None] - x) / (factor * width)) for block in np.array_split(y, 20)]
        mean = np.concatenate([(np.exp(-0.5 * z**2) / (factor * width)).mean(axis=1) for z in blocks])
        scores.append(np.log(mean / np.sqrt(2 * np.pi) + 1e-300).mean())
    return float(max(scores) + np.log(step))


def main() -> None:
    """Print the table and write it to benchmarks/results/partition.md."""
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    warnings.filterwarnings("ignore", category=pd.errors.DtypeWarning)
    rows = []
    for path in sys.argv[1:]:
        for name, (train, test) in halves(path).items():
            plain, _ = density(train, test, quantiles)
            tails, _ = density(train, test, quantiles_and_tails)
            ours, codec = density(train, test, adaptive)
            rows.append((name, len(train), codec.num_cells, plain, tails, ours, kernel(train, test, codec)))
            print("{} {} {} {:.3f} {:.3f} {:.3f} {:.3f}".format(*rows[-1]), flush=True)
    gains = np.array([row[5] - row[3] for row in rows])
    head = (
        "Mean held-out log probability of a lattice point, nats a row.\n\n"
        f"Ours over plain quantiles: mean {gains.mean():+.3f}, least {gains.min():+.3f}, most "
        f"{gains.max():+.3f} nats a row on {len(rows)} columns.\n\n"
        "| column | rows | cells | quantiles | quantiles, tails cut | ours | kernel density |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    body = "\n".join("| {} | {:,} | {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} |".format(*row) for row in rows)
    write_result("partition", "Cells as a density", head + body.replace(" nan ", " - "))


if __name__ == "__main__":
    main()
