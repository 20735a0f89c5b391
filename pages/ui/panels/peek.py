"""A thumbnail at the pointer, for every point of a Plotly chart whose run keeps a sheet of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from fovea.engine.panels import ScatterPanel
from fovea.pages.ui.panels.tiles import sheet_of

SIZE = 132
"""The thumbnail's side, in pixels."""

_peek = st.components.v2.component("fovea_peek", js=Path(__file__).with_suffix(".js").read_text(encoding="utf-8"))


def peek(panel: ScatterPanel, run: Any, place: str, key: str) -> None:
    """Let the chart inside the container `place` show the panel's tiles where it is pointed at."""
    _peek(key=f"{key}:peek", data=sheet_of(panel, run) | {"place": place, "size": SIZE}, height=1)
