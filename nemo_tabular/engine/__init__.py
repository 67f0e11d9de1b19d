"""megatron-core and nothing else: what the rest of the package needs of it, on CPU and on CUDA. Knows nothing
of tables.

Import order matters once: `engine.cpu` must be able to act before the first import of `megatron.core`.
"""
