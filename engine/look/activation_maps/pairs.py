"""Two sets of maps side by side on one scale, over the two photos that they are of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.activation_maps.cells import map_cells

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Layer

SPACE = 4
"""Pixels between two photos at least."""


@dataclass(frozen=True)
class Pair:
    """`maps` (n, h, 2w + gap): row k shows unit `units[k]` of the first beside `others[k]` of the second, the columns
    between them as low as the lowest of both. `gap` in columns."""

    maps: NDArray[np.float32]
    units: NDArray[np.int64]
    others: NDArray[np.int64]
    gap: int

    def table(self) -> pd.DataFrame:
        """pair (the row of `maps`), and both units with their largest values."""
        import pandas as pd

        width = (self.maps.shape[2] - self.gap) // 2
        sides = (self.maps[:, :, :width], self.maps[:, :, -width:])
        first, second = (side.max(axis=(1, 2)) for side in sides)
        return pd.DataFrame(
            {
                "pair": np.arange(len(self.maps)),
                "unit": self.units,
                "maximum": first,
                "second unit": self.others,
                "second maximum": second,
            }
        )


def pair_up(
    first: NDArray[np.float32], second: NDArray[np.float32], order: NDArray[np.int64], gap: int, *, alike: bool
) -> Pair:
    """Maps (C, h, w) beside maps (D, i, j).

    `alike`: unit i beside unit i, in `order`. Else the strongest beside the strongest and so on, as many as both have.
    The second's maps are brought to the first's rows and columns by taking the nearest.
    """
    units = others = order
    if not alike:
        count = min(len(first), len(second))
        units, others = (np.argsort(-maps.max(axis=(1, 2)), kind="stable")[:count] for maps in (first, second))
    left, right = first[units], _resized(second[others], first.shape[1:])
    low = np.minimum(left.min(axis=(1, 2)), right.min(axis=(1, 2)))[:, None, None]
    between = np.broadcast_to(low, (len(left), left.shape[1], gap))
    return Pair(np.concatenate([left, between, right], axis=2), units, others, gap)


def _resized(maps: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    rows, columns = (
        ((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64)
        for wanted, count in zip(size, maps.shape[1:], strict=True)
    )
    return maps[:, rows][:, :, columns]


def gap_between(layer: Layer, frame: tuple[int, int]) -> tuple[int, int]:
    """The columns of a map, and the pixels of the photos, that two of them stand apart: so many that the cells of the
    second map lie in the second photo just as those of the first in the first."""
    step, count, width = map_cells(layer, frame)[1][1], layer.grid[1], frame[1]
    gap = max(1, math.ceil((width + SPACE - count * step) / step))
    return gap, round((count + gap) * step) - width


def photos_beside(first: NDArray[np.uint8], second: NDArray[np.uint8], gap: int) -> NDArray[np.uint8]:
    """Two frames (H, W, C), the second brought to the first's size, `gap` white pixels apart: (H, 2W + gap, 3)."""
    from PIL import Image

    left, right = (np.asarray(_colours(frame)) for frame in (first, second))
    if right.shape != left.shape:
        size = (left.shape[1], left.shape[0])
        right = np.asarray(Image.fromarray(right).resize(size, Image.Resampling.BILINEAR))
    between = np.full((len(left), gap, 3), 255, np.uint8)
    return np.concatenate([left, between, right], axis=1)


def _colours(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame of 1, 3 or 4 channels as three."""
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame[:, :, :3]
