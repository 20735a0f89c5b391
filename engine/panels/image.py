"""A saved picture."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import Panel


class ImagePanel(Panel):
    """The saved picture `image`."""

    kind: Literal["image"] = "image"
    image: str
