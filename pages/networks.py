"""Networks: the bundled one and those of one's own, with their cards; add, check, remove.

Users' own Python is registered from the command line only; loading and checking are a worker's work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.engine.run.record import Request
from fovea.models import bundled
from fovea.models.registry import registered
from fovea.pages.ui import acts, reads, state
from fovea.pages.ui.add_network import add
from fovea.pages.ui.cards import card_or_wait
from fovea.pages.ui.nav import page
from fovea.pages.ui.network_card import input_of, short, show_card
from fovea.pages.ui.progress import show_run
from fovea.pages.ui.text import errors_as_lines, plain

CHECK = "check"
"""The method that compares a network's graph with torch."""


def overview() -> None:
    """The bundled network and the registered ones; a click on a row chooses it."""
    entries = {bundled.NAME: {"architecture": "bundled"}, **registered()}
    rows = []
    for name, entry in entries.items():
        try:
            card = reads.card(name)
        except FoveaError:
            card = None
        rows.append(
            {
                "network": name,
                "architecture": short(entry["architecture"]),
                "weights": card.weights if card else Path(str(entry.get("weights", ""))).name,
                "input": input_of(card) if card else "",
                "classes": len(card.classes) if card else None,
                "parameters": card.parameters if card else None,
            }
        )
    event: Any = st.dataframe(
        pd.DataFrame(rows).astype({"classes": "Int64", "parameters": "Int64"}),
        hide_index=True,
        key="networks:table",
        on_select="rerun",
        selection_mode="single-row",
        column_config={"parameters": st.column_config.NumberColumn(format="localized")},
    )
    chosen = [rows[index]["network"] for index in event.selection.rows if index < len(rows)]
    if chosen and st.session_state.get("networks:clicked") != chosen[0]:
        st.session_state["networks:clicked"] = chosen[0]
        if chosen[0] != state.network():
            state.change(network=chosen[0], layer="", unit="")
            st.rerun()
    st.caption(
        "Click the box before a row to choose that network on all pages. The networks of torchvision need no "
        "registering: choose them in the sidebar."
    )


def show_check(name: str) -> None:
    """Start a check of the network as a run, and see it."""
    st.markdown(
        "The check compares what torch and ONNX give at every layer. With labelled images it also measures how often "
        "the network is right. The labels must be class names or class indices."
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        dataset = st.selectbox(
            "Labelled images",
            reads.known_datasets(),
            index=None,
            placeholder="None",
            key="networks:dataset",
            help="Choose a registered data set whose labels are the network's classes. Without one, only torch and "
            "ONNX are compared.",
            width=260,
        )
        images = st.number_input(
            "Images",
            0,
            None,
            0,
            key="networks:images",
            help="At most this many images are taken, evenly spread over the data set. With 0, all of them are.",
            width=140,
        )
        pressed = st.button("Check", type="primary", icon=":material/fact_check:", key="networks:check")
    shown = f"networks:checked:{name}"
    if pressed:
        with errors_as_lines():
            options = {"dataset": dataset or "", "images": images}
            st.session_state[shown] = acts.submit(Request(method=CHECK, network=name, options=options))
    run_id = st.session_state.get(shown) or reads.newest_run(find_method(CHECK), name, None, failed=True)
    if run_id:
        with errors_as_lines():
            show_run(run_id, "networks-check")
            st.page_link(
                page("run"), label="Open this run", icon=":material/open_in_full:", query_params={"id": run_id}
            )


def remove(name: str) -> None:
    """Ask, then take a registered network out of the list."""
    if name not in registered():
        return
    with st.popover("Remove", icon=":material/delete:"):
        st.markdown(f"Remove **{plain(name)}** from the list? Its runs stay in the Library.")
        if st.button("Remove it", type="primary", key="networks:remove"):
            with errors_as_lines():
                acts.remove_network(name)
                reads.forget_networks()
                state.change(network=state.DEFAULTS["network"], layer="", unit="")
                st.rerun()


st.title("Networks", anchor=False)
with errors_as_lines():
    overview()
about, checking, adding = st.tabs(["The chosen network", "Check", "Add"], key="networks:tab", on_change="rerun")
with about, errors_as_lines():
    heading = st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center")
    heading.subheader(plain(state.network()), anchor=False)
    with heading:
        remove(state.network())
    card = card_or_wait(state.network())
    if card is not None:
        show_card(card)
with checking, errors_as_lines():
    show_check(state.network())
with adding, errors_as_lines():
    add()
