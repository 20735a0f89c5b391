"""The control for a unit of the chosen layer, which all pages share."""

from __future__ import annotations

import streamlit as st

from fovea.pages.ui import state
from fovea.pages.ui.forms.field import Field, control
from fovea.pages.ui.text import plain


@control("unit", shared="unit")
def draw_unit(field: Field) -> int | None:
    """A unit's number, within what the chosen layer has."""
    last = next((max(layer.units - 1, 0) for layer in field.card.layers if layer.name == state.layer()), None)
    value = state.unit() if state.unit() is not None else field.default
    st.session_state[field.key] = value if value is None or last is None else min(int(value), last)
    st.number_input(
        min_value=0,
        max_value=last,
        value=None,
        step=1,
        placeholder=field.placeholder if last is None else f"0 to {last}",
        on_change=lambda: state.choose(
            unit="" if st.session_state[field.key] is None else str(st.session_state[field.key])
        ),
        **field.shown,
    )
    if last is not None and value is not None and int(value) > last:
        st.caption(plain(f"Layer {state.layer()} has no unit {value}, so its last unit, {last}, is taken."))
    return st.session_state[field.key]
