"""Rows of a table as points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fovea.engine.panels.base import Reads, ReportPart, RunView, SheetView
from fovea.engine.panels.data_uri import data_uri
from fovea.engine.panels.figure_parts import empty_figure
from fovea.engine.panels.look import LINES, USUAL, Look
from fovea.engine.panels.words import captions, for_plotly, shortened

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

SYMBOLS = ("circle", "diamond", "cross")
"""Marks that take turns when there are more labels than colours."""

LEGEND = 12
"""With more marks than this there is no legend: what is pointed at tells its name."""

POINTS = 20_000
"""At most so many points are drawn."""

REPORTED = 3072
"""The longest side of the sheet of thumbnails in a report, in pixels."""


class ScatterPanel(SheetView):
    """Points of `table` at `x`, `y[0]`, coloured by `caption[0]` and named by the other captions.

    With a sheet `image` of `tile`, `columns`, each shows the tile of its column `tile` when it is pointed at.
    """

    small: ClassVar[bool] = True
    kind: Literal["scatter"] = "scatter"
    x: str
    y: tuple[str, ...]
    caption: tuple[str, ...] = ()

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The points, a trace for each colour. `customdata` of each is [row of the table, tile], -1 for no tile."""
        import plotly.graph_objects as go

        table = self.rows(run)
        if len(table) > POINTS:
            table = table.iloc[np.linspace(0, len(table) - 1, POINTS).astype(int)]
        drawn = empty_figure(look, 560)
        colour = look.colour or (self.caption[0] if self.caption else "")
        size = 7 if len(table) < 2000 else 5
        tiles = table["tile"].to_numpy() if "tile" in table else np.full(len(table), -1)
        tile_of = dict(zip(table.index, tiles, strict=True))
        for name, part, style in _coloured(table, colour, look):
            drawn.add_trace(
                go.Scatter(
                    x=part[self.x].tolist(),
                    y=part[self.y[0]].tolist(),
                    mode="markers",
                    name=shortened(name),
                    marker={"size": size, "opacity": 0.85, **style},
                    text=captions(part, self.caption),
                    customdata=[[int(index), int(tile_of[index])] for index in part.index],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
        drawn.update_layout(showlegend=1 < len(drawn.data) <= LEGEND, clickmode="event+select")
        for update in (drawn.update_xaxes, drawn.update_yaxes):
            # On a map of pictures only nearness means something.
            update(showticklabels=not self.image, zeroline=False, ticks="")
        drawn.update_xaxes(title_text="" if self.image else for_plotly(self.x))
        drawn.update_yaxes(title_text="" if self.image else for_plotly(self.y[0]))
        return drawn

    def report(self, run: RunView) -> ReportPart:
        """The figure, and the sheet of thumbnails for what is pointed at."""
        figure = self.figure(run)
        if not self.image:
            return ReportPart("chart.html", figure=figure)
        picture = run.image(self.image)
        peek = {
            "sheet": data_uri(picture, longest=REPORTED, lossy=True),
            "columns": self.sheet(picture.width).columns,
            "rows": self.sheet_rows(picture.size),
        }
        return ReportPart("chart.html", figure=figure, script={"peek": peek})

    def reads(self) -> Reads:
        """The table with the columns of places and captions, and the sheet."""
        return super().reads() | Reads(tables={self.table: {self.x, *self.y, *self.caption}})


def _coloured(table: pd.DataFrame, column: str, look: Look) -> list[tuple[str, pd.DataFrame, dict[str, Any]]]:
    """The points by colour: one trace on a scale for numbers, one a label for the most common, the rest in grey."""
    if not column:
        return [("", table, {})]
    values = table[column]
    if values.dtype.kind in "fi" and values.nunique() > 12:
        bar = {"title": {"text": for_plotly(column)}, "thickness": 10, "outlinewidth": 0}
        return [("", table, {"color": values.tolist(), "colorscale": "viridis", "colorbar": bar, "showscale": True})]
    labels = values.astype(str)
    colours = LINES[look.theme]
    common = labels[labels != ""].value_counts().index[: len(SYMBOLS) * (len(colours) - 1)].tolist()
    parts = []
    rest = table[~labels.isin(common)]
    if len(rest):
        parts.append(("others", rest, {"color": "#9a958a", "opacity": 0.5}))
    for place, label in enumerate(common):
        symbol, tint = divmod(place, len(colours) - 1)
        parts.append((label, table[labels == label], {"color": colours[tint], "symbol": SYMBOLS[symbol]}))
    return parts
