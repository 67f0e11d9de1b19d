"""What the texts of a column can be read as, gathered from the whole table batch by batch.

Enters dictionary-encoded batches of text; leaves the readings that fit (integer, float, date, ...), each with
the few texts that did not fit it and the row of the first of them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile import word_counts
from nemo_tabular.schema.dateformats import instants
from nemo_tabular.schema.readings import Reading, readings_of

MISSING_WORDS = (
    "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "NAN", "null", "NULL", "None", "none", "NaT", "?", "-", ".",
)  # fmt: skip
MOST_BYTES = 16 << 20
"""Distinct texts are given up beyond this many bytes, so that a column of essays needs no more memory."""


class TextEvidence:
    """Distinct texts while they are few; from then on only the readings that still fit."""

    def __init__(self, name: str, cap: int, missing_words: tuple[str, ...] = MISSING_WORDS) -> None:
        self.name = name
        self.rows = self.empty = self.max_bytes = 0
        self.overflown = False
        self.distinct_at_overflow = self.new_after_overflow = 0
        self.missing_words: dict[str, int] = {}
        self._known_missing = missing_words
        self._cap = cap
        self._bytes = 0
        self.counts: dict[str, int] = {}
        self.first_rows: dict[str, int] = {}
        self._frozen: pa.Array | None = None
        self._readings: list[Reading] = []

    def update(self, values: pa.Array) -> None:
        """Take in a batch of one column: dictionary<int32, string> or string, nulls for empty fields."""
        start = self.rows
        self.rows += len(values)
        self.empty += values.null_count
        if not pa.types.is_dictionary(values.type):
            values = values.dictionary_encode()
        words, counts = word_counts(values)
        if not len(words):
            return
        self.max_bytes = max(self.max_bytes, pc.max(pc.binary_length(words)).as_py())
        if self.overflown:
            self._stream(words, counts, values, start)
        else:
            self._collect(words, counts, values, start)

    def readings(self) -> list[Reading]:
        """Every reading that at most a few texts do not fit, those without any such text first."""
        if not self.overflown and not self._readings:
            self._begin_readings()
        alive = [r for r in self._readings if r.alive and r.fitting]
        return sorted(alive, key=lambda r: r.odd_rows > 0)

    def first_misfit(self, format: str) -> tuple[int, str] | None:
        """(row, text) of the first text that a date format does not fit, if texts are still known."""
        words = list(self.counts)
        _, ok = instants(pc.utf8_trim_whitespace(pa.array(words, pa.string())), format)
        misfits = [(self.first_rows[w], w) for w, fits in zip(words, ok.tolist(), strict=True) if not fits]
        return min((m for m in misfits if m[1] not in self.missing_words), default=None)

    @property
    def distinct(self) -> int:
        """Distinct texts; a lower bound once there are more than the cap."""
        return len(self.counts) if not self.overflown else self.distinct_at_overflow

    @property
    def share_distinct(self) -> float:
        """Distinct texts per row that has one; beyond the cap an upper bound (new texts are told batch by batch)."""
        seen = self.distinct + self.new_after_overflow
        return min(1.0, seen / max(1, self.rows - self.empty))

    def _collect(self, words: pa.Array, counts: np.ndarray, values: pa.Array, start: int) -> None:
        new = []
        for word, n in zip(words.to_pylist(), counts.tolist(), strict=True):
            if word not in self.counts:
                new.append(word)
            self.counts[word] = self.counts.get(word, 0) + n
        if new:
            self._bytes += sum(map(len, new))
            self.first_rows.update(
                zip(new, first_rows(values, pa.array(new, pa.string()), start), strict=True)
            )
        if len(self.counts) > self._cap or self._bytes > MOST_BYTES:
            self._begin_readings()
            self._frozen = pa.array(self.counts, pa.string())
            self.overflown = True
            self.distinct_at_overflow = len(self.counts)
            self.counts, self.first_rows = {}, {}

    def _begin_readings(self) -> None:
        words = pa.array(self.counts, pa.string())
        counts = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        words, counts = self._without_missing(words, counts)
        self._readings = readings_of(words)
        for reading in self._readings:
            reading.look(words, counts, lambda odd: [self.first_rows[w] for w in odd.to_pylist()])

    def _stream(self, words: pa.Array, counts: np.ndarray, values: pa.Array, start: int) -> None:
        alive = [r for r in self._readings if r.alive]
        if any(r.fitting for r in alive):
            words, counts = self._without_missing(words, counts)
            for reading in alive:
                reading.look(words, counts, lambda odd: first_rows(values, odd, start))
        if not any(r.alive and r.fitting for r in self._readings):
            known = np.asarray(pc.is_in(words, self._frozen).to_numpy(zero_copy_only=False))
            self.new_after_overflow += int((~known).sum())

    def _without_missing(self, words: pa.Array, counts: np.ndarray) -> tuple[pa.Array, np.ndarray]:
        """Sets aside the words that mean missing in a column of numbers or dates, and the empty text."""
        found = np.asarray(
            pc.is_in(words, pa.array(["", *self._known_missing])).to_numpy(zero_copy_only=False)
        )
        if not found.any():
            return words, counts
        for word, n in zip(words.filter(pa.array(found)).to_pylist(), counts[found].tolist(), strict=True):
            self.missing_words[word] = self.missing_words.get(word, 0) + n
        return words.filter(pa.array(~found)), counts[~found]


def first_rows(values: pa.Array, words: pa.Array, start: int) -> list[int]:
    """The row (from 1, `start` rows before this batch) in which each of the words first occurs."""
    places = pc.index_in(values.dictionary, words)  # word number of each dictionary entry
    wanted = np.asarray(pc.fill_null(places, -1).to_numpy(zero_copy_only=False))
    indices = np.asarray(pc.fill_null(values.indices, -1).to_numpy(zero_copy_only=False))
    first = np.full(len(values.dictionary) + 1, -1, np.int64)  # the last entry takes the nulls
    first[indices[::-1]] = np.arange(len(indices))[::-1]
    out = np.zeros(len(words), np.int64)
    hit = np.flatnonzero(wanted >= 0)
    out[wanted[hit]] = start + first[hit] + 1
    return out.tolist()
