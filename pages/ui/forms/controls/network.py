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
    names = field.with_kept(reads.known_networks())
    chosen = st.selectbox(options=names, index=None, placeholder=field.placeholder, **field.kept)
    return chosen or field.default


@control("networks")
def draw_networks(field: Field) -> str:
    """Several networks, as a comma list."""
    field.begin(lambda value: list(parts_of(value or "")))
    names = field.with_kept(reads.known_networks())
    return ",".join(st.multiselect(options=names, placeholder=field.placeholder, **field.kept))
