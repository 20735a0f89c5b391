"""Short facts in a row, each under its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from fovea.pages.ui.text import escaped


def show_facts(facts: Mapping[str, Any]) -> None:
    """Draw the names with their values; nothing where there are none."""
    if facts:
        parts = (
            f'<div class="fovea-fact"><span>{escaped(name)}</span><b>{escaped(value)}</b></div>'
            for name, value in facts.items()
        )
        st.html(f'<div class="fovea-facts">{"".join(parts)}</div>')
