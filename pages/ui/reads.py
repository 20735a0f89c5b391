"""Reads that pages repeat: the store, cards, names of networks and data sets. Nothing is computed here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import lru_cache

import streamlit as st
from PIL import Image

from fovea.engine.errors import FoveaError
from fovea.engine.method import Method
from fovea.engine.store import Store
from fovea.engine.store.folder import StoredRun
from fovea.models.card import Card
from fovea.models.home import home
from fovea.pages.ui import state

FINAL = frozenset({"done", "failed", "cancelled", "interrupted"})
"""The statuses that change no more."""


RUNS_READ = 60
"""So many runs are looked through, newest first."""


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


def kept_photos(limit: int = 8) -> list[str]:
    """The newest photos that were uploaded here."""
    folder = home() / "photos"
    files = sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True) if folder.is_dir() else []
    references = [f"photo:{path.stem}" for path in files if path.suffix != ".name"]
    return [reference for reference in references if state.PHOTO.fullmatch(reference)][:limit]


def card(name: str) -> Card | None:
    """The network's card if it has been read before."""
    from fovea.models.zoo import cached_card

    return cached_card(name)


def runs_of(
    method: Method, network: str, photo: str | None, *, failed: bool = False, words: str | None = None
) -> Iterator[StoredRun]:
    """The runs of a method on this network's present weights, and on this photo where it takes one, newest first.

    Unfinished ones too; with `failed` also those that ended badly. `words`: what the record must hold.
    """
    known = None
    with contextlib.suppress(FoveaError):  # a network that cannot be is told of where its card is drawn
        known = card(network)
    for row in store().list(method=method.name, network=network, text=words, limit=RUNS_READ):
        if not failed and row.status not in ("done", "running", "queued"):
            continue
        if method.takes_photo and row.image != photo:
            continue
        run = store().run(row.id)
        # A network that was trained on keeps its name: what its old weights gave is not shown as its answer.
        if known is None or run.record.network.sha256 in ("", known.sha256):
            yield run


def newest_run(method: Method, network: str, photo: str | None, *, failed: bool = False) -> str | None:
    """The newest of `runs_of`, by its id."""
    return next((run.id for run in runs_of(method, network, photo, failed=failed)), None)
