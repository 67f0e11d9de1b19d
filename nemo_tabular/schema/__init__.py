"""What a table's columns hold: the Schema, and its inference from a whole table.

Enters a table or a YAML file; leaves a Schema.
"""

from nemo_tabular.schema.column import CODECS, KINDS, Column, Schema, refuse_duplicates
from nemo_tabular.schema.following import following
from nemo_tabular.schema.infer import infer_schema
from nemo_tabular.schema.types import arrow_type, plain_type

__all__ = [
    "CODECS",
    "KINDS",
    "Column",
    "Schema",
    "arrow_type",
    "following",
    "infer_schema",
    "plain_type",
    "refuse_duplicates",
]
