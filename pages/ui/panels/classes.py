"""Classes with their probabilities, as labelled bars."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from fovea.pages.ui.text import escaped


def show_classes(table: pd.DataFrame) -> None:
    """Rows of `class` and `probability` as bars, in the table's order."""
    bars = []
    for name, share in zip(table["class"], table["probability"], strict=True):
        bars.append(
            f'<div class="fovea-bar"><span class="fovea-bar-name">{escaped(name)}</span>'
            f'<span class="fovea-bar-share">{share:.1%}</span><div class="fovea-bar-track">'
            f'<div class="fovea-bar-fill" style="width:{max(share, 0.004):.2%}"></div></div></div>'
        )
    st.html("".join(bars))
