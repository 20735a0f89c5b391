"""Signed attributions (C, H, W) as pictures for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from models.card import Layer


def signed_picture(values: NDArray[np.floating], clip: float = 99.8) -> NDArray[np.uint8]:
    """(C, H, W) to uint8 (H, W, 3): zero is grey, the `clip` percentile of |·| black or white; one channel is grey."""
    largest = float(np.percentile(np.abs(values), clip)) or float(np.abs(values).max()) or 1.0
    levels = np.clip(values / (2 * largest) + 0.5, 0, 1)
    picture = np.rint(np.moveaxis(levels, 0, -1) * 255).astype(np.uint8)
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else np.ascontiguousarray(picture[..., :3])


def as_colour(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 1 or more) as uint8 (H, W, 3)."""
    return np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame[..., :3]


def seen_box(layer: Layer, place: tuple[int, int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of what a position of the layer sees of a frame of `size` (H, W); all of it if unknown."""
    field = layer.receptive_field
    if place is None or field is None:
        return 0, 0, size[1], size[0]
    box = field.box(*place, size)
    return box if box[0] < box[2] and box[1] < box[3] else (0, 0, size[1], size[0])


def crop_tile(picture: NDArray[np.uint8], box: tuple[int, int, int, int], tile: int) -> NDArray[np.uint8]:
    """The box cut out of uint8 (H, W, 3) and brought into (tile, tile, 3), its shape kept on grey."""
    crop = Image.fromarray(picture).crop(box)
    scale = tile / max(crop.size)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    out = Image.new("RGB", (tile, tile), (128, 128, 128))
    out.paste(crop.resize(size, Image.Resampling.BICUBIC), ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return np.asarray(out)
