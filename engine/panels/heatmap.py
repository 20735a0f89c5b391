"""A map by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fovea.engine.panels.base import Panel, Reads, RunView
from fovea.engine.panels.colour_scale import ColourScale
from fovea.engine.panels.figure_parts import empty_figure, map_trace, set_picture_axes, two_axes
from fovea.engine.panels.look import USUAL, Look, Scale

if TYPE_CHECKING:
    import plotly.graph_objects as go


class HeatmapPanel(Panel):
    """`array` (rows, columns) by itself; `scale` and `units` as for an overlay."""

    small: ClassVar[bool] = True
    kind: Literal["heatmap"] = "heatmap"
    array: str
    scale: Scale = "sequential"
    units: str = ""

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The map with a square for each value; a wide one is less high."""
        values = two_axes(run.array(self.array), self.array)
        rows, columns = values.shape
        drawn = empty_figure(look, round(min(460, max(180, 700 * rows / columns + 90))))
        drawn.add_trace(map_trace(values, (columns, rows), ColourScale.of(look, self.scale), self.units))
        set_picture_axes(drawn, columns, rows)
        return drawn

    def reads(self) -> Reads:
        """The map."""
        return Reads({self.array})
