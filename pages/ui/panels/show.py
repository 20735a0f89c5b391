"""Panels on a page: each kind that can be clicked has its widget in the table here; all others are charts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.panels import (
    ChannelsPanel,
    GalleryPanel,
    ImagePanel,
    OverlayPanel,
    Panel,
    ScatterPanel,
    TablePanel,
    TableView,
)
from fovea.pages.ui.panels.channels import show_channel, show_channels
from fovea.pages.ui.panels.chart import draw_chart
from fovea.pages.ui.panels.gallery import show_gallery
from fovea.pages.ui.panels.image import show_image
from fovea.pages.ui.panels.layout import Group, rows_of
from fovea.pages.ui.panels.overlay import show_overlay
from fovea.pages.ui.panels.scatter import show_scatter
from fovea.pages.ui.panels.table import show_table
from fovea.pages.ui.text import show_error


def show_panels(run: Any, key: str) -> None:
    """All panels of a run: pictures across the whole width, small charts two in a row, sister galleries in turn."""
    for row in rows_of(run.record.panels):
        first = row[0]
        if len(first) > 1:
            st.fragment(_in_turn)(first, run, f"{key}:{first[0][0]}")
        else:
            _row([group[0] for group in row], run, key)


def _in_turn(group: Group, run: Any, key: str) -> None:
    """One of several sister galleries, chosen by what each keeps of the table."""
    names = [", ".join(str(value) for value in panel.where.values()) for _, panel in group]
    columns = ", ".join(group[0][1].where)
    chosen = st.segmented_control(
        columns.capitalize(),
        range(len(group)),
        default=len(group) - 1,
        required=True,
        key=f"{key}:turn",
        format_func=names.__getitem__,
    )
    index, panel = group[chosen]
    show_panel(panel, run, f"{key}:{index}")


def _row(panels: Group, run: Any, key: str) -> None:
    if len(panels) == 1:
        show_panel(panels[0][1], run, f"{key}:{panels[0][0]}")
        return
    for column, (index, panel) in zip(st.columns(len(panels), gap="large"), panels, strict=True):
        with column:
            show_panel(panel, run, f"{key}:{index}", narrow=True)


def show_panel(panel: Panel, run: Any, key: str, narrow: bool = False) -> None:
    """One panel under its title; a picture that cannot be read is one line, and the others stay.

    A `narrow` one shares its row: a map over a picture has no room for its controls there.
    """
    with st.container(key=f"panel-{key}".replace(":", "-")):
        if panel.title:
            st.subheader(panel.title, anchor=False)
        if panel.help:
            st.caption(panel.help)
        st.fragment(_draw)(panel, run, key, narrow)


def _draw(panel: Panel, run: Any, key: str, narrow: bool) -> None:
    # The mistake is caught in here: Streamlit shows what leaves a fragment as a traceback and ends the page.
    try:
        if narrow and isinstance(panel, OverlayPanel):
            draw_chart(panel, run, key, square=True)
        else:
            WIDGETS.get(type(panel), draw_chart)(panel, run, key)
    except (FoveaError, OSError, KeyError, ValueError) as error:
        show_error(f"This panel cannot be drawn: {error}")


def show_narrowed(panel: Panel, run: Any, column: str, value: Any, key: str) -> None:
    """A panel of which only one value of a column is shown, or one channel."""
    if isinstance(panel, ChannelsPanel):
        st.subheader(panel.title, anchor=False)
        show_channel(panel, run, int(value), key)
        return
    update: dict[str, Any] = {}
    if isinstance(panel, TableView):
        item = value.item() if isinstance(value, np.generic) else value
        update["where"] = {**panel.where, column: item}
    if isinstance(panel, GalleryPanel):
        update["group"] = ()
    show_panel(panel.model_copy(update=update), run, key)


def _show_gallery(panel: GalleryPanel, run: Any, key: str) -> None:
    """A gallery may open any other panel."""
    show_gallery(panel, run, key, show_narrowed)


WIDGETS: dict[type[Panel], Callable[[Any, Any, str], Any]] = {
    OverlayPanel: show_overlay,
    ChannelsPanel: show_channels,
    GalleryPanel: _show_gallery,
    ScatterPanel: show_scatter,
    ImagePanel: show_image,
    TablePanel: show_table,
}
"""The kinds of panels that are more than a chart on a page. Any other kind is its own figure, if it has one."""
