"""The slow, obvious reductions of a layer's output, in numpy."""

from __future__ import annotations

import numpy as np

from models.card import Layer


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
    count, units = maps.shape[:2]
    score = np.full((count, units), np.nan, maps.dtype)
    row, column = np.zeros((count, units), int), np.zeros((count, units), int)
    for n in range(count):
        for c in range(units):
            known = maps[n, c][~np.isnan(maps[n, c])]
            if known.size:
                score[n, c] = known.max()
                row[n, c], column[n, c] = np.argwhere(maps[n, c] == score[n, c])[0]
    return score, row, column
