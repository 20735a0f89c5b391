"""Pixels as pictures: what is saved of a result, and the small ones that lists show."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fovea.engine.errors import StoreError

PREVIEW = 640
"""The longest side of preview.png, in pixels."""


def as_picture(pixels: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """uint8 (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) as Pillow's. Raises StoreError for anything else."""
    if isinstance(pixels, Image.Image):
        return pixels
    array = np.asarray(pixels)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise StoreError(f"a picture must be uint8 (H, W) or (H, W, 3), not {array.dtype} {array.shape}")
    return Image.fromarray(np.ascontiguousarray(array))


def small_picture(pixels: NDArray[np.uint8] | Image.Image) -> Image.Image:
    """A copy with its longest side at most PREVIEW pixels."""
    picture = as_picture(pixels).copy()
    if picture.mode not in ("L", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    picture.thumbnail((PREVIEW, PREVIEW))
    return picture


def png_bytes(picture: Image.Image, level: int) -> bytes:
    """A picture as PNG; `level` of compression from 0 to 9."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=level)
    return buffer.getvalue()
