"""Customers with some hundred events each, through the command line: memory at two sizes of the table,
CPU seconds, and whether generated histories end as the real ones do.

    python benchmarks/histories.py [--customers 5000 50000] [--steps 300] [--documents 1000]

Every stage is a process of its own on one thread. The table is made here, a Parquet file in order of time,
as a log of events is, so that no customer's events lie together. Writes benchmarks/results/histories.md.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from adult import stage
from results import write_result
from scipy.stats import ks_2samp

KINDS = ["food", "fuel", "rent", "travel", "health", "clothes", "books", "games", "phone", "fees"]
SLICES = 100
RECIPE = ["data.max_rows=64", "data.context_rows=16", "trainer.final_fit=false"]


def write_events(path: Path, customers: int, seed: int = 0) -> np.ndarray:
    """A log of about 200 events a customer, slice by slice of time; the number of each customer's events.

    Customers of two kinds have 80 or 320 events in the mean; the kind of an event follows from the last by a
    fixed table of chances, and its amount from its kind.
    """
    r = np.random.default_rng(seed)
    busy = r.random(customers) < 0.5
    mean = np.where(busy, 320, 80)
    lengths = np.maximum(1, r.poisson(mean * r.gamma(8, 1 / 8, customers)))
    chances = np.random.default_rng(1).dirichlet(np.full(len(KINDS), 0.4), size=(2, len(KINDS))).cumsum(-1)
    kind, day = r.integers(len(KINDS), size=customers), r.integers(0, 30, customers)
    schema = pa.schema(
        {"customer": pa.int64(), "event": pa.int64(), "kind": pa.string(), "amount": pa.float64()}
        | {"gap_days": pa.int64()}
    )
    with pq.ParquetWriter(path, schema) as writer:
        for event in range(int(lengths.max())):
            alive = np.flatnonzero(lengths > event)
            u = r.random(len(alive))
            kind[alive] = (u[:, None] > chances[busy[alive].astype(int), kind[alive]]).sum(1)
            gap = r.poisson(np.where(busy[alive], 1.0, 4.0))
            day[alive] += gap
            amount = np.exp(r.normal(1 + 0.4 * kind[alive], 0.5)).round(2)
            names = pa.DictionaryArray.from_arrays(kind[alive], KINDS).dictionary_decode()
            columns = [alive, np.full(len(alive), event), names, amount, gap]
            writer.write_table(pa.table([pa.array(c) for c in columns], schema=schema))
    return lengths


def one_size(customers: int, steps: int, documents: int, folder: Path) -> tuple[list[str], list[str]]:
    """Rows of the two tables of the result, for a table of so many customers."""
    source, schema, store = folder / "events.parquet", folder / "events.yaml", folder / "store"
    run, out = folder / "run", folder / "out.parquet"
    lengths = write_events(source, customers)
    costs = {
        "schema": stage(
            "schema", str(source), "-o", str(schema), "--group-by", "customer", "--order-by", "event"
        ),
        "prepare": stage("prepare", str(source), "--schema", str(schema), "-o", str(store)),
        f"train, {steps} steps": stage(
            *("train", "conf/gpt_laptop.yaml", f"data.store={store}", f"run.dir={run}"),
            *(f"trainer.max_steps={steps}", *RECIPE),
        ),
        f"generate {documents:,} histories": stage(
            "generate", str(run), "--documents", str(documents), "--seed", "1", "-o", str(out)
        ),
    }
    size = f"{customers:,} customers, {lengths.sum():,} events"
    made = pq.read_table(out)
    counts = pc.value_counts(made["customer"]).field("counts").to_numpy()
    ended = (counts < lengths.max()).mean()
    quantiles = [np.quantile(x, [0.1, 0.5, 0.9]).round().astype(int) for x in (lengths, counts)]
    distance = ks_2samp(lengths, counts).statistic
    spread = " | ".join("{} / {} / {}".format(*q) for q in quantiles)
    return (
        [f"| {size} | {name} | {cpu:.1f} | {peak:.2f} |" for name, (cpu, peak) in costs.items()],
        [f"| {size} | {spread} | {distance:.3f} | {ended:.3f} |"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[5_000, 50_000])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--documents", type=int, default=1_000)
    options = parser.parse_args()
    costs, lengths = [], []
    for customers in options.customers:
        with tempfile.TemporaryDirectory() as folder:
            cost, length = one_size(customers, options.steps, options.documents, Path(folder))
        costs += cost
        lengths += length
        print("\n".join(cost + length), flush=True)
    body = "| table | stage, one thread | CPU s, start-up included | peak memory, GB |\n|---|---|---|---|\n"
    body += "\n".join(costs)
    body += "\n\nEvents a history, 10 / 50 / 90 % of them below:\n\n"
    body += "| table | real | generated | largest distance of the two distributions | ended by themselves |\n"
    body += "|---|---|---|---|---|\n" + "\n".join(lengths)
    write_result("histories", "Histories", body)


if __name__ == "__main__":
    main()
