"""The maps of a layer, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError
from fovea.engine.panels.base import Panel, Reads, RunView
from fovea.engine.panels.cells import Cells
from fovea.engine.panels.colour_scale import ColourScale
from fovea.engine.panels.data_uri import LONGEST
from fovea.engine.panels.figure_parts import empty_figure, lay_below, map_trace, set_picture_axes
from fovea.engine.panels.look import LINES, USUAL, Look, Scale
from fovea.engine.panels.sheet import Sheet, map_tiles, square_columns

if TYPE_CHECKING:
    import plotly.graph_objects as go


class ChannelsPanel(Panel):
    """`array` (C, h, w) as one picture of C tiles, in the order of the column `unit` of `table` if there is one.

    A click shows one of them over `image`, each value at its place in `cells` if these are given.
    """

    kind: Literal["channels"] = "channels"
    array: str
    table: str = ""
    image: str = ""
    scale: Scale = "sequential"
    units: str = ""
    cells: Cells | None = None

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """All channels, or the one that `look` chose. `customdata` of a tile is [channel, largest value]."""
        maps = run.array(self.array)
        if maps.ndim != 3:
            raise OptionsError(f"array {self.array} has shape {maps.shape}, expected (channels, rows, columns)")
        colours = ColourScale.of(look, self.scale)
        if look.channel is None:
            order = run.table(self.table)["unit"].to_numpy() if self.table else np.arange(len(maps))
            return _all_channels(maps, order, colours, look)
        if not 0 <= look.channel < len(maps):
            raise OptionsError(f"no channel {look.channel}: the layer has channels 0 to {len(maps) - 1}")
        return self._one_channel(maps[look.channel], run, colours, look)

    def _one_channel(self, values: NDArray[Any], run: RunView, colours: ColourScale, look: Look) -> go.Figure:
        drawn = empty_figure(look, 460)
        height, width = values.shape
        if self.image:
            picture = run.image(self.image)
            width, height = picture.size
            lay_below(drawn, picture, picture.size, colours.brightness if look.grey else 0)
        trace = map_trace(values, (width, height), colours, self.units, look.opacity if self.image else None)
        if self.cells is not None and self.image and max(values.shape) <= LONGEST:
            self.cells.put(trace, run)
        drawn.add_trace(trace)
        set_picture_axes(drawn, width, height)
        return drawn

    def reads(self) -> Reads:
        """The maps, the order of their units, the picture, and where the values of a map lie."""
        tables = {self.table: {"unit"}} if self.table else {}
        own = Reads({self.array}, tables, {self.image} if self.image else set())
        return own | self.cells.reads() if self.cells is not None else own


def _all_channels(maps: NDArray[Any], order: NDArray[np.integer[Any]], colours: ColourScale, look: Look) -> go.Figure:
    import plotly.graph_objects as go

    pixels, sheet = channel_sheet(maps[order], colours)
    drawn = empty_figure(look, 640)
    lay_below(drawn, pixels, (pixels.shape[1], pixels.shape[0]))
    down, across = sheet.middles(np.arange(len(order)))
    largest = maps[order].reshape(len(order), -1).max(axis=1)
    drawn.add_trace(
        go.Scatter(
            x=across.tolist(),
            y=down.tolist(),
            mode="markers",
            marker={"size": 16, "symbol": "square-open", "opacity": 0, "color": LINES["dark"][1], "line": {"width": 3}},
            selected={"marker": {"opacity": 1}},
            unselected={"marker": {"opacity": 0}},
            customdata=[[int(channel), float(value)] for channel, value in zip(order, largest, strict=True)],
            hovertemplate="channel <b>%{customdata[0]}</b><br>largest %{customdata[1]:.4g}<extra></extra>",
            name="channels",
            showlegend=False,
        )
    )
    drawn.update_layout(hoverdistance=-1, clickmode="event+select")
    set_picture_axes(drawn, pixels.shape[1], pixels.shape[0])
    return drawn


def channel_sheet(maps: NDArray[Any], colours: ColourScale) -> tuple[NDArray[np.uint8], Sheet]:
    """Maps (C, h, w) as one picture uint8 (H, W, 3) of tiles, each coloured by its own values. Second: how they lie."""
    columns = square_columns(len(maps))
    sheet = Sheet(max(8, min(96, LONGEST // columns - 2)), columns, gap=2)
    levels = map_tiles(maps, sheet.tile, colours.scale)
    colour_of = np.rint(colours.sampled(np.linspace(0, 1, 256))).astype(np.uint8)
    return sheet.compose(colour_of[levels]), sheet
