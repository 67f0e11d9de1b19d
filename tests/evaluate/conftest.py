"""Small tables with everything in them: numbers with a spike, categories, dates, booleans, gaps."""

import numpy as np
import pandas as pd
import pytest

from nemo_tabular.evaluate import Report, evaluate


def mixed_table(rows: int, seed: int) -> pd.DataFrame:
    """Rows of one fixed distribution in which the columns depend on each other."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, rows)
    job = np.where(age > 65, "retired", rng.choice(["clerk", "nurse", "cook"], rows, p=[0.5, 0.3, 0.2]))
    gain = np.where(rng.random(rows) < 0.7, 0.0, np.round(np.exp(rng.normal(6, 1, rows)), 2))
    wage = np.where(job == "retired", np.nan, 1000 + 20 * age + rng.normal(0, 100, rows))
    rich = (wage > 1800) ^ (rng.random(rows) < 0.1)
    day = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), unit="D")
    return pd.DataFrame({"age": age, "job": job, "gain": gain, "wage": wage, "rich": rich, "day": day})


@pytest.fixture(scope="session")
def train() -> pd.DataFrame:
    return mixed_table(1500, 1)


@pytest.fixture(scope="session")
def test() -> pd.DataFrame:
    return mixed_table(800, 2)


@pytest.fixture(scope="session")
def synthetic() -> pd.DataFrame:
    """New rows of the same distribution: what a perfect model would make."""
    return mixed_table(1500, 3)


@pytest.fixture(scope="session")
def report(train, test, synthetic) -> Report:
    """Everything measured once, of fresh rows."""
    return evaluate(train, test, synthetic, target="rich")
