"""A saved picture, enlarged by whole pixels where it is small; an animation moves."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.panels import ImagePanel

LARGE = 900
"""Pictures whose longer side has fewer pixels are enlarged to about that."""


def show_image(panel: ImagePanel, run: Any, key: str) -> None:
    """Draw the picture no wider than it is, or across the whole width."""
    picture = run.image(panel.image)
    if getattr(picture, "is_animated", False):  # only the file itself still moves
        st.image(run.image_path(panel.image).read_bytes(), width="content")
        return
    width, height = picture.size
    factor = LARGE // max(width, height)
    if factor > 1:
        picture = picture.resize((width * factor, height * factor), 0)
    st.image(picture, width="stretch" if picture.width > LARGE else "content")
