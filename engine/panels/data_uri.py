"""Pictures as data URIs: what a figure or a report shows is inside it."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

LONGEST = 1024
"""The longer side, in pixels, to which embedded pictures are made smaller."""


def data_uri(picture: Image.Image | NDArray[np.uint8], longest: int = LONGEST, lossy: bool | None = None) -> str:
    """A picture as a data URI, its longer side at most `longest` pixels.

    PNG while that is small or the picture has transparency, else JPEG; `lossy` decides it. An animation stays one.
    """
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if getattr(image, "is_animated", False):
        return _animation_uri(image)
    if image.mode not in ("RGB", "RGBA", "L"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if max(image.size) > longest:
        factor = longest / max(image.size)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.LANCZOS)
    if lossy is None:
        lossy = image.mode != "RGBA" and image.width * image.height > 320 * 320
    buffer = io.BytesIO()
    if lossy:
        image.convert("RGB").save(buffer, "JPEG", quality=88)
        return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.save(buffer, "PNG", compress_level=6)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _animation_uri(picture: Image.Image) -> str:
    """An animation as it is, whatever its size."""
    buffer = io.BytesIO()
    frames = [frame.copy() for frame in ImageSequence.Iterator(picture)]
    durations = [frame.info.get("duration", 100) for frame in frames]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return f"data:image/gif;base64,{base64.b64encode(buffer.getvalue()).decode()}"
