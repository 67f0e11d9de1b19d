"""Enter: the size of a page.
Leave: a canvas measured in inches, and the colours and type of all pictures.

Panels are placed in inches, not by an automatic layout: the names of categories need room that a histogram
does not, and a page of sixty panels is drawn in seconds.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nemo_tabular.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Page

# Okabe and Ito's blue and vermilion, which every kind of colour blindness keeps apart. Real is the ground,
# synthetic the line over it: a good match looks like an outline, a bad one like two shapes.
REAL, REAL_FILL, SYNTHETIC, SYNTHETIC_FILL = "#0072B2", "#A9CCE3", "#D55E00", "#E8A06A"
INK, FAINT = "#222222", "#8A8A8A"
PAGE, MARGIN, GAP = 15.0, 0.45, 0.3
STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.parse_math": False,  # a $ in a name is a dollar
    "axes.edgecolor": "#BBBBBB",
    "axes.linewidth": 0.8,
    "xtick.color": "#555555",
    "ytick.color": INK,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "text.color": INK,
}


@dataclass(frozen=True)
class Canvas:
    """A page measured in inches from its top left corner."""

    page: Page
    width: float
    height: float

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.page.add_axes(
            (left / self.width, bottom / self.height, width / self.width, height / self.height)
        )

    def text(self, left: float, top: float, text: str, **options: Any) -> None:
        self.page.text(left / self.width, 1 - top / self.height, text, va="top", **options)


@contextmanager
def styled() -> Iterator[None]:
    """Our type and colours; silence about scripts that the font lacks; ConfigError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise ConfigError("pictures need matplotlib: pip install 'nemo-tabular[evaluate]'") from None
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        yield


def new_canvas(width: float, height: float) -> Canvas:
    """An empty white page that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Page

    page = Page(figsize=(width, height), facecolor="white")
    FigureCanvasAgg(page)
    return Canvas(page, width, height)


def shortened(name: str, length: int = 17) -> str:
    """One line of at most `length` characters."""
    name = " ".join(str(name).split())
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"
