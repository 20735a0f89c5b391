"""The data set that is always there: crops of the sample photos."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from PIL import Image

from fovea.engine.data.dataset import Dataset
from fovea.engine.data.pictures import open_sample
from fovea.engine.data.samples import sample_pictures

SAMPLE = "sample"
"""The data set that needs nothing: crops of the sample photos."""


class SampleDataset(Dataset):
    """Crops of the sample photos that never overlap, at several scales, labelled by their photo.

    Each picture is laid out in square blocks of half its shorter side; by turns a block stays whole or is cut
    into 2 × 2 or 3 × 3 crops. No pixel is in two crops, so nine best patches are never nine copies.
    """

    SMALLEST = 64

    def __init__(self) -> None:
        self._boxes: list[tuple[str, tuple[int, int, int, int]]] = []
        keys: list[str] = []
        for picture, sample in sample_pictures().items():
            with Image.open(sample.path) as header:
                size = header.size
            for box in _crops(size, self.SMALLEST):
                self._boxes.append((picture, box))
                keys.append(f"{picture}/x{box[0]}-y{box[1]}-s{box[2] - box[0]}")
        super().__init__(SAMPLE, keys, [picture for picture, _ in self._boxes])

    def path(self, index: int) -> None:
        return None

    def photo(self, index: int) -> Image.Image:
        picture, box = self._boxes[index]
        return _sample_picture(picture).crop(box)

    def stat(self, index: int) -> tuple[int, int]:
        """The pictures come with the packages: their size tells their content, and an install's date nothing."""
        picture, _ = self._boxes[index]
        return sample_pictures()[picture].path.stat().st_size, 0


@functools.lru_cache(maxsize=32)
def _sample_picture(picture: str) -> Image.Image:
    return open_sample(sample_pictures()[picture].name)


def _crops(size: tuple[int, int], smallest: int) -> Iterator[tuple[int, int, int, int]]:
    """(left, top, right, bottom) of square crops of a picture of that (width, height), none overlapping another."""
    width, height = size
    block = min(width, height) // 2
    left, top = (width % block) // 2, (height % block) // 2
    for row in range(height // block):
        for column in range(width // block):
            parts = 1 + (2 * row + column) % 3
            while parts > 1 and block // parts < smallest:
                parts -= 1
            side = block // parts
            for i in range(parts):
                for j in range(parts):
                    x, y = left + column * block + j * side, top + row * block + i * side
                    yield x, y, x + side, y + side
