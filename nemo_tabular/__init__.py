"""Generative transformers for tables, on megatron-core, from a laptop to a cluster."""

__version__ = "0.1.0"
