"""The clickable windows of a map over a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from fovea.engine.panels.base import Reads, RunView
from fovea.engine.panels.data_uri import data_uri
from fovea.engine.panels.look import INK, LINES
from fovea.engine.panels.words import for_plotly, words

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Cells(BaseModel):
    """The clickable windows of an overlay: cell (i, j) covers rows `ys[i]` … + `height`, columns `xs[j]` … + `width`.

    `ys`, `xs`, `values` name arrays; `values` (rows, cols) is shown on hover as `label` (e.g. "probability").
    `cover` names an image of the frame's size whose pixels replace the window when a cell is clicked; `table`
    names a table with columns `row`, `column` whose matching rows are listed beside it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    ys: str
    xs: str
    height: int
    width: int
    values: str
    label: str = ""
    cover: str = ""
    table: str = ""

    def reads(self) -> Reads:
        """The arrays, the table and the cover."""
        tables = {self.table: {"row", "column"}} if self.table else {}
        return Reads({self.ys, self.xs, self.values}, tables, {self.cover} if self.cover else set())

    def trace(self, run: RunView) -> go.Scatter:
        """Invisible points at the windows' centres: Streamlit hears a click on a scatter, not on a heat map.

        `customdata` of each is [row, column, value, x, y].
        """
        import plotly.graph_objects as go

        ys, xs = run.array(self.ys), run.array(self.xs)
        values = run.array(self.values)
        rows, columns = (axis.ravel() for axis in np.indices(values.shape))
        top, left = ys[rows], xs[columns]
        return go.Scatter(
            x=(left + (self.width - 1) / 2).tolist(),
            y=(top + (self.height - 1) / 2).tolist(),
            mode="markers",
            marker={"size": 14, "symbol": "square-open", "color": INK["dark"], "opacity": 0, "line": {"width": 2}},
            selected={"marker": {"opacity": 1, "color": LINES["dark"][1], "size": 18}},
            unselected={"marker": {"opacity": 0}},
            customdata=[
                [int(row), int(column), float(value), int(x), int(y)]
                for row, column, value, x, y in zip(rows, columns, values.ravel(), left, top, strict=True)
            ],
            hovertemplate="window at x %{customdata[3]}, y %{customdata[4]}<br>"
            f"{for_plotly(self.label) or 'value'} <b>%{{customdata[2]:.4g}}</b><extra></extra>",
            name="cells",
            showlegend=False,
        )

    def put(self, trace: go.Heatmap, run: RunView) -> None:
        """Lay each value of a map where its cell lies, e.g. at its receptive field's middle."""
        for axis, name, side in (("x", self.xs, self.width), ("y", self.ys, self.height)):
            corners = run.array(name)
            step = float(corners[1] - corners[0]) if len(corners) > 1 else float(side)
            trace.update({f"{axis}0": float(corners[0]) + step / 2 - 0.5, f"d{axis}": step})

    def answers(self, run: RunView) -> dict[str, Any]:
        """What a click shows in a report: the window's box, its value, and the table's rows for it."""
        frame = run.image("photo").convert("RGB")
        return {
            "size": list(frame.size),
            "ys": np.asarray(run.array(self.ys)).tolist(),
            "xs": np.asarray(run.array(self.xs)).tolist(),
            "window": [self.height, self.width],
            "values": [[words(value) for value in row] for row in run.array(self.values)],
            "label": self.label or "value",
            "photo": data_uri(frame),
            "cover": data_uri(run.image(self.cover).convert("RGB")),
            "lines": self._lines(run),
        }

    def _lines(self, run: RunView) -> dict[str, list[list[str]]]:
        """The table's rows in words for each cell "row,column"."""
        lines: dict[str, list[list[str]]] = {}
        if not self.table:
            return lines
        table = run.table(self.table)
        places = zip(table["row"], table["column"], strict=True)
        rest = table.drop(columns=["row", "column"])
        rest = rest[[column for column in rest if column in ("class", "probability", "logit", "score")] or list(rest)]
        for (row, column), values in zip(places, rest.itertuples(index=False, name=None), strict=True):
            lines.setdefault(f"{int(row)},{int(column)}", []).append([words(value) for value in values])
        return lines
