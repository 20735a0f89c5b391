"""Unit: everything that finished runs know of one unit, its best patches first, and the runs that would know more."""

from __future__ import annotations

import streamlit as st

from fovea.engine.options import LayersKind
from fovea.models.card import Card
from fovea.pages.ui import state
from fovea.pages.ui.about_unit import card_of, share_of
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.text import errors_as_lines, plain, show_error
from fovea.pages.ui.titles import layer_title
from fovea.pages.ui.unit_runs import methods_of_every_unit, methods_of_one_unit

ACROSS = 4


def choose(card: Card) -> tuple[str, int] | None:
    """Pick the layer and the unit; kept in the address."""
    names = [layer.name for layer in card.layers if layer.axes != "none"]
    layers, units, steps = st.columns([5, 2, 5], vertical_alignment="bottom")
    chosen = state.layer()
    if chosen and chosen not in names:
        show_error(f"There is no layer {chosen} in {card.name}. Choose one below.")
    st.session_state["unit:layer"] = chosen if chosen in names else None
    layers.selectbox(
        "Layer",
        names,
        index=None,
        key="unit:layer",
        format_func=layer_title(card),
        placeholder="Choose a layer",
        help="These are the layers of the network in forward order, each with the shape of its output.",
        on_change=lambda: state.choose(layer=st.session_state["unit:layer"] or "", unit="0"),
    )
    layer = st.session_state["unit:layer"]
    if not layer:
        st.info("Choose a layer to see one of its units.", icon=":material/hub:")
        return None
    last = card.layer(layer).units - 1
    unit = state.unit() or 0
    asked = st.session_state.get("shell:unit", "")
    if asked and state.unit() is None:
        show_error(f"The unit must be a number from 0 to {last}, not {asked[:40]!r}.")
    if unit > last:
        show_error(f"There is no unit {unit} in layer {layer} of {card.name}: it has units 0 to {last}.")
        unit = last
    st.session_state["unit:unit"] = unit
    units.number_input(
        "Unit",
        0,
        last,
        key="unit:unit",
        help=f"The units of this layer are numbered from 0 to {last}.",
        on_change=lambda: state.choose(unit=str(st.session_state["unit:unit"])),
    )
    with steps:
        _steps(names, str(layer), unit, last)
    return str(layer), unit


def _steps(names: list[str], layer: str, unit: int, last: int) -> None:
    """Buttons and keys to the units and layers before and after."""
    place = names.index(layer)

    def to_unit(other: int) -> None:
        state.choose(unit=str(other))

    def to_layer(other: int) -> None:
        state.choose(layer=names[other], unit="0")

    with st.container(horizontal=True, key="unit-steps"):
        for title, icon, key, act, other, there in (
            ("Previous unit", ":material/chevron_left:", "Left", to_unit, unit - 1, unit > 0),
            ("Next unit", ":material/chevron_right:", "Right", to_unit, unit + 1, unit < last),
            ("Previous layer", ":material/keyboard_double_arrow_left:", "Shift+Left", to_layer, place - 1, place > 0),
            (
                "Next layer",
                ":material/keyboard_double_arrow_right:",
                "Shift+Right",
                to_layer,
                place + 1,
                place < len(names) - 1,
            ),
        ):
            st.button(
                title, icon=icon, shortcut=key, key=f"unit:step:{key}", on_click=act, args=(other,), disabled=not there
            )


def facts(card: Card, name: str) -> None:
    """What the card says of the layer."""
    layer = card.layer(name)
    words = [layer.kind, " × ".join(map(str, layer.shape)), f"{layer.units:,} units"]
    field = layer.receptive_field
    if field is not None:
        words.append("sees the whole photo" if field.whole else f"sees {field.size[0]} × {field.size[1]} px")
    st.caption(plain(" · ".join(words)))


def views(card: Card, layer: str, unit: int) -> None:
    """What runs over the whole layer hold of the unit, then the pictures of it alone."""
    for method in sorted(methods_of_every_unit(), key=lambda method: not method.options.names(LayersKind)):
        with errors_as_lines():
            share_of(method, card, layer, unit)
    st.subheader("Pictures of this unit", anchor=False)
    asked = methods_of_one_unit()
    for start in range(0, len(asked), ACROSS):
        for column, method in zip(st.columns(ACROSS), asked[start : start + ACROSS], strict=False):
            with column, errors_as_lines():
                card_of(method, card, layer, unit)


st.title("Unit", anchor=False)
with errors_as_lines():
    card = card_or_wait(state.network())
    picked = choose(card) if card is not None else None
    if card is not None and picked is not None:
        facts(card, picked[0])
        views(card, *picked)
