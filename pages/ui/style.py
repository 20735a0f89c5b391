"""The rules of `style.css`, added to every page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st


def style() -> None:
    """Add the rules to the page."""
    st.html(Path(__file__).with_name("style.css"))
