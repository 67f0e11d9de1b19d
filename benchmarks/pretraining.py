"""500 rows of Adult: training on them alone against fine-tuning after pre-training on other tables whose
columns partly overlap; held-out nats a row.

    python benchmarks/pretraining.py [--data FOLDER] [--work FOLDER] [--seeds 1 2 3] [--only PART]

FOLDER holds adult and census_kdd as the development data do. Pre-training reads none of the 500 rows and
none of the held-out ones. Both sides write values with the same tokenizer: they score the same events. What
trains on the 500 rows alone stops early by a fifth of them and then fits on all, in several recipes, of which
the best on the HELD-OUT rows counts: it is given more than fine-tuning, which has one recipe. A run is kept
in --work and not done again; --only runs one part and writes no table.

Writes benchmarks/results/pretraining.md.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from results import write_result

from nemo_tabular import Synthesizer
from nemo_tabular.config import load_config
from nemo_tabular.schema import Schema
from nemo_tabular.store import prepare
from nemo_tabular.synthesizer import validation_share
from nemo_tabular.train.run import train

ROWS, HELD_OUT = 500, 4000
DEMOGRAPHY = [
    "age",
    "workclass",
    "education",
    "education_num",
    "marital_status",
    "relationship",
    "race",
    "sex",
]
WORK = [
    *("age", "education", "sex", "occupation", "capital_gain", "capital_loss"),
    *("hours_per_week", "native_country", "income"),
]
RENAME = {
    "class_of_worker": "workclass",
    "marital_stat": "marital_status",
    "major_occupation_code": "occupation",
    "capital_gains": "capital_gain",
    "capital_losses": "capital_loss",
    "country_of_birth_self": "native_country",
}
KEPT = [*RENAME, "age", "education", "race", "sex", "income", "tax_filer_stat", "weeks_worked_in_year"]
VALUES = {
    "workclass": {
        "Self-employed-not incorporated": "Self-emp-not-inc",
        "Self-employed-incorporated": "Self-emp-inc",
        "Local government": "Local-gov",
        "State government": "State-gov",
        "Federal government": "Federal-gov",
        "Never worked": "Never-worked",
        "Without pay": "Without-pay",
    },
    "education": {
        "Less than 1st grade": "Preschool",
        "1st 2nd 3rd or 4th grade": "1st-4th",
        "5th or 6th grade": "5th-6th",
        "7th and 8th grade": "7th-8th",
        "9th grade": "9th",
        "10th grade": "10th",
        "11th grade": "11th",
        "12th grade no diploma": "12th",
        "High school graduate": "HS-grad",
        "Some college but no degree": "Some-college",
        "Associates degree-occup /vocational": "Assoc-voc",
        "Associates degree-academic program": "Assoc-acdm",
        "Bachelors degree(BA AB BS)": "Bachelors",
        "Masters degree(MA MS MEng MEd MSW MBA)": "Masters",
        "Prof school degree (MD DDS DVM LLB JD)": "Prof-school",
        "Doctorate degree(PhD EdD)": "Doctorate",
    },
    "marital_status": {
        "Married-civilian spouse present": "Married-civ-spouse",
        "Never married": "Never-married",
        "Married-spouse absent": "Married-spouse-absent",
        "Married-A F spouse present": "Married-AF-spouse",
    },
    "occupation": {
        "Adm support including clerical": "Adm-clerical",
        "Professional specialty": "Prof-specialty",
        "Executive admin and managerial": "Exec-managerial",
        "Other service": "Other-service",
        "Precision production craft & repair": "Craft-repair",
        "Machine operators assmblrs & inspctrs": "Machine-op-inspct",
        "Transportation and material moving": "Transport-moving",
        "Handlers equip cleaners etc": "Handlers-cleaners",
        "Farming forestry and fishing": "Farming-fishing",
        "Technicians and related support": "Tech-support",
        "Protective services": "Protective-serv",
        "Private household services": "Priv-house-serv",
        "Armed Forces": "Armed-Forces",
        "Not in universe": "?",
    },
    "race": {
        "Asian or Pacific Islander": "Asian-Pac-Islander",
        "Amer Indian Aleut or Eskimo": "Amer-Indian-Eskimo",
    },
    "native_country": {
        "South Korea": "South",
        "Hong Kong": "Hong",
        "Outlying-U S (Guam USVI etc)": "Outlying-US(Guam-USVI-etc)",
    },
    "income": {"- 50000": "<=50K", "50000+": ">50K"},
}  # fmt: skip
SOURCES = {
    "census": ("Census KDD, another survey, names and values mapped", ["census"], 2),
    "cuts": ("two cuts of Adult: other rows, each with some of the columns", ["demography", "work"], 8),
    "both": ("all three tables", ["census", "demography", "work"], 2),
}
"""What is pre-trained on: how it is called, its tables, epochs."""
ALONE: dict[str, list[str]] = {
    "the default recipe": [],
    "weight decay": ["optim.weight_decay=0.1"],
    "random orders only": ["model.order=random"],
    "twice the rate": ["optim.lr=0.005"],
}


class Bench:
    """The tables, cut once, and the figures found so far."""

    def __init__(self, data: Path, work: Path) -> None:
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        read = {"keep_default_na": False}
        adult = pd.read_csv(data / "adult" / "adult_train.csv.gz", **read).drop(columns=["fnlwgt"])
        adult = adult.sample(frac=1, random_state=0, ignore_index=True)
        self.pool, rest = adult[:5000], adult[5000:]
        self.test = pd.read_csv(data / "adult" / "adult_test.csv.gz", **read)[adult.columns][:HELD_OUT]
        self.cut("demography", rest[DEMOGRAPHY][: len(rest) // 2])
        self.cut("work", rest[WORK][len(rest) // 2 :])
        census = pd.read_parquet(data / "census_kdd" / "census_train.parquet")
        at_work = (census["age"] >= 17) & (census["class_of_worker"] != "Not in universe")
        self.cut("census", census[at_work][KEPT])

    def cut(self, name: str, table: pd.DataFrame) -> None:
        path = self.work / f"{name}.csv"
        if not path.exists():
            table.to_csv(path, index=False)

    def kept(self, name: str, make) -> dict[str, float]:
        """What `make` found, now or in an earlier run."""
        path = self.work / f"{name}.json"
        if not path.exists():
            start = time.process_time()
            found = make() | {"cpu": round(time.process_time() - start, 1)}
            path.write_text(json.dumps(found))
            print(name, found, flush=True)
        return json.loads(path.read_text())

    # ---- the runs ----

    def pretrain(self, source: str) -> dict[str, float]:
        _, tables, epochs = SOURCES[source]
        listed = [{"table": f"{name}.csv"} for name in tables]
        for one in listed:
            if one["table"] == "census.csv":
                one |= {"rename": RENAME, "values": VALUES}
        listing = self.work / f"{source}.yaml"
        listing.write_text(yaml.safe_dump({"tables": listed}))
        settings = {
            "run__dir": str(self.work / source),
            "trainer__max_epochs": epochs,
            "trainer__num_threads": 1,
        }
        made = Synthesizer("cgm", trainer__final_fit=False, **settings).fit(listing)
        return {"rows": made.schema.rows, "nll": made.model.info["best_nll"]}

    def sample(self, seed: int) -> pd.DataFrame:
        return self.pool.sample(ROWS, random_state=seed, ignore_index=True)

    def small(self, seed: int) -> Path:
        path = self.work / f"rows-{seed}.csv"
        if not path.exists():
            self.sample(seed).to_csv(path, index=False)
        return path

    def fine_tune(self, source: str, seed: int, **settings) -> dict[str, float]:
        model = Synthesizer.load(self.work / source, run__seed=seed, trainer__num_threads=1, **settings).fit(
            self.small(seed)
        )
        model.save(self.work / f"{source}-{seed}")
        return self.score(model)

    def alone(self, source: str, seed: int, overrides: list[str]) -> dict[str, float]:
        """The 500 rows, written with the tokenizer that fine-tuning ended with."""
        tokenizer = Synthesizer.load(self.work / f"{source}-{seed}").model.tokenizer
        share = validation_share(ROWS)
        store = prepare(
            self.small(seed),
            self.work / f"store-{source}-{seed}",
            tokenizer=tokenizer,
            splits=(1 - share, share),
            seed=seed,
            overwrite=True,
        )
        config = load_config(
            overrides=["model.kind=cgm", f"run.seed={seed}", "trainer.num_threads=1", *overrides]
        )
        made = Synthesizer("cgm")
        made._use(train(config, store).model)
        return self.score(made)

    def score(self, model: Synthesizer) -> dict[str, float]:
        """Nats a held-out row whose categories are all known, in the model's order and over 8 orders."""
        rows = self.test[known_rows(self.test, model)]
        with tempfile.TemporaryDirectory() as folder:
            rows.to_csv(Path(folder, "held-out.csv"), index=False)
            table = typed(Path(folder, "held-out.csv"), model.schema)
        one = -model.log_prob(table, unseen="nearest")
        eight = -model.log_prob(table, orders=8, unseen="nearest")
        return {"nats": float(one.mean()), "eight": float(eight.mean()), "held_out": len(rows)}


def typed(path: Path, schema: Schema):
    """The file as the schema reads it."""
    import pyarrow as pa

    from nemo_tabular.readers import open_table

    return pa.Table.from_batches(list(open_table(path).batches(schema)))


def known_rows(table: pd.DataFrame, model: Synthesizer) -> np.ndarray:
    """Mask of the rows without a category that the tokenizer never saw."""
    keep = np.ones(len(table), bool)
    for name, codec in model.model.tokenizer.codecs.items():
        if codec.codec == "category":
            keep &= table[name].isin([*codec.values, *model.schema.column(name).missing_values]).to_numpy()
    return keep


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = Path(__file__).parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data)
    parser.add_argument("--work", type=Path, default=Path("runs") / "pretraining")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument("--only", choices=["pretrain", "fine", "alone"])
    options = parser.parse_args()
    bench = Bench(options.data, options.work)
    part = options.only
    lines = []
    for source in options.sources:
        before = bench.kept(f"pretrain-{source}", lambda source=source: bench.pretrain(source))
        if part == "pretrain":
            continue
        fine = [
            bench.kept(f"fine-{source}-{s}", lambda source=source, s=s: bench.fine_tune(source, s))
            for s in options.seeds
        ]
        if part == "fine":
            continue
        lines += [*table_of(bench, source, before, fine, options.seeds), ""]
    if part is None:
        print("\n".join(lines))
        write_result(
            "pretraining", "Pre-training on overlapping tables, fine-tuning on 500 rows", "\n".join(lines)
        )


def table_of(bench: Bench, source: str, before, fine, seeds: list[int]) -> list[str]:
    """One source's Markdown table: every recipe trained alone, and fine-tuning, each judged by the better of
    its two ways to score."""
    rows = {
        f"{ROWS} rows alone, {name}": [
            bench.kept(f"alone-{source}-{s}-{k}", lambda s=s, o=overrides: bench.alone(source, s, o))
            for s in seeds
        ]
        for k, (name, overrides) in enumerate(ALONE.items())
    }
    best = min(rows, key=lambda name: better(rows[name]).mean())
    gains = better(rows[best]) - better(fine)
    lines = [
        f"## After pre-training on {SOURCES[source][0]}",
        "",
        f"{before['rows']:,} rows, {SOURCES[source][2]} epochs, {before['cpu']:.0f} CPU seconds. Held out: "
        f"{fine[0]['held_out']:,} rows.",
        "",
        "| trained on | " + " | ".join(f"seed {s}" for s in seeds) + " | mean ± sd | scored by | CPU s |",
        "|---|" + "---|" * (len(seeds) + 3),
    ]
    for name, found in (rows | {f"fine-tuned on {ROWS} rows": fine}).items():
        nats = better(found)
        lines.append(
            f"| {name} | "
            + " | ".join(f"{n:.3f}" for n in nats)
            + f" | {nats.mean():.3f} ± {nats.std(ddof=1):.3f} | {scoring(found)} | "
            + f"{np.mean([f['cpu'] for f in found]):.0f} |"
        )
    return [
        *lines,
        "",
        f"**Gain over the best of these: {gains.mean():.3f} ± {gains.std(ddof=1):.3f} nats a row** (mean and "
        f"standard deviation over seeds; least {gains.min():.3f}).",
    ]


def scoring(found: list[dict[str, float]]) -> str:
    """The better of the two ways to score, by the mean over seeds."""
    one, eight = (np.mean([f[key] for f in found]) for key in ("nats", "eight"))
    return "its own order" if one < eight else "8 orders"


def better(found: list[dict[str, float]]) -> np.ndarray:
    """Nats of each seed, scored that way."""
    return np.array([f["nats" if scoring(found) == "its own order" else "eight"] for f in found])


if __name__ == "__main__":
    main()
