"""Controls for another network, and for several."""

from __future__ import annotations

import streamlit as st

from fovea.engine.options import parts_of
from fovea.pages.ui import reads
from fovea.pages.ui.forms.field import Field, control


@control("network")
def draw_network(field: Field) -> str:
    """One of the networks that a page offers."""
    field.begin(lambda value: value or None)
    chosen = st.selectbox(options=reads.known_networks(), index=None, placeholder=field.placeholder, **field.kept)
    return chosen or field.default


@control("networks")
def draw_networks(field: Field) -> str:
    """Several networks, as a comma list."""
    names = reads.known_networks()
    field.begin(lambda value: list(parts_of(value or "")))
    more = [name for name in st.session_state[field.key] if name not in names]
    return ",".join(st.multiselect(options=[*names, *more], placeholder=field.placeholder, **field.kept))
