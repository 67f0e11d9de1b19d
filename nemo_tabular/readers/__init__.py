"""Tables in, tables out: CSV, Parquet, Arrow and frames as streams of record batches.

Enters a path or a table in memory; leaves typed record batches, a written file, or a spool of batches.
"""

from nemo_tabular.readers.badrows import BadRow, BadRowsError
from nemo_tabular.readers.spool import Spool
from nemo_tabular.readers.table import TableReader, open_table
from nemo_tabular.readers.writers import TableWriter, WriteError, write_table

__all__ = [
    "BadRow",
    "BadRowsError",
    "Spool",
    "TableReader",
    "TableWriter",
    "WriteError",
    "open_table",
    "write_table",
]
