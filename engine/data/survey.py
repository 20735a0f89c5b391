"""Looking at a data set as a whole: counts, sizes, broken images, the mean image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.data.dataset import Dataset, Unreadable, spread
from fovea.engine.errors import DatasetError, ImageError
from fovea.models.card import Preprocessing


@dataclass
class Inspection:
    """What a data set is made of.

    `labels`: images of each label ("" for none). `looked_at`: how many were opened; `sizes`: (width, height) of
    those that could be read, with `unreadable` for the others.
    """

    name: str
    images: int
    labels: dict[str, int]
    looked_at: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    unreadable: list[Unreadable] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """A few numbers and short texts for a table."""
        widths = [width for width, _ in self.sizes.elements()]
        heights = [height for _, height in self.sizes.elements()]
        facts: dict[str, Any] = {"images": self.images}
        if set(self.labels) - {""}:
            facts["labels"] = len(set(self.labels) - {""})
        facts["looked at"] = self.looked_at
        facts["unreadable"] = len(self.unreadable)
        if widths:
            facts["smallest side"] = f"{min(*widths, *heights)} px"
            facts["median size"] = f"{int(np.median(widths))} × {int(np.median(heights))} px"
        return facts


def inspect_dataset(
    dataset: Dataset, *, limit: int | None = None, threads: int = 2, progress: Callable[[int, int], None] | None = None
) -> Inspection:
    """Open every image (or `limit` of them, evenly spread) and report counts by label, sizes and what is broken."""
    wanted = spread(len(dataset), limit)
    report = Inspection(dataset.name, len(dataset), dict(Counter(dataset.labels or [""] * len(dataset))), len(wanted))

    def size(index: int) -> tuple[int, int] | Unreadable:
        try:
            return dataset.photo(index).size
        except ImageError as error:
            return Unreadable(dataset.keys[index], str(error))

    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(wanted), 256):
            for found in pool.map(size, wanted[start : start + 256]):
                if isinstance(found, Unreadable):
                    report.unreadable.append(found)
                else:
                    report.sizes[found] += 1
            if progress is not None:
                progress(min(start + 256, len(wanted)), len(wanted))
    return report


def mean_image(
    dataset: Dataset, preprocessing: Preprocessing, *, limit: int | None = 2000, threads: int = 2
) -> NDArray[np.float32]:
    """The mean of the images in the network's frame: float32 (H, W, C), 0 to 255, RGB.

    Of at most `limit` images, evenly spread. Raises DatasetError if none can be read.
    """
    height, width = preprocessing.size
    total = np.zeros((height, width, preprocessing.channels), np.float64)
    count = 0
    for _, frame in dataset.frames(preprocessing, spread(len(dataset), limit), threads=threads):
        total += frame
        count += 1
    if not count:
        raise DatasetError(f"data set {dataset.name}: none of its images can be read, so it has no mean image")
    return (total / count).astype(np.float32)
