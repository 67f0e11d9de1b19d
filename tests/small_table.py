"""A number of rows and a seed enter; small tables of people leave, one of them such that a careless reader
spoils it."""

import numpy as np
import pandas as pd


def people(rows: int = 1500, seed: int = 0) -> pd.DataFrame:
    """Sex, age, and a height that depends on sex and is missing in every tenth row."""
    random = np.random.default_rng(seed)
    sex = random.choice(["Female", "Male"], rows, p=[0.4, 0.6])
    age = random.integers(17, 80, rows)
    height = np.round(random.normal(np.where(sex == "Male", 178.0, 165.0), 7.0), 1)
    height[random.random(rows) < 0.1] = np.nan
    return pd.DataFrame({"sex": sex, "age": age, "height": height})


def small_table(rows: int, seed: int) -> pd.DataFrame:
    """Text with commas and quotes, an integer, cents, a date with gaps, a code with leading zeros."""
    rng = np.random.default_rng(seed)
    missing = rng.random(rows) < 0.1
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, rows), "D")
    return pd.DataFrame(
        {
            "city": rng.choice(["Paris", "Köln, Nord", 'the "Hague"'], rows),
            "age": rng.integers(18, 90, rows),
            "paid": [f"{cents // 100}.{cents % 100:02d}" for cents in rng.integers(0, 99_999, rows)],
            "day": np.where(missing, "", days.strftime("%Y-%m-%d")),
            "zip": [f"{code:05d}" for code in rng.integers(100, 140, rows)],
        }
    )
