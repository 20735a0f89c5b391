"""The network's card on a page: read from the cache, or waited for while a worker reads the network."""

from __future__ import annotations

import streamlit as st

from fovea.engine.work.cards import card_status, request_card
from fovea.models.card import Card
from fovea.pages.ui import reads
from fovea.pages.ui.text import plain, show_error


def card_or_wait(name: str) -> Card | None:
    """The card, or None after drawing "reading the network…", which reruns the page when it is there.

    Raises UnknownNameError for a network that cannot exist; one that a worker could not read is shown as a line.
    """
    card = reads.card(name)
    if card is not None:
        return card
    status = card_status(name)
    if status.state == "unknown":
        status = request_card(name)
    if status.state == "error":
        _refused(name, status.error)
        return None
    if status.state == "ready":
        return reads.card(name)
    wait_for(name)
    return None


def _refused(name: str, error: str) -> None:
    show_error(error)
    if st.button(
        "Read it again",
        icon=":material/refresh:",
        key="card:again",
        help="Press this once the cause of the error is mended.",
    ):
        request_card(name)
        st.rerun()


def wait_for(name: str) -> None:
    """Say that a worker reads the network; the page is drawn again when it has."""
    st.fragment(_wait, run_every=0.5)(name)


def _wait(name: str) -> None:
    if card_status(name).state != "pending":
        st.rerun()
    st.status(f"Reading the network {plain(name)}…", state="running")
