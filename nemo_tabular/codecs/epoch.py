"""Dates, times and timestamps enter; the digits of the integer that Arrow stores leave: no calendar.

Everything is digits.py's; only the name differs, so that a schema says which reading of time it means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from nemo_tabular.codecs.digits import DigitsCodec


@dataclass(frozen=True, eq=False, kw_only=True)
class EpochCodec(DigitsCodec):
    """Instants on the lattice of their own resolution (whole seconds stay whole seconds), in cells."""

    codec: ClassVar[str] = "epoch"
