"""A map over a picture."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import Panel, Scale
from fovea.engine.panels.cells import Cells


class OverlayPanel(Panel):
    """`array` (H, W) over the picture `image` ("photo" is the network's input frame), with optional clickable `cells`.

    `scale`: "sequential" from the smallest value, "diverging" about zero. `units` stands at the colour bar.
    """

    kind: Literal["overlay"] = "overlay"
    array: str
    image: str = ""
    scale: Scale = "sequential"
    units: str = ""
    cells: Cells | None = None
