"""Columns of a table as lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from fovea.engine.panels.base import Reads, RunView, TableView
from fovea.engine.panels.figure_parts import empty_figure
from fovea.engine.panels.look import LINES, USUAL, Look
from fovea.engine.panels.words import for_plotly

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


class CurvePanel(TableView):
    """Columns `y` of `table` against column `x`; `log` for a logarithmic y axis.

    The columns `low` and `high`, one for each of `y`, are drawn as a band about it, e.g. a confidence interval.
    `units` stands at the y axis.
    """

    small: ClassVar[bool] = True
    kind: Literal["curve"] = "curve"
    x: str
    y: tuple[str, ...]
    low: tuple[str, ...] = ()
    high: tuple[str, ...] = ()
    log: bool = False
    units: str = ""

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """A line for each column, its band behind it; an axis is logarithmic only where all values are positive."""
        import plotly.graph_objects as go

        table = self.rows(run)
        drawn = empty_figure(look, 320)
        lines = LINES[look.theme]
        for place, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            _add_band(drawn, table, (self.x, low, high), lines[place % len(lines)])
        for place, column in enumerate(self.y):
            drawn.add_trace(
                go.Scatter(
                    x=table[self.x].tolist(),
                    y=_finite(table[column]),
                    mode="lines" if len(table) > 1 else "markers",
                    name=for_plotly(column),
                    line={"width": 2, "color": lines[place % len(lines)]},
                    hovertemplate="%{y:.4g}",
                )
            )
        drawn.update_layout(hovermode="x unified", showlegend=len(self.y) > 1)
        drawn.update_xaxes(title_text=for_plotly(self.x), showgrid=False)
        if table[self.x].dtype.kind not in "iufb":
            _name_few(drawn, [str(name) for name in table[self.x]])
        title = self.units or (self.y[0] if len(self.y) == 1 else "")
        positive = all((table[column].dropna() > 0).all() for column in self.y)
        drawn.update_yaxes(title_text=for_plotly(title), type="log" if self.log and positive else "linear")
        return drawn

    def reads(self) -> Reads:
        """The table with the columns of lines and bands."""
        return super().reads() | Reads(tables={self.table: {self.x, *self.y, *self.low, *self.high}})


def _name_few(drawn: go.Figure, names: list[str], most: int = 12, longest: int = 18) -> None:
    """Some of many names along the x axis, each by its end; hover tells all of them whole."""
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int)).tolist()
    ends = [names[n] if len(names[n]) <= longest else f"…{names[n][1 - longest :]}" for n in places]
    drawn.update_xaxes(
        type="category", tickvals=[names[n] for n in places], ticktext=[for_plotly(end) for end in ends], tickangle=-30
    )


def _add_band(drawn: go.Figure, table: pd.DataFrame, columns: tuple[str, str, str], colour: str) -> None:
    """The area between two columns, behind the lines."""
    import plotly.graph_objects as go

    x, low, high = columns
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    drawn.add_trace(
        go.Scatter(
            x=table[x].tolist() + table[x].tolist()[::-1],
            y=_finite(table[high]) + _finite(table[low])[::-1],
            mode="lines",
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.16)",
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _finite(column: pd.Series[Any]) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in column.astype(float)]
