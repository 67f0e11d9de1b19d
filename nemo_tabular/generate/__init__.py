"""Decoding: a trained model's weights and a request become rows."""
