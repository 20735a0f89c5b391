"""Rows of a table as points."""

from __future__ import annotations

from typing import ClassVar, Literal

from fovea.engine.panels.base import TableView


class ScatterPanel(TableView):
    """Points of `table` at `x`, `y[0]`, coloured by `caption[0]` and named by the other captions.

    With a sheet `image` of `tile`, `columns`, each shows the tile of its column `tile` when it is pointed at.
    """

    small: ClassVar[bool] = True
    kind: Literal["scatter"] = "scatter"
    x: str
    y: tuple[str, ...]
    caption: tuple[str, ...] = ()
    image: str = ""
    tile: int = 0
    columns: int = 0
