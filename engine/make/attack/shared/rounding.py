"""An attack's change in whole grey levels, within its ball: only what an 8-bit picture can hold counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rounded_change(change: NDArray[Any], norm: float, epsilon: float) -> NDArray[Any]:
    """A change (..., C, H, W) of pixel values as whole grey levels, int, that stay in the ball.

    In L-infinity no level is above epsilon·255. In L2 the levels are rounded; where that makes a change too long, the
    values that grew most by it are rounded towards zero instead, as few as it takes.
    """
    levels: NDArray[Any] = np.rint(change * 255).astype(int)
    if norm == math.inf:
        most = math.floor(epsilon * 255 + 1e-6)
        return levels.clip(-most, most)
    pairs = zip(levels.reshape(-1, *levels.shape[-3:]), change.reshape(-1, *levels.shape[-3:]), strict=True)
    return np.stack([_shortened(whole, exact * 255, epsilon * 255) for whole, exact in pairs]).reshape(levels.shape)


def _shortened(levels: NDArray[Any], exact: NDArray[Any], radius: float) -> NDArray[Any]:
    """Rounded levels of one picture brought back to a length of at most `radius`."""
    excess = float((levels**2).sum()) - radius**2
    if excess <= 0:
        return levels
    sizes, flat = np.abs(levels).ravel(), levels.ravel().copy()
    grown = sizes - np.abs(exact).ravel()
    order = np.argsort(-grown, kind="stable")[: int((grown > 0).sum())]
    saved = np.cumsum(2 * sizes[order] - 1)
    chosen = order[: int(np.searchsorted(saved, excess)) + 1]
    flat[chosen] -= np.sign(flat[chosen])
    return flat.reshape(levels.shape)


def attacked_frames(frames: NDArray[np.uint8], changes: NDArray[Any], norm: float, epsilon: float) -> NDArray[np.uint8]:
    """Frames (N, H, W, C) with changes (N, C, H, W) of pixel values, rounded within the ball and the box."""
    levels = np.moveaxis(rounded_change(changes, norm, epsilon), 1, -1)
    return np.ascontiguousarray(np.clip(frames + levels, 0, 255).astype(np.uint8))
