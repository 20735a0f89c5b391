"""Mining the slow way: every map of every image, every value sorted; and a data set held in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from fovea.engine.errors import ImageError
from fovea.models.card import Preprocessing
from fovea.models.torch_net import forward_taps
from tests.oracles.look_reducers import maps_of, maximum_of


class MemoryDataset:
    """What methods need of a `Dataset`, over pictures in memory; None is an unreadable image."""

    decoder = "memory"

    def __init__(self, photos: dict[str, Image.Image | None], labels: dict[str, str] | None = None) -> None:
        self.name = "memory"
        self.keys = list(photos)
        self._photos = photos
        self.labels = [labels[key] for key in photos] if labels else None
        self.classes = sorted(set(labels.values()) - {""}) if labels else []
        self.asked = 0

    def __len__(self) -> int:
        return len(self.keys)

    def manifest_sha256(self) -> str:
        return "|".join(self.keys)

    def photo(self, index: int) -> Image.Image:
        photo = self._photos[self.keys[index]]
        if photo is None:
            raise ImageError(f"{self.keys[index]}: not an image")
        return photo

    def frames(
        self,
        preprocessing: Preprocessing,
        indices: Iterable[int],
        *,
        threads: int = 2,
        unreadable: list[Any] | None = None,
    ) -> Iterator[tuple[int, np.ndarray]]:
        for index in indices:
            self.asked += 1
            try:
                frame = preprocessing.frame(self.photo(index))
            except ImageError:
                if unreadable is not None:
                    unreadable.append(index)
                continue
            yield index, frame


def patches_by_sorting(network: Any, dataset: Any, layers: list[str], top: int, by: str = "maximum") -> pd.DataFrame:
    """The table of patches without its boxes, from torch's maps, one image at a time."""
    rows = []
    for tap in layers:
        layer = network.card.layer(tap)
        found: list[list[tuple[Any, ...]]] = [[] for _ in range(layer.units)]
        for index, key in enumerate(dataset.keys):
            try:
                frame = network.card.preprocessing.frame(dataset.photo(index))
            except ImageError:
                continue
            inputs = torch.from_numpy(network.card.preprocessing.normalise(frame)[None])
            maps = maps_of(forward_taps(network.module(), inputs, [tap])[tap].detach().numpy(), layer)
            score, row, column = maximum_of(maps)
            if by == "mean":
                score = np.nanmean(maps, axis=(2, 3))
            for unit in range(layer.units):
                if not np.isnan(score[0, unit]):
                    found[unit].append((-score[0, unit], key, row[0, unit], column[0, unit]))
        for unit, entries in enumerate(found):
            for rank, (score, key, y, x) in enumerate(sorted(entries)[:top]):
                rows.append((tap, unit, rank, -score, key, y, x))
    return pd.DataFrame(rows, columns=["layer", "unit", "rank", "score", "image", "y", "x"])
