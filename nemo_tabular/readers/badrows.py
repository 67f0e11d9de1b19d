"""The rows that could not be read: counted, written to a quarantine file, and refused beyond a limit.

Enters (row number, reason, raw text); leaves a CSV of them, or a BadRowsError that names the first too many.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemo_tabular.errors import TabularError

MOST_SHOWN = 60  # characters of a value in a message


class BadRowsError(TabularError):
    """More rows of a table could not be read than the caller allowed."""


@dataclass(frozen=True, order=True)
class BadRow:
    """A row that could not be read. `number` counts the data rows from 1, bad ones included."""

    number: int
    reason: str
    text: str


class BadRows:
    """Counts the bad rows of one pass over a table; the quarantine file is begun anew by each pass."""

    def __init__(self, source: str, limit: int, quarantine: Path | None) -> None:
        self.source = source
        self.limit = limit
        self.count = 0
        self._path = quarantine
        self._begun = False

    @property
    def room(self) -> int:
        """How many more bad rows need to be found: those allowed and the one that is too many."""
        return self.limit - self.count + 1

    def add(self, rows: list[BadRow], before_raising: Callable[[], None] | None = None) -> None:
        """Quarantine the rows; raise BadRowsError when they are more than allowed.

        `before_raising` may raise a better explanation first (an unclosed quote makes many bad rows).
        """
        rows = sorted(rows)[: self.room]
        where = self._write(rows)
        self.count += len(rows)
        if self.count > self.limit:
            if before_raising is not None:
                before_raising()
            reason = rows[-1].reason
            raise BadRowsError(
                f"row {rows[-1].number:,} of {self.source}: "
                f"{reason}{'' if reason.endswith('?') else '.'}{where} "
                f"Allow more than {self.limit:,} bad rows with --max-bad-rows (max_bad_rows=)"
            )

    def _write(self, rows: list[BadRow]) -> str:
        """Append the rows to the quarantine file; the sentence that says where they are."""
        if self._path is None or not rows:
            return ""
        try:
            with open(self._path, "a" if self._begun else "w", newline="", encoding="utf-8") as f:
                out = csv.writer(f)
                if not self._begun:
                    out.writerow(["source", "row", "reason", "text"])
                out.writerows([self.source, r.number, r.reason, r.text] for r in rows)
        except OSError as e:
            return f" (The row could not be written to {self._path}: {e.strerror}.)"
        self._begun = True
        return f" The row is in {self._path}."


def shown(text: object) -> str:
    """A value for a message: quoted, and cut when it is long."""
    text = str(text)
    return repr(text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "...")
