"""Generative transformers for tables, on megatron-core, from a laptop to a cluster."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Synthesizer", "__version__"]

if TYPE_CHECKING:
    from .synthesizer import Synthesizer


def __getattr__(name: str) -> Any:
    """`Synthesizer` is imported when first asked for: `nemo-tabular --help` need not wait for torch."""
    if name == "Synthesizer":
        from .synthesizer import Synthesizer

        return Synthesizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
