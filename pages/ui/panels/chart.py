"""A panel as a Plotly chart, and what a click on it says."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import streamlit as st

from fovea.engine.panels import Look, Panel

CONFIG = {"displaylogo": False, "showSendToCloud": False, "scrollZoom": False, "displayModeBar": False}
"""Plotly's settings: no logo, nothing that sends data anywhere."""


def theme() -> Literal["light", "dark"]:
    """Which of the theme's two faces this browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def draw_chart(
    panel: Panel,
    run: Any,
    key: str,
    *,
    clickable: bool = False,
    zoom: bool = False,
    square: bool = False,
    **look: Any,
) -> list[Any] | None:
    """Draw the panel's figure, if it has one; if it is `clickable`, what the point that was clicked carries, or None.

    `zoom`: the wheel zooms. `square`: a picture with a colour bar under it, as wide as its column and as high as that
    asks for. `look`: the figure's own choices (height, opacity, scale, channel, colour).
    """
    chart = panel.figure(run, Look(theme(), **look))
    if chart is None:
        return None
    height: dict[str, Any] = {}
    place: Any = contextlib.nullcontext()
    if square:
        chart.update_layout(height=None)
        height = {"height": "stretch"}
        place = st.container(key=f"square-{key}".replace(":", "-"))
    with place:
        event = st.plotly_chart(
            chart,
            key=f"{key}:chart",
            config=CONFIG | {"scrollZoom": zoom},
            theme=None,
            on_select="rerun" if clickable else "ignore",
            selection_mode="points",
            **height,
        )
    return _clicked(event) if clickable else None


def _clicked(event: Any) -> list[Any] | None:
    """The data of the first point in a chart's selection."""
    for point in (event or {}).get("selection", {}).get("points", []):
        data = point.get("customdata")
        if data is not None:
            values = data.values() if isinstance(data, dict) else data if isinstance(data, (list, tuple)) else [data]
            return list(values)
    return None
