"""The slow, obvious reductions of a layer's output, in numpy."""

from __future__ import annotations

import numpy as np

from fovea.models.card import Layer


def maps_of(values: np.ndarray, layer: Layer) -> np.ndarray:
    """A layer's output (N, …) as maps (N, C, rows, columns)."""
    if layer.axes == "NHWC":
        return np.moveaxis(values, -1, 1)
    if layer.axes == "tokens":
        kept = values[:, layer.extra_tokens :]
        return np.moveaxis(kept, 1, 2).reshape(len(values), -1, *layer.grid)
    if layer.axes == "vector":
        return values.reshape(len(values), -1, 1, 1)
    return values


def maximum_of(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, row and column of each map's first largest value that is not NaN; the score is NaN if all are."""
    flat = maps.reshape(*maps.shape[:2], -1)
    score = np.fmax.reduce(flat, axis=2)
    row, column = np.divmod((flat == score[..., None]).argmax(axis=2), maps.shape[3])
    return score, row, column
