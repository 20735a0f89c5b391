"""A map over a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fovea.engine.panels.base import Panel, Reads, ReportPart, RunView
from fovea.engine.panels.cells import Cells
from fovea.engine.panels.colour_scale import ColourScale
from fovea.engine.panels.figure_parts import empty_figure, lay_below, map_trace, set_picture_axes, two_axes
from fovea.engine.panels.look import USUAL, Look, Scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


class OverlayPanel(Panel):
    """`array` (H, W) over the picture `image` ("photo" is the network's input frame), with optional clickable `cells`.

    `scale`: "sequential" from the smallest value, "diverging" about zero. `units` stands at the colour bar.
    """

    kind: Literal["overlay"] = "overlay"
    array: str
    image: str = ""
    scale: Scale = "sequential"
    units: str = ""
    cells: Cells | None = None

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The map, half transparent, over the grey picture; a click finds the nearest cell."""
        picture = run.image(self.image or "photo")
        values = two_axes(run.array(self.array), self.array)
        colours = ColourScale.of(look, self.scale)
        drawn = empty_figure(look, 560)
        lay_below(drawn, picture, picture.size, colours.brightness if look.grey else 0)
        drawn.add_trace(map_trace(values, picture.size, colours, self.units, look.opacity))
        if self.cells is not None:
            drawn.data[0].update(hoverinfo="skip", hovertemplate=None)
            drawn.add_trace(self.cells.trace(run))
            # Whatever place is clicked, the cell with the nearest centre is meant.
            drawn.update_layout(hoverdistance=-1, clickmode="event+select")
        set_picture_axes(drawn, *picture.size)
        return drawn

    def report(self, run: RunView) -> ReportPart:
        """The figure with a slider for the map's opacity, and what a click on a cell shows."""
        figure = self.figure(run)
        answers = {"cells": self.cells.answers(run)} if self.cells is not None and self.cells.cover else {}
        data = {"opacity": True, "answers": bool(answers)}
        return ReportPart("chart.html", data=data, figure=figure, script=answers)

    def reads(self) -> Reads:
        """The map, the picture, and what its cells read."""
        own = Reads({self.array}, images={self.image or "photo"})
        return own | self.cells.reads() if self.cells is not None else own
