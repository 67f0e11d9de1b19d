"""The readings worth trying for a column of text, the plainest first.

Enters the distinct texts of a column; leaves fresh readings, each yet to look at them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from nemo_tabular.schema.dates import FormatReading, IsoReading, likely_formats
from nemo_tabular.schema.numbers import BigIntegerReading, FloatReading, IntegerReading, marked_readings
from nemo_tabular.schema.reading import BooleanReading, Reading

_SOME = 1_000  # texts that decide which readings are worth trying


def readings_of(words: pa.Array) -> list[Reading]:
    """The readings worth trying for a column that holds these distinct texts, the plainest first."""
    some = words.slice(0, _SOME)
    for family in (_plain, _iso):
        if any(_fits(r, some) for r in family()):
            return family()
    return [*_plain(), *_iso(), *marked_readings(some), *(FormatReading(f) for f in likely_formats(some))]


def _plain() -> list[Reading]:
    return [BooleanReading(), IntegerReading(), BigIntegerReading(), FloatReading()]


def _iso() -> list[Reading]:
    kinds = {"date": "date32[day]", "timestamp": "timestamp[us]", "time": "time64[us]"}
    return [IsoReading(kind, type) for kind, type in kinds.items()]


def _fits(reading: Reading, words: pa.Array) -> bool:
    """Whether every one of the words fits; the reading is used up by the trial."""
    reading.look(words, np.ones(len(words), np.int64))
    return reading.alive and not reading.odd
