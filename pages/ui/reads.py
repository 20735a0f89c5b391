"""Reads that pages repeat: the store, cards, names of networks and data sets. Nothing is computed here."""

from __future__ import annotations

import contextlib
from functools import lru_cache

import streamlit as st
from PIL import Image

from fovea.engine.errors import FoveaError
from fovea.engine.method import find_method
from fovea.engine.store import Store
from fovea.models.card import Card
from fovea.models.home import home

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
    from fovea.models.zoo import known_networks

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
    from fovea.engine.data.catalogue import known_datasets as known

    return ["sample", *(name for name in known() if name != "sample")]


@st.cache_data(show_spinner=False, ttl=300, max_entries=32)
def dataset_size(root: str, name: str) -> int:
    """How many images a data set holds. Raises DatasetError."""
    from fovea.engine.data.catalogue import open_dataset

    return len(open_dataset(name))


@st.cache_data(show_spinner=False, ttl=300, max_entries=32)
def dataset_labels(root: str, name: str) -> list[str]:
    """The labels of a data set, sorted. Raises DatasetError."""
    from fovea.engine.data.catalogue import open_dataset

    return open_dataset(name).classes


@st.cache_data(show_spinner=False, ttl=300, max_entries=64)
def dataset_picture(root: str, name: str, key: str, size: int = 420) -> Image.Image:
    """An image of a data set, its longer side at most `size` pixels. Raises DatasetError, ImageError."""
    from fovea.engine.data.catalogue import open_dataset

    dataset = open_dataset(name)
    return dataset.thumbnail(dataset.index_of(key), size)


def root() -> str:
    """The home that these reads belong to."""
    return str(home())


def card(name: str) -> Card | None:
    """The network's card if it has been read before."""
    from fovea.models.zoo import cached_card

    return cached_card(name)


def newest_run(method: str, network: str, photo: str, *, failed: bool = False) -> str | None:
    """The newest finished or unfinished run of a method on this network, and on this photo where it takes one.

    With `failed`, also one that ended badly.
    """
    takes_photo = find_method(method).takes_photo
    known = None
    with contextlib.suppress(FoveaError):  # a network that cannot be is told of where its card is drawn
        known = card(network)
    for row in store().list(method=method, network=network, limit=60):
        if not failed and row.status not in ("done", "running", "queued"):
            continue
        if takes_photo and row.image != photo:
            continue
        # A network that was trained on keeps its name: what its old weights gave is not shown as its answer.
        weights = store().run(row.id).record.network.sha256
        if known is None or weights in ("", known.sha256):
            return row.id
    return None
