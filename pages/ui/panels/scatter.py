"""Points of a table, coloured by what is chosen; pointing shows a point's picture, a click opens it."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from fovea.engine.panels import ScatterPanel
from fovea.pages.ui.panels.chart import draw_chart
from fovea.pages.ui.panels.opened import show_opened
from fovea.pages.ui.panels.peek import peek
from fovea.pages.ui.text import label


def show_scatter(panel: ScatterPanel, run: Any, key: str) -> None:
    """A plain chart where the points have no pictures."""
    if not panel.image:
        draw_chart(panel, run, key)
        return
    table = run.table(panel.table)
    colour = _colour_choice(panel, table, key)
    place = f"scatter-{key}".replace(":", "-")
    with st.container(key=place):
        clicked = draw_chart(panel, run, key, clickable=True, zoom=True, colour=colour, height=620)
    peek(panel, run, place, key)
    if clicked is not None and int(clicked[0]) in table.index:
        show_opened(panel, run, table.loc[int(clicked[0])], key, words=panel.caption)


def _colour_choice(panel: ScatterPanel, table: pd.DataFrame, key: str) -> str:
    """Which caption colours the points: those with a few values, or numbers."""
    names = [
        name
        for name in panel.caption
        if name in table and (table[name].dtype.kind in "fi" or 1 < table[name].nunique() <= len(table) / 2)
    ]
    if len(names) < 2:
        return names[0] if names else ""
    return str(
        st.segmented_control(
            "Colour by", names, default=names[0], required=True, key=f"{key}:colour", format_func=label
        )
    )
