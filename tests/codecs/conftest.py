"""An Arrow array and codec options enter; the codec that the package fits to them leaves."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from nemo_tabular.codecs import Codec, fit_codec
from nemo_tabular.profile import ColumnProfile, profile
from nemo_tabular.schema import Column

KINDS = {"category": "category", "values": "float", "digits": "float", "calendar": "date", "epoch": "date"}


def profile_of(values: pa.Array, name: str = "x", **limits: int) -> ColumnProfile:
    """The profile of a table of one column."""
    return profile([pa.RecordBatch.from_arrays([values], [name])], **limits).columns[name]


def fit(values: pa.Array, codec: str, *, nullable: bool | None = None, **options: Any) -> Codec:
    """Fit `codec` to these values as if they were a whole table's column."""
    kind = values.type.value_type if isinstance(values, pa.DictionaryArray) else values.type
    column = Column(
        name="x",
        kind=options.pop("kind", KINDS.get(codec, "text")),
        type=options.pop("type", str(kind)),
        codec=codec,
        nullable=values.null_count > 0 if nullable is None else nullable,
        options=options,
    )
    return fit_codec(column, profile_of(values))
