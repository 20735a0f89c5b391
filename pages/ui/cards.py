"""The network's card on a page: read from the cache, or waited for while a worker reads the network."""

from __future__ import annotations

import streamlit as st

from engine.worker import request_card
from models.card import Card
from pages.ui import reads


def card_or_wait(name: str) -> Card | None:
    """The card, or None after drawing "reading the network…", which reruns the page when it is there.

    Raises NetworkError and its kin when the worker could not read the network.
    """
    found = reads.card(name)
    if found is not None:
        return found
    request_card(name)
    found = reads.card(name)
    if found is not None:
        return found
    st.fragment(_wait, run_every=0.5)(name)
    return None


def _wait(name: str) -> None:
    if reads.card(name) is not None:
        st.rerun()
    request_card(name)
    st.status(f"reading the network {name}…", state="running")
