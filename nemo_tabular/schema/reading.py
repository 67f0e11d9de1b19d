"""One way to read a column of text, and what every way has in common.

Enters distinct texts with their counts; leaves how many fit, the few that do not, and their range.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from nemo_tabular.profile import word_counts
from nemo_tabular.schema.column import Column
from nemo_tabular.schema.texts import bad_positions, parse_texts

MOST_ODD_WORDS = 64  # a reading that more texts than this do not fit is wrong
MOST_ODD_SHARE = 0.05
_PROBE = 4  # a reading that fits none of a few texts is not worth the search for those it does not fit


class Reading:
    """One way to read a column's texts. `odd` holds the texts that do not fit it, while they are few."""

    shape = ""
    """RE2 pattern that every text that fits matches."""

    def __init__(self, column: Column) -> None:
        self.column = column
        self.alive = True
        self.fitting = 0
        self.odd: dict[str, int] = {}
        self.low: Any = None
        self.high: Any = None

    @property
    def odd_rows(self) -> int:
        return sum(self.odd.values())

    def look(self, words: pa.Array, counts: np.ndarray) -> None:
        """Take in texts (no nulls) with their counts; dies when too many do not fit."""
        if not self.alive or not len(words):
            return
        probe = words.take(pa.array(np.linspace(0, len(words) - 1, min(_PROBE, len(words))).astype(np.int64)))
        if len(self.misfits(probe, _PROBE)) == len(probe):
            self.alive = False
            return
        bad = self.misfits(words, MOST_ODD_WORDS + 1 - len(self.odd))
        if bad and len(words) > MOST_ODD_WORDS and counts.max() == 1:
            words, counts = word_counts(words)  # one odd text may fill a batch
            bad = self.misfits(words, MOST_ODD_WORDS + 1 - len(self.odd))
        if bad:
            for word, n in zip(words.take(pa.array(bad)).to_pylist(), counts[bad].tolist(), strict=True):
                self.odd[word] = self.odd.get(word, 0) + n
            keep = np.ones(len(words), bool)
            keep[bad] = False
            words, counts = words.filter(pa.array(keep)), counts[keep]
        self.fitting += int(counts.sum())
        few = self.odd_rows <= max(10, MOST_ODD_SHARE * (self.fitting + self.odd_rows))
        self.alive = few and len(self.odd) <= MOST_ODD_WORDS
        if self.alive and len(words):
            self.note(words, counts)

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        """Positions of the words that do not fit, at most `most` of them."""
        try:
            self.parse(words)
            return []
        except pa.ArrowInvalid:
            # what does not even look right is found at once; only the rest is worth a search
            matched = matches(words, self.shape)
            unlike = np.flatnonzero(~matched)[:most].tolist()
            if len(unlike) == most:
                return unlike
            alike = np.flatnonzero(matched)
            bad = bad_positions(words.take(pa.array(alike)), self.parse, most - len(unlike))
            return sorted([*unlike, *alike[bad].tolist()])

    def parse(self, words: pa.Array) -> pa.Array:
        """The words as typed values; pa.ArrowInvalid if any does not fit. Blanks around them do not count."""
        return parse_texts(words, self.column)

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        """Keep figures of the words, all of which fit."""
        self._widen(self.parse(words))

    def _widen(self, values: pa.Array) -> None:
        ends = pc.min_max(values).as_py()
        if ends["min"] is not None and ends["min"] == ends["min"]:
            self.low = ends["min"] if self.low is None else min(self.low, ends["min"])
            self.high = ends["max"] if self.high is None else max(self.high, ends["max"])


class BooleanReading(Reading):
    """true/false in one of the usual cases; `style` is how the first one is written."""

    def __init__(self) -> None:
        super().__init__(Column("", "boolean", "bool", "category"))
        self.styles: set[str] = set()

    def misfits(self, words: pa.Array, most: int) -> list[int]:
        fits = pc.is_in(pc.utf8_lower(pc.utf8_trim_whitespace(words)), pa.array(["false", "true"]))
        return np.flatnonzero(~np.asarray(fits.to_numpy(zero_copy_only=False)))[:most].tolist()

    def note(self, words: pa.Array, counts: np.ndarray) -> None:
        for word in words.to_pylist():
            style = next((s for s in (str.lower, str.title, str.upper) if s(word) == word), str.lower)
            self.styles.add("/".join(style(t) for t in ("false", "true")))


def matches(words: pa.Array, pattern: str) -> np.ndarray:
    return pc.match_substring_regex(words, pattern).to_numpy(zero_copy_only=False)
