"""A mixed table of 15 columns enters; CPU seconds of NeMo's tokenizer and of ours on it, and of reading
a CSV of any size and making a store of it, leave in benchmarks/results/tokenize.md.
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from results import write_result

sys.path.insert(0, str(Path(__file__).parent.parent))

from nemo_tabular.nemo_import import schema_from_nemo
from nemo_tabular.profile import profile
from nemo_tabular.readers import open_table
from nemo_tabular.schema import Schema, infer_schema
from nemo_tabular.store import prepare
from nemo_tabular.tokenizer import TableTokenizer

CATEGORIES = {
    "workclass": 9,
    "education": 16,
    "marital": 7,
    "occupation": 15,
    "relationship": 6,
    "country": 42,
    "income": 2,
}
INTEGERS = ["age", "weight", "education_years"]
FLOATS = ["capital_gain", "capital_loss", "hours", "wage", "balance"]


def mixed(rows: int, seed: int = 7) -> pa.Table:
    """Fifteen columns like Adult's: 7 texts, 3 integers, 5 floats of 6 decimals; missing values, spikes."""
    r = np.random.default_rng(seed)

    def some_missing(values: np.ndarray, share: float) -> pa.Array:
        return pa.array(values, mask=r.random(rows) < share)

    columns: dict[str, Any] = {}
    for name, size in CATEGORIES.items():
        share = 1 / np.arange(1, size + 1) ** 1.3
        words = np.array([f"{name}-{i}" for i in range(size)], dtype=object)
        columns[name] = some_missing(r.choice(words, rows, p=share / share.sum()), 0.02 if size > 8 else 0)
    columns["age"] = pa.array(np.clip(r.normal(38.6, 13.6, rows), 17, 90).astype(int))
    columns["weight"] = pa.array(np.clip(np.exp(r.normal(12, 0.55, rows)), 12_285, 1_484_705).astype(int))
    columns["education_years"] = some_missing(r.integers(1, 17, rows), 0.02)
    gain, loss = np.exp(r.normal(8.6, 1.2, rows)), r.normal(1870, 360, rows)
    columns["capital_gain"] = pa.array(np.where(r.random(rows) < 0.083, gain, 0).round(6))
    columns["capital_loss"] = some_missing(np.where(r.random(rows) < 0.047, loss, 0).round(6), 0.01)
    columns["hours"] = some_missing(np.clip(r.normal(40.4, 12.3, rows), 1, 99).round(6), 0.03)
    columns["wage"] = pa.array(np.exp(r.normal(3, 0.7, rows)).round(6))
    columns["balance"] = pa.array((r.standard_t(3, rows) * 1234.567).round(6))
    return pa.table(columns)


def nemo_config() -> list[dict[str, Any]]:
    """As in NeMo's tutorial: base 100, four digits, the quantile transform; columns in the table's order."""
    number = {"code_len": 4, "base": 100, "fillall": True, "hasnan": True}
    kinds: dict[str, dict[str, Any]] = {name: {"code_type": "category"} for name in CATEGORIES}
    kinds |= {name: {"code_type": "int", "args": dict(number)} for name in INTEGERS}
    kinds |= {name: {"code_type": "float", "args": {**number, "transform": "quantile"}} for name in FLOATS}
    return [{"name": name, **kind} for name, kind in kinds.items()]


def lines_of(table: pa.Table) -> str:
    """The table as the text that NeMo's tokenizer takes."""
    frame = table.to_pandas()
    columns = []
    for name in table.column_names:
        values = frame[name]
        if name in INTEGERS:
            columns.append(["nan" if pd.isna(x) else str(int(x)) for x in values])
        else:
            columns.append(["nan" if pd.isna(x) else str(x) for x in values])
    return "\n".join(map(",".join, zip(*columns, strict=True)))


def nemo_tokenizer(table: pa.Table) -> Any:
    """NeMo's own tokenizer, fitted to the table."""
    from nemo_wheel import load

    coder, tokenizers = load()
    frame, arrays = table.to_pandas(), {}
    for name in table.column_names:
        values = frame[name]
        is_text = name in CATEGORIES
        arrays[name] = values.fillna("nan").unique() if is_text else values.dropna().unique()
    return tokenizers.TabularTokenizer(coder.ColumnCodes.get_column_codes(nemo_config(), arrays))


def fit(table: pa.Table, schema: Schema) -> TableTokenizer:
    """Our tokenizer, fitted to the table."""
    return TableTokenizer.fit(schema, profile(open_table(table).batches(schema)))


def seconds(work: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


# --- part A: against NeMo ---


def against_nemo(rows: int, nemo_rows: int, rounds: int) -> str:
    """The first table of the result: rows per CPU second, every side in every round."""
    table = mixed(rows)
    text = lines_of(table.slice(0, nemo_rows))
    nemo = nemo_tokenizer(table)
    ids = nemo.text_to_ids(text)
    sides: dict[str, tuple[int, Callable[[], Any]]] = {
        "NeMo: text to ids": (nemo_rows, lambda: nemo.text_to_ids(text)),
        "NeMo: ids to text": (nemo_rows, lambda: nemo.ids_to_text(ids)),
    }
    for title, schema in (
        ("inferred schema", infer_schema(open_table(table))),
        ("NeMo's config", schema_from_nemo(nemo_config(), table)),
    ):
        tokenizer = fit(table, schema)
        sides |= our_sides(title, tokenizer, table)
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (count, work) in sides.items():
            costs[name].append(count / seconds(work))
    speed = {name: statistics.median(found) for name, found in costs.items()}
    head = "| | rows per CPU second: median (min-max) | times NeMo's |\n|---|---|---|\n"
    body = ""
    for name, found in costs.items():
        base = speed["NeMo: text to ids" if "to ids" in name else "NeMo: ids to text"]
        spread = f"{min(found):,.0f}-{max(found):,.0f}"
        body += f"| {name} | {speed[name]:,.0f} ({spread}) | {speed[name] / base:,.0f} |\n"
    return head + body


def our_sides(
    title: str, tokenizer: TableTokenizer, table: pa.Table
) -> dict[str, tuple[int, Callable[[], Any]]]:
    """Arrow table to ids and back, and the same from and to the text of a CSV."""
    ids, rows = tokenizer.encode(table), table.num_rows
    with io.BytesIO() as out:
        pyarrow.csv.write_csv(table, out)
        data = out.getvalue()

    def from_text() -> None:
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            file.write(data)
            file.flush()
            for batch in open_table(file.name).batches(tokenizer.schema, dictionary=True):
                tokenizer.encode(batch)

    def to_text() -> None:
        pyarrow.csv.write_csv(tokenizer.decode(ids), io.BytesIO())

    width = f"{tokenizer.num_slots} tokens a row"
    return {
        f"ours, {title}, {width}: table to ids": (rows, lambda: tokenizer.encode(table)),
        f"ours, {title}: ids to table": (rows, lambda: tokenizer.decode(ids)),
        f"ours, {title}: CSV text to ids": (rows, from_text),
        f"ours, {title}: ids to CSV text": (rows, to_text),
    }


# --- part B: CSV to store ---


def write_big(path: Path, gigabytes: float) -> int:
    """A CSV of so many GB of the mixed table; the number of its rows."""
    rows, number = 0, 0
    with open(path, "wb") as file:
        while file.tell() < gigabytes * 1e9:
            table = mixed(200_000, seed=100 + number)
            options = pyarrow.csv.WriteOptions(include_header=number == 0)
            pyarrow.csv.write_csv(table, file, options)
            rows, number = rows + table.num_rows, number + 1
    return rows


def peak_megabytes() -> float:
    """Highest resident memory of this process. (ru_maxrss would count the parent's, from before exec.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def one_job(job: str, source: str, schema_file: str, out: str) -> None:
    """Run one job in this process and print what it cost, as JSON."""
    schema = None if job == "infer" else Schema.from_yaml(schema_file)
    start, clock = time.process_time(), time.perf_counter()
    if job == "infer":
        infer_schema(open_table(source)).to_yaml(schema_file)
    elif job == "parse":
        for _ in open_table(source).batches(schema, dictionary=True):
            pass
    elif job == "prepare":
        prepare(source, out, schema=schema)
    else:
        tokenizer = TableTokenizer.load(Path(out) / "tokenizer.json")
        prepare(source, out + ".again", tokenizer=tokenizer)
    cost = {"cpu": time.process_time() - start, "wall": time.perf_counter() - clock, "mb": peak_megabytes()}
    print(json.dumps(cost))


def in_a_process(job: str, *arguments: object) -> dict[str, float]:
    """`one_job` in a process of its own."""
    command = [sys.executable, __file__, "--job", job, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


JOBS = {
    "infer": "infer the schema of the CSV",
    "parse": "parse the CSV, typed by its schema",
    "prepare": "CSV to store, tokenizer fitted",
    "again": "CSV to store, with that tokenizer",
}


def csv_to_store(gigabytes: float, rounds: int) -> str:
    """The second table of the result: every job in a process of its own, in every round."""
    with tempfile.TemporaryDirectory() as folder:
        source, schema, out = Path(folder) / "big.csv", Path(folder) / "schema.yaml", Path(folder) / "store"
        rows = write_big(source, gigabytes)
        size = source.stat().st_size
        costs: dict[str, list[dict[str, float]]] = {job: [] for job in JOBS}
        costs["infer"].append(in_a_process("infer", source, schema, out))
        for _ in range(rounds):
            for job in ("parse", "prepare", "again"):
                costs[job].append(in_a_process(job, source, schema, out))
                if job == "again":
                    subprocess.run(["rm", "-r", str(out), f"{out}.again"], check=True)
    parse = statistics.median(cost["cpu"] for cost in costs["parse"])
    body = f"\n{rows:,} rows, {size / 1e9:.2f} GB, {rounds} rounds.\n\n"
    body += "| | CPU seconds: median (min-max) | MB of CSV per CPU second | times parsing "
    body += "| wall seconds | peak MB |\n|---|---|---|---|---|---|\n"
    for job, title in JOBS.items():
        cpu = [cost["cpu"] for cost in costs[job]]
        middle, wall = statistics.median(cpu), statistics.median(cost["wall"] for cost in costs[job])
        peak = max(cost["mb"] for cost in costs[job])
        body += f"| {title} | {middle:.1f} ({min(cpu):.1f}-{max(cpu):.1f}) | {size / 1e6 / middle:.0f} "
        body += f"| {middle / parse:.2f} | {wall:.1f} | {peak:.0f} |\n"
    return body


def main() -> None:
    """Measure both parts and write the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=200_000, help="rows of the table that we code")
    options.add_argument("--nemo-rows", type=int, default=2_000, help="rows of it that NeMo codes a round")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--gb", type=float, default=2.0, help="size of the CSV")
    options.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.job:
        one_job(*given.job)
        return
    warnings.filterwarnings("ignore")
    body = f"`python benchmarks/tokenize.py --rows {given.rows} --nemo-rows {given.nemo_rows} "
    body += f"--rounds {given.rounds} --gb {given.gb:g}`\n\nOne thread; CPU seconds of the process.\n\n"
    body += f"## Against NeMo's tokenizer (2.7.3), 15 columns, {given.rounds} rounds\n\n"
    body += against_nemo(given.rows, given.nemo_rows, given.rounds)
    body += "\n## From CSV to store\n"
    body += csv_to_store(given.gb, max(3, given.rounds // 2))
    print(body)
    print(write_result("tokenize", "Tables to tokens", body))


if __name__ == "__main__":
    main()
