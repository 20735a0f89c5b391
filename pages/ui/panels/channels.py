"""The maps of a layer as one picture of tiles; a click or a number shows one of them large."""

from __future__ import annotations

from typing import Any

import streamlit as st

from fovea.engine.panels import ChannelsPanel
from fovea.pages.ui.panels.chart import draw_chart


def show_channels(panel: ChannelsPanel, run: Any, key: str) -> None:
    """All channels; under them the chosen one, over the image."""
    clicked = draw_chart(panel, run, key, clickable=True)
    last = len(run.array(panel.array)) - 1
    if clicked is not None and st.session_state.get(f"{key}:clicked") != clicked[0]:
        st.session_state[f"{key}:clicked"] = clicked[0]
        st.session_state[f"{key}:channel"] = int(clicked[0])
    channel = st.number_input(
        "Channel", 0, last, key=f"{key}:channel", help=f"The channels are numbered from 0 to {last}.", width=160
    )
    show_channel(panel, run, int(channel), f"{key}:one")


def show_channel(panel: ChannelsPanel, run: Any, channel: int, key: str) -> None:
    """One channel, over the panel's image."""
    draw_chart(panel, run, f"{key}:channel", channel=channel)
