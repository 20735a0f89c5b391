"""One column of a table as labelled bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.panels.base import Reads, RunView, TableView
from fovea.engine.panels.figure_parts import empty_figure
from fovea.engine.panels.look import USUAL, Look
from fovea.engine.panels.words import for_plotly, shortened

if TYPE_CHECKING:
    import plotly.graph_objects as go

SHARES = ("probability", "share")
"""Columns and units of these names are shown in percent."""


class BarsPanel(TableView):
    """Column `y[0]` of `table` by label column `x`; `units` stands at the axis."""

    small: ClassVar[bool] = True
    kind: Literal["bars"] = "bars"
    x: str
    y: tuple[str, ...]
    units: str = ""

    def figure(self, run: RunView, look: Look = USUAL) -> go.Figure:
        """A bar for each row, in the table's order from the top, its number behind it."""
        import plotly.graph_objects as go

        table = self.rows(run)
        values = table[self.y[0]].astype(float)
        share = self.y[0] in SHARES or self.units in SHARES
        drawn = empty_figure(look, 46 + 34 * max(1, len(table)))
        drawn.add_trace(
            go.Bar(
                x=values.tolist(),
                y=list(range(len(table))),
                orientation="h",
                text=[f"{value:.1%}" if share else f"{value:.4g}" for value in values],
                textposition="outside",
                cliponaxis=False,
                marker={"cornerradius": 3},
                customdata=[for_plotly(str(name)) for name in table[self.x]],
                hovertemplate=f"%{{customdata}}<br>{for_plotly(self.y[0])} <b>%{{x:.4g}}</b> "
                f"{for_plotly(self.units)}<extra></extra>",
                showlegend=False,
            )
        )
        drawn.update_layout(bargap=0.28)
        drawn.update_yaxes(
            tickvals=list(range(len(table))),
            ticktext=[shortened(str(name)) for name in table[self.x]],
            ticklabelstandoff=6,
            autorange="reversed",
            showgrid=False,
        )
        drawn.update_xaxes(
            title_text=for_plotly(self.units or self.y[0]),
            tickformat=".0%" if share else None,
            range=_with_room(values.to_numpy()),
        )
        return drawn

    def reads(self) -> Reads:
        """The table with the columns of labels and values."""
        return super().reads() | Reads(tables={self.table: {self.x, *self.y}})


def _with_room(values: NDArray[Any]) -> list[float]:
    """From zero to the largest value, with room for its number behind the bar."""
    finite = values[np.isfinite(values)]
    low, high = min(0.0, finite.min(initial=0)), max(0.0, finite.max(initial=0))
    room = 0.22 * ((high - low) or 1.0)
    return [float(low - room) if low < 0 else 0.0, float(high + room)]
