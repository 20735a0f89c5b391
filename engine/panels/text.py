"""A title and a sentence."""

from __future__ import annotations

from typing import Literal

from fovea.engine.panels.base import Panel


class TextPanel(Panel):
    """`title` and `help` alone."""

    kind: Literal["text"] = "text"
