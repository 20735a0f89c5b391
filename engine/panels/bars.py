"""One column of a table as labelled bars."""

from __future__ import annotations

from typing import ClassVar, Literal

from fovea.engine.panels.base import TableView


class BarsPanel(TableView):
    """Column `y[0]` of `table` by label column `x`; `units` stands at the axis."""

    small: ClassVar[bool] = True
    kind: Literal["bars"] = "bars"
    x: str
    y: tuple[str, ...]
    units: str = ""
