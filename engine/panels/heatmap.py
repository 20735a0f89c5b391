"""A map by itself."""

from __future__ import annotations

from typing import ClassVar, Literal

from fovea.engine.panels.base import Panel, Scale


class HeatmapPanel(Panel):
    """`array` (rows, columns) by itself; `scale` and `units` as for an overlay."""

    small: ClassVar[bool] = True
    kind: Literal["heatmap"] = "heatmap"
    array: str
    scale: Scale = "sequential"
    units: str = ""
