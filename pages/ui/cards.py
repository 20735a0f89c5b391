"""The network's card on a page: read from the cache, or waited for while a worker reads the network."""

from __future__ import annotations

import streamlit as st

from fovea.engine.work.cards import card_status, request_card
from fovea.models.card import Card
from fovea.pages.ui import reads
from fovea.pages.ui.text import show_error


def card_or_wait(name: str) -> Card | None:
    """The card, or None after drawing "reading the network…", which reruns the page when it is there.

    Raises UnknownNameError for a network that cannot exist; one that a worker could not read is shown as a line.
    """
    found = reads.card(name)
    if found is not None:
        return found
    status = card_status(name)
    if status.state == "unknown":
        status = request_card(name)
    if status.state == "error":
        _refused(name, status.error)
        return None
    if status.state == "ready":
        return reads.card(name)
    st.fragment(_wait, run_every=0.5)(name)
    return None


def _refused(name: str, error: str) -> None:
    show_error(error)
    if st.button("Read it again", icon=":material/refresh:", key="card:again", help="After mending the cause."):
        request_card(name)
        st.rerun()


def _wait(name: str) -> None:
    if card_status(name).state != "pending":
        st.rerun()
    st.status(f"reading the network {name}…", state="running")
