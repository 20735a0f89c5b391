"""A table that can be sorted and saved."""

from __future__ import annotations

from typing import Any, Literal

import streamlit as st

from fovea.engine.panels import TablePanel

WHOLE_ROWS = 16
"""A table of no more rows is shown whole, a longer one scrolls."""


def show_table(panel: TablePanel, run: Any, key: str) -> None:
    """The table without its empty columns."""
    table = panel.rows(run)
    told = [name for name in table if not (table[name].isna() | (table[name].astype(str) == "")).all()]
    height: Literal["content", "auto"] = "content" if len(table) <= WHOLE_ROWS else "auto"
    st.dataframe(table[told] if told else table, hide_index=True, key=f"{key}:table", height=height)
