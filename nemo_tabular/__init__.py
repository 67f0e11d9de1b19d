"""Generative transformers for tables, on megatron-core, from a laptop to a cluster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import Config, load_config
    from .readers import open_table
    from .schema import Column, Schema, infer_schema
    from .store import TokenStore, prepare
    from .synthesizer import Synthesizer
    from .tokenizer import TableTokenizer

__version__ = "0.1.0"
__all__ = [
    "Column",
    "Config",
    "Schema",
    "Synthesizer",
    "TableTokenizer",
    "TokenStore",
    "__version__",
    "infer_schema",
    "load_config",
    "open_table",
    "prepare",
]
_HOMES = {
    "synthesizer": ("Synthesizer",),
    "schema": ("Column", "Schema", "infer_schema"),
    "readers": ("open_table",),
    "tokenizer": ("TableTokenizer",),
    "store": ("TokenStore", "prepare"),
    "config": ("Config", "load_config"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """What is public is imported when first asked for: `nemo-tabular --help` need not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOME[name]}", __name__), name)
