"""The maps of a layer, side by side."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import Panel, Scale
from fovea.engine.panels.cells import Cells


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
