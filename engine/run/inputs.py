"""What a request names, by its content: photos, data sets and other networks, each opened once and handed on."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fovea.engine.data.photos import (
    is_reference,
    keep_and_open,
    open_photo,
    photo_name,
    photo_sha256,
    pixels_sha256,
)
from fovea.engine.run.record import Input

if TYPE_CHECKING:
    from PIL import Image

    from fovea.engine.data.dataset import Dataset
    from fovea.models.card import Card


class Photo:
    """A photo that a request names. `given` is a path, `sample:NAME`, `item:DATASET/KEY` or `photo:SHA256`.

    It is read when it is asked for, and decoded once. Whatever is asked raises ImageError if it cannot be read.
    """

    def __init__(self, given: str) -> None:
        self.given = given

    @cached_property
    def reference(self) -> str:
        """The same photo by content; a file or a data set's image is kept, so that it is there when that is gone."""
        if self.given.startswith(("sample:", "photo:")):
            return self.given
        if is_reference(self.given):
            kept, self.picture = keep_and_open(open_photo(self.given), photo_name(self.given))
        else:
            kept, self.picture = keep_and_open(Path(self.given).expanduser())
        return kept

    @cached_property
    def picture(self) -> Image.Image:
        """Its pixels, RGB and upright."""
        return open_photo(self.reference)

    @cached_property
    def sha256(self) -> str:
        """What identifies its content."""
        if self.reference.startswith("sample:"):
            return pixels_sha256(self.picture)
        if self.reference == self.given:
            return photo_sha256(self.reference)
        return self.reference.removeprefix("photo:")  # it was kept under this hash just now

    def as_input(self, name: str) -> Input:
        """What a record says of it."""
        title = photo_name(self.given)
        return Input(name=name, kind="photo", reference=self.reference, sha256=self.sha256, title=title)


class Opened:
    """The photos and data sets of one request, which its method gets as they were opened for the fingerprint."""

    def __init__(self) -> None:
        self._photos: dict[str, Photo] = {}
        self._datasets: dict[str, Dataset] = {}

    def photo(self, given: str) -> Photo:
        """The photo that the request names so."""
        photo = self._photos.setdefault(given, Photo(given))
        return self._photos.setdefault(photo.reference, photo)

    def picture(self, reference: str) -> Image.Image:
        """The pixels of any photo; those of the request's own are here already. Raises ImageError."""
        photo = self._photos.get(reference)
        return photo.picture if photo is not None else open_photo(reference)

    def dataset(self, reference: str) -> Dataset:
        """Any data set; the request's own are open already. Raises DatasetError."""
        from fovea.engine.data.catalogue import open_dataset

        dataset = self._datasets.get(reference)
        return dataset if dataset is not None else open_dataset(reference)

    def dataset_input(self, name: str, given: str) -> Input:
        """Open a data set that the request names: what a record says of it. Raises DatasetError."""
        dataset = self.dataset(given)
        reference = absolute(given) if dataset.name != given else given
        self._datasets[given] = self._datasets[reference] = dataset
        return Input(
            name=name,
            kind="dataset",
            reference=reference,
            sha256=dataset.manifest_sha256(),
            title=dataset.name,
            images=len(dataset),
        )


def absolute(reference: str) -> str:
    """A path to something that exists as a full path, so that another process finds it; any other name as it is."""
    path = Path(reference).expanduser()
    return str(path.resolve()) if path.exists() else reference


def network_input(name: str, references: tuple[str, ...], *, several: bool) -> Input:
    """What a record says of the other networks that an option names. Raises UnknownNameError, NetworkError.

    `several`: the option takes a list, whose hash is that of its parts' hashes, also where it has one part alone.
    """
    from fovea.models.zoo import cached_card, load

    cards = [cached_card(reference) or load(reference).card for reference in references]
    hashes = [card_sha256(card) for card in cards]
    return Input(
        name=name,
        kind="network",
        reference=",".join(references),
        sha256=hashlib.sha256(" ".join(hashes).encode()).hexdigest() if several else hashes[0],
        title=", ".join(card.title for card in cards),
    )


def card_sha256(card: Card) -> str:
    """The hash of all that shapes the network's answers: weights, preprocessing, classes, layers."""
    content = card.model_dump_json(include={"sha256", "architecture", "preprocessing", "classes", "output"})
    return hashlib.sha256(content.encode()).hexdigest()
