"""Frames of a data set in batches, as a network takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Batch(NamedTuple):
    """Some images: their `indices` in the data set, and their `frames`, uint8 (n, H, W, C)."""

    indices: list[int]
    frames: NDArray[np.uint8]


def batches(
    frames: Iterable[tuple[int, NDArray[np.uint8]]], size: int, part: Callable[[int], int] = lambda index: 0
) -> Iterator[Batch]:
    """Batches of `size` frames, in the order of `frames`, (index, frame (H, W, C)) as `Dataset.frames` yields them.

    `part` tells which part of the data set an index belongs to: no batch has images of two parts, and the last batch
    of a part may be smaller.
    """
    for _, members in groupby(frames, key=lambda member: part(member[0])):
        while chunk := list(islice(members, size)):
            yield Batch([index for index, _ in chunk], np.stack([frame for _, frame in chunk]))
