"""A recipe and a number of GPUs enter; what the run would need of memory and time leaves, without a GPU.

Plain arithmetic on sizes: neither torch nor Megatron is imported, and the tests hold it against both.
"""

from .estimate import Cluster, Estimate, estimate, one_model
from .report import as_json, as_text
from .search import fitting
from .workload import Workload, assumed, of_store

__all__ = [
    "Cluster",
    "Estimate",
    "Workload",
    "as_json",
    "as_text",
    "assumed",
    "estimate",
    "fitting",
    "of_store",
    "one_model",
]
