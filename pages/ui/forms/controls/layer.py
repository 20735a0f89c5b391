"""Controls for one layer, which all pages share, and for several."""

from __future__ import annotations

import streamlit as st

from fovea.engine.options import parts_of
from fovea.models.card import Card, Layer
from fovea.pages.ui import state
from fovea.pages.ui.forms.field import Field, control
from fovea.pages.ui.text import plain
from fovea.pages.ui.titles import layer_title


def layers_for(card: Card, needs: str) -> list[str]:
    """The layers that an option can name: with units; with maps ("spatial") or with "weights", where it needs them."""

    def fits(layer: Layer) -> bool:
        if layer.axes == "none":
            return False
        if needs == "spatial":
            return layer.spatial
        return needs != "weights" or (layer.parameters > 0 and layer.leaf)

    return [layer.name for layer in card.layers if fits(layer)]


@control("layer", shared="layer")
def draw_layer(field: Field) -> str:
    """One layer; a choice here is the choice of every page."""
    names = layers_for(field.card, field.kind.needs)
    chosen = state.layer() or str(field.default or "")
    st.session_state[field.key] = chosen if chosen in names else None
    st.selectbox(
        options=names,
        index=None,
        format_func=layer_title(field.card),
        placeholder=field.placeholder,
        on_change=lambda: state.choose(layer=st.session_state[field.key] or "", unit=""),
        **field.shown,
    )
    if chosen and chosen not in names:
        there = any(layer.name == chosen for layer in field.card.layers)
        why = f"This method cannot use layer {chosen}." if there else f"{field.card.title} has no layer {chosen}."
        st.caption(plain(f"{why} Choose another one, or leave the choice to the method."))
    return st.session_state[field.key] or ""


@control("layers")
def draw_layers(field: Field) -> str:
    """Several layers, as a comma list."""
    names = layers_for(field.card, field.kind.needs)
    field.begin(lambda value: [name for name in parts_of(value or "") if name in names])
    st.session_state[field.key] = [name for name in st.session_state[field.key] if name in names]
    st.multiselect(options=names, format_func=layer_title(field.card), placeholder=field.placeholder, **field.kept)
    return ",".join(st.session_state[field.key])
