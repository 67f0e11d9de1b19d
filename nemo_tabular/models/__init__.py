"""The models, built from the engine's transformer block."""
