"""Column types of the CGM: cells of one column enter, and vectors, losses and new cells leave; one file a
type."""

from .base import FEATURES, Feature, build_feature, find_feature
from .draw import Draw, Sampling

__all__ = ["FEATURES", "Draw", "Feature", "Sampling", "build_feature", "find_feature"]
