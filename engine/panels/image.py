"""A saved picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fovea.engine.panels.base import Panel, Reads, ReportPart, RunView
from fovea.engine.panels.data_uri import data_uri
from fovea.engine.panels.figure_parts import empty_figure, lay_below, set_picture_axes
from fovea.engine.panels.look import USUAL, Look

if TYPE_CHECKING:
    import plotly.graph_objects as go

REPORTED = 2048
"""The longer side of a picture in a report, in pixels."""


class ImagePanel(Panel):
    """The saved picture `image`."""

    kind: Literal["image"] = "image"
    image: str

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The picture, its pixels as axes."""
        picture = run.image(self.image)
        drawn = empty_figure(look, 560)
        lay_below(drawn, picture, picture.size)
        set_picture_axes(drawn, *picture.size)
        return drawn

    def report(self, run: RunView) -> ReportPart:
        """The picture itself, a small one up to three times as large; an animation still moves."""
        picture = run.image(self.image)
        width = max(picture.width, min(560, picture.width * 3))
        return ReportPart("image.html", data={"source": data_uri(picture, longest=REPORTED), "width": width})

    def reads(self) -> Reads:
        """The picture."""
        return Reads(images={self.image})
