"""The clickable windows of a map over a picture."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
