"""The network's card on a page: read from the cache, offered to be read, or waited for while a worker reads it."""

from __future__ import annotations

import streamlit as st

from fovea.engine.run.estimate import amount
from fovea.engine.work.cards import card_status
from fovea.models import bundled
from fovea.models.card import Card
from fovea.models.sizes import weights_bytes
from fovea.pages.ui import acts, reads
from fovea.pages.ui.text import errors_as_lines, plain, show_error


def card_or_wait(name: str) -> Card | None:
    """The card, or None after drawing why there is none yet, which reruns the page when it is there.

    A network that was never read here waits for a click: an address may name any, and reading it can mean a download
    and gigabytes of memory. Only the bundled one is read unasked, as every worker does when it starts.

    Raises UnknownNameError for a network that cannot exist; one that a worker could not read is shown as a line.
    """
    card = reads.card(name)
    if card is not None:
        return card
    status = card_status(name)
    if status.state == "unknown" and name == bundled.NAME:
        status = acts.read_network(name)
    if status.state == "unknown":
        _offer(name)
        return None
    if status.state == "error":
        _refused(name, status.error)
        return None
    if status.state == "ready":
        return reads.card(name)
    wait_for(name)
    return None


def _offer(name: str) -> None:
    size = weights_bytes(name)
    st.info(
        f"The network {plain(name)} has not been read here before. Its layers and classes are known once it is loaded; "
        "weights that are not on the server yet are downloaded first.",
        icon=":material/deployed_code:",
    )
    about = "its size is not known" if size is None else f"about {amount(size)}"
    if st.button(f"Read this network: {about}", icon=":material/download:", type="primary", key="card:read"):
        with errors_as_lines():
            acts.read_network(name)
            st.rerun()


def _refused(name: str, error: str) -> None:
    show_error(error)
    if st.button(
        "Read it again",
        icon=":material/refresh:",
        key="card:again",
        help="Press this once the cause of the error is mended.",
    ):
        with errors_as_lines():
            acts.read_network(name)
            st.rerun()


def wait_for(name: str) -> None:
    """Say that a worker reads the network; the page is drawn again when it has."""
    st.fragment(_wait, run_every=0.5)(name)


def _wait(name: str) -> None:
    if card_status(name).state != "pending":
        st.rerun()
    st.status(f"Reading the network {plain(name)}…", state="running")
