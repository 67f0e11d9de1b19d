"""A pickle and the names that it may contain enter; what those names stand for leaves, and no code of the
pickle's choice runs. The only place that imports pickle.
"""

import io
import pickle
from collections.abc import Callable, Mapping
from typing import Any

from .errors import TabularError


class Unadmitted(TabularError):
    """A pickle names something that nobody expects there."""


class RestrictedUnpickler(pickle.Unpickler):
    """Reads pickles whose names are all in `admitted`: full names, and what each becomes."""

    def __init__(self, data: bytes, admitted: Mapping[str, Any]) -> None:
        super().__init__(io.BytesIO(data))
        self.admitted = admitted

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """What `module.name` stands for here. Raises Unadmitted naming it where it is not admitted."""
        full = f"{module}.{name}"
        if full not in self.admitted:
            raise Unadmitted(f"the pickle names {full}, which is not admitted")
        return self.admitted[full]


def unpickled(data: bytes, admitted: Mapping[str, Any]) -> Any:
    """What the pickle holds. Raises Unadmitted, and whatever a broken pickle comes to."""
    return RestrictedUnpickler(data, admitted).load()
