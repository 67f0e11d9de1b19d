"""What a whole table holds, column by column, in one streaming pass with bounded memory.

Enters typed record batches; leaves counts, ranges, exact distinct values while there are few, and a uniform
sample of rows. The result does not depend on how the rows were split into batches.
"""

from nemo_tabular.profile.distinct import WordCounter, word_counts
from nemo_tabular.profile.nested import flattened, is_array, nested
from nemo_tabular.profile.sample import RowSample, splitmix64
from nemo_tabular.profile.stats import CellStats, ColumnStats, least_decimals, stats_of
from nemo_tabular.profile.table import ColumnProfile, TableProfile, profile

__all__ = [
    "CellStats",
    "ColumnProfile",
    "ColumnStats",
    "RowSample",
    "TableProfile",
    "WordCounter",
    "flattened",
    "is_array",
    "least_decimals",
    "nested",
    "profile",
    "splitmix64",
    "stats_of",
    "word_counts",
]
