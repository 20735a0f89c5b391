"""Maps over the photo as small pictures of one scale: what speaks for a class in amber, what against it in blue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.explain.maps.pictures import as_colour
from fovea.engine.panels.sheet import fit_tile

TILE = 224
"""Side of a tile in pixels."""

FOR = np.array([[190.0, 70.0, 10.0], [255.0, 228.0, 120.0]])
AGAINST = np.array([[20.0, 80.0, 200.0], [140.0, 225.0, 255.0]])
"""Colours of the weakest and the strongest values."""


def scale_of(values: NDArray[Any]) -> float:
    """The value that is drawn at full strength: the 99.9th percentile of |·|, or the largest, or 1 for zeros."""
    magnitude = np.abs(np.asarray(values, np.float64))
    return float(np.quantile(magnitude, 0.999)) or float(magnitude.max()) or 1.0


def map_over_photo(frame: NDArray[np.uint8], values: NDArray[Any], scale: float | None = None) -> NDArray[np.uint8]:
    """The frame (H, W, C) in dim grey with a map (H, W) over it, uint8 (H, W, 3); `scale` is that of `scale_of`."""
    scale = scale_of(values) if scale is None else scale
    signed = np.clip(np.asarray(values, np.float64) / scale, -1.0, 1.0)[..., None]
    strength = np.abs(signed)
    grey = 0.6 * as_colour(frame).mean(axis=-1, keepdims=True)
    ends = np.where(signed[None] >= 0, FOR[:, None, None], AGAINST[:, None, None])
    colour = ends[0] + (ends[1] - ends[0]) * strength
    alpha = np.minimum(0.85, 1.5 * strength)
    return np.asarray(np.rint(grey * (1 - alpha) + colour * alpha), np.uint8)


def map_tile(frame: NDArray[np.uint8], values: NDArray[Any], scale: float) -> NDArray[np.uint8]:
    """The same, fitted into uint8 (TILE, TILE, 3)."""
    return fit_tile(map_over_photo(frame, values, scale), TILE)


def photo_tile(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame itself as a tile."""
    return fit_tile(np.ascontiguousarray(as_colour(frame)), TILE)
