"""A table as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from fovea.engine.panels.base import ReportPart, RunView, TableView
from fovea.engine.panels.figure_parts import empty_figure
from fovea.engine.panels.look import GRID, INK, USUAL, Look
from fovea.engine.panels.words import for_plotly, words

if TYPE_CHECKING:
    import plotly.graph_objects as go

DRAWN = 200
REPORTED = 300
"""So many rows are drawn in a figure, and told in a report."""


class TablePanel(TableView):
    """`table` as it is."""

    small: ClassVar[bool] = True
    kind: Literal["table"] = "table"

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """The first rows as a table of text."""
        import plotly.graph_objects as go

        table = self.rows(run).head(DRAWN)
        edge = GRID[look.theme]
        shared = {"align": "left", "font": {"color": INK[look.theme]}, "line": {"color": edge}}
        columns = [[for_plotly(words(value)) for value in table[column]] for column in table]
        names = [f"<b>{for_plotly(str(column))}</b>" for column in table]
        drawn = empty_figure(look, min(640, 60 + 26 * len(table)))
        drawn.add_trace(
            go.Table(
                header={"values": names, "fill": {"color": edge}, **shared},
                cells={"values": columns, "height": 26, "fill": {"color": "rgba(0,0,0,0)"}, **shared},
            )
        )
        return drawn

    def report(self, run: RunView) -> ReportPart:
        """The first rows as a table of HTML."""
        table = self.rows(run)
        data = {
            "columns": [str(column) for column in table],
            "rows": [[words(value) for value in row] for row in table.head(REPORTED).itertuples(index=False)],
            "left_out": max(0, len(table) - REPORTED),
        }
        return ReportPart("table.html", data=data)
