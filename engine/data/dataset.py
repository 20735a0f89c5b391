"""A set of images with stable keys. An unreadable image is skipped, counted and listed, never fatal.

Opening a set reads names only, so that a folder of a million images opens in seconds; frames are decoded a few ahead,
in order.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.data.pictures import decoder, open_file, shown, small_copy
from fovea.engine.errors import DatasetError, ImageError, unknown
from fovea.models.card import Preprocessing

TRIES = 1000
"""So many images in a row are tried before a data set counts as broken."""


class Unreadable(NamedTuple):
    """An image that was skipped: its key, and the one line that says why."""

    key: str
    reason: str


class Dataset:
    """Images with stable keys, and labels if there are any.

    `keys`: one posix-style text an image, unique, in sorted (folder) or given (list) order. `labels`: one an
    image, "" where an image has none; or None where the set has no labels at all. `name`: `sample`, the
    registered name, or the last part of the path; `named`: it is not a path. `attributes`: what else is known of the
    images, by its name, one text an image; `notes`: what was found out when it was opened, a line each.
    """

    def __init__(self, name: str, keys: list[str], labels: list[str] | None) -> None:
        self.name = name
        self.named = False
        self.keys = keys
        self.labels = labels
        self.attributes: dict[str, list[str]] = {}
        self.notes: list[str] = []
        self.decoder = decoder()

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<data set {self.name}: {len(self):,} images>"

    def path(self, index: int) -> Path | None:
        """The image's file, or None for a crop."""
        raise NotImplementedError

    def photo(self, index: int) -> Image.Image:
        """The image, RGB and upright, at its own size. Raises ImageError, one line, if it cannot be read."""
        path = self.path(index)
        assert path is not None
        return open_file(path)

    def label(self, index: int) -> str:
        """The image's label, "" without one."""
        return self.labels[index] if self.labels is not None else ""

    @property
    def classes(self) -> list[str]:
        """The different labels, sorted."""
        return sorted({label for label in self.labels or () if label})

    @functools.cached_property
    def _positions(self) -> dict[str, int]:
        return {key: index for index, key in enumerate(self.keys)}

    def index_of(self, key: str) -> int:
        """The position of the image with that key. Raises UnknownNameError."""
        try:
            return self._positions[key]
        except KeyError:
            near = key.rsplit("/", 1)[-1]
            some = [k for k in self.keys if near in k][:5] or self.keys[:200]
            raise unknown("image", shown(key), some, f"data set {self.name}") from None

    def thumbnail(self, index: int, size: int = 160) -> Image.Image:
        """The image with its longer side at most `size` pixels. Raises ImageError."""
        return small_copy(self.photo(index), size)

    def frame(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The image as the network sees it, uint8 (H, W, C). Raises ImageError."""
        return preprocessing.frame(self.photo(index))

    def reference(self, index: int) -> str:
        """What `open_photo` takes to read this image: `item:NAME/KEY`, or its path where the set has no name."""
        if self.named:
            return f"item:{self.name}/{self.keys[index]}"
        return str(self.path(index))

    def stat(self, index: int) -> tuple[int, int]:
        """(size in bytes, time of change in nanoseconds) of the file; zeros when it is gone."""
        path = self.path(index)
        try:
            found = os.stat(path) if path is not None else None
        except OSError:
            found = None
        return (found.st_size, found.st_mtime_ns) if found else (0, 0)

    @functools.cached_property
    def _manifest(self) -> str:
        digest = hashlib.sha256()
        for index, key in enumerate(self.keys):
            size, changed = self.stat(index)
            digest.update(f"{key}\0{size}\0{changed}\0{self.label(index)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def manifest_sha256(self) -> str:
        """What identifies the set's content: the sha256 over every image's key, size, time of change and label."""
        return self._manifest

    def frames(
        self,
        preprocessing: Preprocessing,
        indices: Iterable[int],
        *,
        threads: int = 2,
        unreadable: list[Unreadable] | None = None,
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(index, frame uint8 (H, W, C)) of the readable images among `indices`, in their order.

        `threads` decode ahead; at most 4 frames a thread wait, so memory stays flat however many images come.
        What cannot be read is skipped and appended to `unreadable`.
        """
        threads = max(1, threads)
        wanted = iter(indices)
        waiting: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        try:
            for index in wanted:
                waiting.append((index, pool.submit(self.frame, index, preprocessing)))
                if len(waiting) < 4 * threads:
                    continue
                yield from self._settled(*waiting.popleft(), unreadable)
            while waiting:
                yield from self._settled(*waiting.popleft(), unreadable)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _settled(
        self, index: int, future: Future[NDArray[np.uint8]], unreadable: list[Unreadable] | None
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        try:
            yield index, future.result()
        except ImageError as error:
            if unreadable is not None:
                unreadable.append(Unreadable(self.keys[index], str(error)))

    def require_readable(self) -> None:
        """Raise DatasetError if the set is empty, or if none of its first thousand images can be read."""
        if not self.keys:
            raise DatasetError(
                f"data set {self.name} has no images: it needs files such as .jpg, .png or .webp, "
                f"nested or not, or a list of them"
            )
        reason = ""
        for index in range(min(len(self), TRIES)):
            try:
                self.photo(index)
                return
            except ImageError as error:
                reason = reason or str(error)
        tried = f"none of its {len(self):,} images" if len(self) <= TRIES else f"none of its first {TRIES:,} images"
        raise DatasetError(f"data set {self.name}: {tried} can be read; the first: {reason}")


def spread(count: int, limit: int | None) -> Sequence[int]:
    """All of `count` indices, or `limit` of them at even distances."""
    if limit is None or limit >= count:
        return range(count)
    return [index * count // limit for index in range(limit)]
