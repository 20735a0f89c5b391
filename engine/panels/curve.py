"""Columns of a table as lines."""

from __future__ import annotations

from typing import ClassVar, Literal

from fovea.engine.panels.base import TableView


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
