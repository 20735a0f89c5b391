"""A table as it is."""

from __future__ import annotations

from typing import ClassVar, Literal

from fovea.engine.panels.base import TableView


class TablePanel(TableView):
    """`table` as it is."""

    small: ClassVar[bool] = True
    kind: Literal["table"] = "table"
