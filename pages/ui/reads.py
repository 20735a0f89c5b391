"""Reads that pages repeat: the store, cards, names of networks and data sets. Nothing is computed here."""

from __future__ import annotations

from functools import lru_cache

import streamlit as st

from engine.method import find_method
from engine.store import Store
from models.card import Card
from models.home import home

FINAL = frozenset({"done", "failed", "cancelled", "interrupted"})
"""The statuses that change no more."""


@lru_cache(maxsize=8)
def _store(root: str) -> Store:
    return Store()


def store() -> Store:
    """The store of this home."""
    return _store(str(home()))


@st.cache_data(show_spinner=False, ttl=60, max_entries=4)
def _known_networks(root: str) -> list[str]:
    from models.zoo import known_networks

    return [
        name
        for network in known_networks()
        for name in (network.name, *(f"{network.name}@{choice}" for choice in network.weights[1:]))
    ]


def known_networks() -> list[str]:
    """The names that a page offers: bundled, registered, torchvision's, each also with its other weights."""
    return _known_networks(str(home()))


def forget_networks() -> None:
    """Read the list of networks anew: one was added or removed."""
    _known_networks.clear()


def known_datasets() -> list[str]:
    """The registered data sets, `sample` first."""
    from engine.dataset import known_datasets as known

    return ["sample", *(name for name in known() if name != "sample")]


@st.cache_data(show_spinner=False, ttl=300, max_entries=32)
def dataset_size(root: str, name: str) -> int:
    """How many images a data set holds. Raises DatasetError."""
    from engine.dataset import open_dataset

    return len(open_dataset(name))


def card(name: str) -> Card | None:
    """The network's card if it has been read before."""
    from models.zoo import cached_card

    return cached_card(name)


def newest_run(method: str, network: str, photo: str, *, failed: bool = False) -> str | None:
    """The newest finished or unfinished run of a method on this network, and on this photo where it takes one.

    With `failed`, also one that ended badly.
    """
    takes_photo = find_method(method).photo
    for row in store().list(method=method, network=network, limit=60):
        if (failed or row.status in ("done", "running", "queued")) and (not takes_photo or row.image == photo):
            return row.id
    return None
