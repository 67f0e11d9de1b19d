"""Tables in, tables out: CSV, Parquet, Arrow and frames as streams of record batches.

Enters a path or a table in memory; leaves typed record batches, a written file, or a spool of batches.
"""

from nemo_tabular.readers.badrows import BadRow, BadRowsError
from nemo_tabular.readers.table import TableReader, open_table

__all__ = ["BadRow", "BadRowsError", "TableReader", "open_table"]
