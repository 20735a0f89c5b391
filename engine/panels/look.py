"""How figures look: the choices that one figure leaves open, and the two themes with their inks and colours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from fovea.engine.errors import OptionsError

if TYPE_CHECKING:
    import plotly.graph_objects as go

Theme = Literal["light", "dark"]
Scale = Literal["sequential", "diverging"]
"""Whether a map's colours run from its smallest value to its largest, or to either side of zero."""

SEQUENTIAL = ("inferno", "viridis", "cividis", "magma", "plasma", "gray")
DIVERGING = ("balance", "RdBu_r", "PuOr_r", "BrBG_r")
"""Colour scales by Plotly's names, the default first: perceptually uniform, and safe for the colour-blind."""

LINES = {
    "light": ("#0072b2", "#d55e00", "#009e73", "#a8558c", "#8a6d00", "#3f4b9a", "#56788a", "#000000"),
    "dark": ("#56b4e9", "#e69f00", "#2fbf94", "#dd92c1", "#f0e442", "#9aa7f0", "#a9bcc7", "#ffffff"),
}
"""Okabe and Ito's colours, which the colour-blind tell apart, darkened or lightened for each background."""

INK = {"light": "#221d16", "dark": "#ece6da"}
GRID = {"light": "rgba(60,50,30,0.14)", "dark": "rgba(240,230,210,0.16)"}
FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', sans-serif"


@dataclass(frozen=True)
class Look:
    """The choices of one figure.

    `height` in pixels (by default what suits the kind). `opacity` in [0, 1] of a map over its picture. `scale` and
    `colours` (one of SEQUENTIAL or DIVERGING) stand in place of the panel's own. `grey` takes the colours from the
    picture under a map. `channel`: that one of a `channels` panel alone, over its image. `colour`: the column that
    colours a scatter's points. Raises OptionsError on an unknown choice.
    """

    theme: Theme = "light"
    height: int | None = None
    opacity: float = 0.6
    scale: Scale | None = None
    colours: str = ""
    grey: bool = True
    channel: int | None = None
    colour: str = ""

    def __post_init__(self) -> None:
        if self.theme not in get_args(Theme):
            raise OptionsError(f"theme must be light or dark, not {self.theme!r}")
        if not 0 <= self.opacity <= 1:
            raise OptionsError(f"opacity must lie between 0 and 1, not {self.opacity}")
        if self.scale not in (None, *get_args(Scale)):
            raise OptionsError(f"scale must be sequential or diverging, not {self.scale!r}")
        if self.colours and self.colours not in SEQUENTIAL + DIVERGING:
            raise OptionsError(f"colours must be one of {', '.join(SEQUENTIAL + DIVERGING)}, not {self.colours!r}")


USUAL = Look()
"""The look where nothing was chosen."""


def template(theme: Theme) -> go.layout.Template:
    """What all figures of a theme share: no frame, thin grid, transparent ground, the theme's ink."""
    import plotly.graph_objects as go

    ink = INK[theme]
    axis = {"gridcolor": GRID[theme], "zerolinecolor": GRID[theme], "linecolor": GRID[theme], "automargin": True}
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": LINES[theme],
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "hoverlabel": {"font": {"family": FONT, "size": 13}, "align": "left"},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "title": {"text": ""}},
        }
    )
