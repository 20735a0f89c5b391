"""Unit: everything that finished runs know of one unit, its best patches first."""

from __future__ import annotations

import streamlit as st

from engine.method import Method, methods
from models.card import Card
from pages.ui import reads, state
from pages.ui.cards import card_or_wait
from pages.ui.forms import layer_label, prefill_key, subject_key
from pages.ui.gallery import show_group
from pages.ui.nav import method_page
from pages.ui.runs import run_cards
from pages.ui.text import errors_as_lines, plain, show_error

RUNS_READ = 40


def choose(card: Card) -> tuple[str, int] | None:
    """Pick the layer and the unit; kept in the address."""
    names = [layer.name for layer in card.layers if layer.axes != "none"]
    left, right = st.columns([3, 1])
    chosen = state.layer()
    if chosen and chosen not in names:
        show_error(f"no layer {chosen} in {card.name}: choose one below")
    st.session_state["unit:layer"] = chosen if chosen in names else None
    left.selectbox(
        "Layer",
        names,
        index=None,
        key="unit:layer",
        format_func=layer_label(card),
        placeholder="choose a layer",
        help="The layers of the network in forward order, with what they give.",
        on_change=lambda: state.choose(layer=st.session_state["unit:layer"] or "", unit="0"),
    )
    layer = st.session_state["unit:layer"]
    if not layer:
        st.info("Choose a layer to see one of its units.", icon=":material/hub:")
        return None
    last = card.layer(layer).units - 1
    st.session_state["unit:unit"] = min(max(state.unit() or 0, 0), last)
    right.number_input(
        "Unit",
        0,
        last,
        key="unit:unit",
        help=f"0 to {last}",
        on_change=lambda: state.choose(unit=str(st.session_state["unit:unit"])),
    )
    return str(layer), int(st.session_state["unit:unit"])


def facts(card: Card, name: str) -> None:
    """What the card says of the layer."""
    layer = card.layer(name)
    words = [layer.kind, " × ".join(map(str, layer.shape)), f"{layer.units:,} units"]
    field = layer.receptive_field
    if field is not None:
        words.append("sees the whole photo" if field.whole else f"sees {field.size[0]} × {field.size[1]} px")
    st.caption(plain(" · ".join(words)))


def groups(card: Card, layer: str, unit: int) -> bool:
    """The galleries of finished runs that hold this unit; whether there was one."""
    shown = False
    seen: set[str] = set()
    for row in reads.store().list(network=card.name, status="done", limit=RUNS_READ):
        if row.method in seen:
            continue
        run = reads.store().run(row.id)
        for index, panel in enumerate(run.record.panels):
            if panel.kind == "gallery" and {"layer", "unit"} <= set(panel.group):
                with errors_as_lines():
                    if show_group(panel, run, {"layer": layer, "unit": str(unit)}, f"unit:{row.id}:{index}"):
                        shown = True
                        seen.add(row.method)
    return shown


def about_this_unit(card: Card, layer: str, unit: int) -> bool:
    """Cards of the finished runs that were made for this very unit."""
    rows = []
    for row in reads.store().list(network=card.name, text=f"unit={unit}", limit=RUNS_READ):
        options = reads.store().run(row.id).record.options
        if options.get("layer") == layer and options.get("unit") == unit:
            rows.append(row)
    if rows:
        st.subheader("Runs about this unit", anchor=False)
        run_cards(rows[:12], columns=6, key="unit")
    return bool(rows)


def ways_on() -> None:
    """The methods that take a unit, with this one filled in."""
    st.subheader("Look further", anchor=False)
    with st.container(horizontal=True):
        for method in methods().values():
            kinds = [kind for kind in ("unit", "layers") if method.options_of_kind(kind)]
            if kinds and st.button(method.title, key=f"unit:go:{method.name}", help=method.summary):
                _fill_in(method)
                st.switch_page(method_page(method.name))


def _fill_in(method: Method) -> None:
    """The method's form with this unit, or with its layer."""
    st.session_state[subject_key(method.name)] = "unit"
    for name in method.options_of_kind("layers"):
        st.session_state[prefill_key(method.name, name)] = state.layer()


st.title("Unit", anchor=False)
with errors_as_lines():
    card = card_or_wait(state.network())
    picked = choose(card) if card is not None else None
    if card is not None and picked is not None:
        facts(card, picked[0])
        found = groups(card, *picked)
        found = about_this_unit(card, *picked) or found
        if not found:
            st.info("No finished run knows this unit yet. Start one below.", icon=":material/search:")
        ways_on()
