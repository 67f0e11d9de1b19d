"""What the texts of a column can be read as, gathered from the whole table batch by batch.

Enters batches of text; leaves the distinct texts while they are few, and the readings that fit (integer,
float, date, ...), each with the few texts that did not fit it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile import WordCounter, word_counts
from nemo_tabular.schema.dateformats import instants
from nemo_tabular.schema.numbers import NumberReading
from nemo_tabular.schema.reading import Reading
from nemo_tabular.schema.readings import readings_of

MISSING_WORDS = (
    *("NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "NaT"),
    *("null", "NULL", "None", "none", "?", "-", "."),
)


class TextEvidence:
    """Distinct texts while they are few; from then on only the readings that still fit."""

    def __init__(
        self,
        name: str,
        cap: int,
        row_of: Callable[[str], int],
        missing_words: tuple[str, ...] = MISSING_WORDS,
    ) -> None:
        """`row_of` finds the row (from 1) in which a text first occurs; it is asked for messages only."""
        self.name = name
        self.row_of = row_of
        self.rows = self.empty = self.max_bytes = 0
        self.missing_words: dict[str, int] = {}
        """Texts set aside as missing, should the column be one of numbers or dates, with their counts."""
        self._missing = pa.array(["", *missing_words])
        self._counter = WordCounter(cap)
        self._frozen: pa.Array | None = None
        self._new_after = 0
        self._readings: list[Reading] | None = None

    def update(self, values: pa.Array) -> None:
        """Take in a batch of one column: strings or dictionary<int32, string>, null where empty."""
        self.rows += len(values)
        self.empty += values.null_count
        if self._frozen is None:
            words, counts = word_counts(values)
            self._counter.add(words, counts)
            if self._counter.overflown:
                self._frozen = self._counter.result()[0]
                self._readings = self._begin_readings()
        else:
            words = (values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values).drop_null()
            self._stream(words)
        self.max_bytes = max(self.max_bytes, pc.max(pc.binary_length(words)).as_py() or 0)

    @property
    def overflown(self) -> bool:
        """Whether there were too many distinct texts to follow each of them."""
        return self._frozen is not None

    @property
    def distinct(self) -> int:
        """Distinct texts; a lower bound when overflown."""
        return len(self._counter.result()[0])

    @property
    def share_distinct(self) -> float:
        """Distinct texts per row that has one; when overflown an upper bound (new ones are told by batch)."""
        return min(1.0, (self.distinct + self._new_after) / max(1, self.rows - self.empty))

    def examples(self, most: int) -> list[str]:
        """The first distinct texts."""
        return list(islice((w.as_py() for w in self._counter.result()[0]), most))

    def readings(self) -> list[Reading]:
        """Every reading that at most a few texts do not fit, the plainest first."""
        if self._readings is None:
            self._readings = self._begin_readings()
        return [r for r in self._readings if r.alive and r.fitting]

    def first_misfit(self, format: str) -> str | None:
        """The first text that a date format does not fit."""
        words, _ = self._without_missing(*self._counter.result(), note=False)
        _, ok = instants(pc.utf8_trim_whitespace(words), format)
        return words[int(np.argmin(ok))].as_py() if not ok.all() else None

    def _begin_readings(self) -> list[Reading]:
        words, counts = self._without_missing(*self._counter.result())
        readings = readings_of(words)
        for reading in readings:
            reading.look(words, counts)
        return readings

    def _stream(self, words: pa.Array) -> None:
        """Texts after the overflow, with their repetitions."""
        readings = [r for r in self._readings or [] if r.alive]
        if any(r.fitting for r in readings):
            words, counts = self._without_missing(words, np.ones(len(words), np.int64))
            numbers = [r for r in readings if isinstance(r, NumberReading)]
            _look_in_turn(numbers, words, counts)
            for reading in readings:
                if not isinstance(reading, NumberReading):
                    reading.look(words, counts)
        if not any(r.alive and r.fitting for r in readings):
            new = pc.unique(words)
            self._new_after += len(new) - pc.sum(pc.is_in(new, self._frozen)).as_py()

    def _without_missing(
        self, words: pa.Array, counts: np.ndarray, *, note: bool = True
    ) -> tuple[pa.Array, np.ndarray]:
        """Sets aside the empty text and the words that mean missing in a column of numbers or dates."""
        found = pc.is_in(words, self._missing)
        if not pc.any(found).as_py():
            return words, counts
        mask = found.to_numpy(zero_copy_only=False)
        if note:
            for word, n in zip(words.filter(found).to_pylist(), counts[mask].tolist(), strict=True):
                self.missing_words[word] = self.missing_words.get(word, 0) + n
        return words.filter(pc.invert(found)), counts[~mask]


def _look_in_turn(numbers: list[NumberReading], words: pa.Array, counts: np.ndarray) -> None:
    """Only the plainest number reading looks while everything fits it: what it fits, the later ones fit."""
    leader = next((r for r in numbers if not r.odd), None)
    if leader is None:
        for reading in numbers:
            reading.look(words, counts)
        return
    leader.look(words, counts)
    if leader.odd:
        odd = pa.array(leader.odd, pa.string())
        odd_counts = np.fromiter(leader.odd.values(), np.int64, len(leader.odd))
        for reading in numbers[numbers.index(leader) + 1 :]:
            reading.inherit(leader)
            reading.look(odd, odd_counts)
