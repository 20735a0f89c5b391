"""Where the positions of a layer's maps lie in the network's frame."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fovea.engine.panels import Cells
from fovea.models.card import Layer


def map_cells(layer: Layer, frame: tuple[int, int]) -> list[tuple[NDArray[np.float64], float]]:
    """Where the layer's positions lie in the (H, W) frame: for rows and for columns their first edges and height
    or width in pixels.

    A position's cell is one stride large, about the middle of its receptive field; where every position sees
    everything the cells share the frame evenly.
    """
    field = layer.receptive_field
    sides = []
    for side, count in enumerate(layer.grid):
        steps = np.arange(count, dtype=np.float64)
        stride = 0.0 if field is None or field.whole else float(field.stride[side])
        if field is None or not stride:
            sides.append((steps * frame[side] / count, frame[side] / count))
        else:
            sides.append((field.offset[side] + (field.size[side] - stride) / 2 + steps * stride, stride))
    return sides


def clickable_cells(layer: Layer, frame: tuple[int, int], values: str) -> Cells:
    """A panel's cells over the frame: their corners are the arrays `ys` and `xs`, what is shown the array `values`."""
    (_, height), (_, width) = map_cells(layer, frame)
    return Cells(
        ys="ys",
        xs="xs",
        height=max(1, round(height)),
        width=max(1, round(width)),
        values=values,
        label="activation",
    )
