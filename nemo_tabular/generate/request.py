"""What is wanted comes in: how many rows, from which seed, given what, how bold; a checked, frozen request
leaves. Nothing in it depends on the model, so one request can be put to several."""

import math
from collections.abc import Mapping, Sized
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ..errors import GenerationError

ORDERS = ("random", "fixed")


@dataclass(frozen=True)
class Sampling:
    """How a code is drawn from its slot's distribution; the defaults draw from the model as it is."""

    temperature: float = 1.0
    """Logits are divided by it: below 1 the likely becomes likelier."""
    top_k: int = 0
    """Draw among the k most probable codes of each slot; 0: among all."""
    top_p: float = 1.0
    """Draw among the fewest codes of each slot that hold this probability together; 1: among all."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise GenerationError(
                f"temperature is {self.temperature}, expected above 0; top_k=1 takes the most probable code"
            )
        if self.top_k < 0:
            raise GenerationError(f"top_k is {self.top_k}, expected 0 (all codes) or more")
        if not 0 < self.top_p <= 1:
            raise GenerationError(f"top_p is {self.top_p}, expected above 0 and at most 1 (all codes)")

    @property
    def plain(self) -> bool:
        """Whether codes are drawn from the model's own distribution."""
        return self == Sampling()


@dataclass(frozen=True)
class GenerationRequest:
    """`rows` rows, numbered from `first_row`; row i depends on (seed, i) and on what is asked of row i,
    only."""

    rows: int
    seed: int = 0
    first_row: int = 0
    """Number of the first row: a stopped generation of n rows goes on with first_row=n."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values of leading columns: one for all rows, or a sequence with one a row (begun again at the end)."""
    sampling: Sampling = field(default_factory=Sampling)
    order: str | None = None
    """For models that read in any order: a new order of the columns every few rows (random), or the model's
    own for all (fixed); None: what its training speaks for."""
    unseen: str | None = None
    """What a given value that training never saw is read as (nearest, other, ...); None: an error."""

    def __post_init__(self) -> None:
        for name in ("rows", "seed", "first_row"):
            _check_number(name, getattr(self, name), 0)
        if self.order not in (None, *ORDERS):
            raise GenerationError(f"order is {self.order!r}, expected one of {', '.join(ORDERS)}")
        _check_given(self.given)

    @property
    def count(self) -> int:
        """What is asked for: rows."""
        return self.rows

    part_sizes: ClassVar[tuple[int, int]] = (1 << 12, 1 << 17)
    """Fewest and most rows that are worth dealing out: rows made together share prefixes."""

    def part(self, start: int, count: int) -> "GenerationRequest":
        """Rows `start`, ..., `start + count - 1` of what is asked for."""
        return replace(self, rows=count, first_row=self.first_row + start)


@dataclass(frozen=True)
class HistoryRequest:
    """`documents` documents of many rows, numbered from `first_document`; document i depends on (seed, i) and
    on what is asked of document i, only."""

    documents: int
    seed: int = 0
    first_document: int = 0
    """Number of the first document: a stopped generation of n documents goes on with first_document=n."""
    max_rows: int | None = None
    """Rows after which a document that has not ended by itself is cut off; None: the longest in training."""
    sampling: Sampling = field(default_factory=Sampling)
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values that leading columns have in every row of a document: one for all documents, or a sequence with
    one a document (begun again at the end)."""
    history: Any = None
    """Histories to continue, as a frame or a file: document i goes on from the i-th (begun again at the
    end)."""
    unseen: str | None = None
    """What a given or known value that training never saw is read as; None: an error."""

    def __post_init__(self) -> None:
        _check_given(self.given)
        for name in ("documents", "seed", "first_document"):
            _check_number(name, getattr(self, name), 0)
        if self.max_rows is not None:
            _check_number("max_rows", self.max_rows, 1)

    @property
    def count(self) -> int:
        """What is asked for: documents."""
        return self.documents

    part_sizes: ClassVar[tuple[int, int]] = (1 << 6, 1 << 12)
    """Fewest and most documents that are worth dealing out: they are decoded side by side."""

    def part(self, start: int, count: int) -> "HistoryRequest":
        """Documents `start`, ..., `start + count - 1` of what is asked for."""
        return replace(self, documents=count, first_document=self.first_document + start)


def _check_given(given: Mapping[str, Any]) -> None:
    lengths = {name: len(values) for name, values in given.items() if is_sequence(values)}
    if len(set(lengths.values())) > 1:
        raise GenerationError(f"given columns differ in their number of values: {lengths}")
    if 0 in lengths.values():
        raise GenerationError(f"given: column {next(iter(lengths))!r} has no value")


def _check_number(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 63:
        raise GenerationError(f"{name} is {value!r}, expected a whole number of at least {least}")


def is_sequence(values: Any) -> bool:
    """Whether given values are one a row (list, array, Series, Arrow column) and not one for all."""
    return (
        isinstance(values, Sized) and hasattr(values, "__getitem__") and not isinstance(values, (str, bytes))
    )
