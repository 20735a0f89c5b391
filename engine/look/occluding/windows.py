"""The windows of an occlusion: where they lie in the frame, and what their drops say of every pixel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def corners(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """The first pixels of the windows along one side of the frame; the last window is clipped at the edge."""
    steps = -(-(length - window) // stride)
    return np.arange(steps + 1, dtype=np.int64) * stride


def mean_drop(
    drop: NDArray[np.float32], ys: NDArray[np.int64], xs: NDArray[np.int64], window: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """For every pixel of a (H, W) frame the mean drop of the windows that cover it, float32 (H, W).

    Windows whose drop is not known yet (NaN) are left out; a pixel under no known window is 0.
    """
    total, count = np.zeros(size), np.zeros(size)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            if not np.isnan(drop[row, column]):
                total[y : y + window, x : x + window] += drop[row, column]
                count[y : y + window, x : x + window] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def overlay(frame: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame in grey with a map over it, uint8 (H, W, 3): red where the score falls, blue where it rises."""
    grey = frame[..., :3].mean(axis=-1, keepdims=True)
    strength = heatmap / max(float(np.abs(heatmap).max()), 1e-12)
    colour = np.where(strength[..., None] >= 0, np.array([214, 39, 40]), np.array([31, 119, 180]))
    alpha = 0.75 * np.abs(strength)[..., None]
    return np.asarray(np.rint(grey * (1 - alpha) + colour * alpha), np.uint8)
