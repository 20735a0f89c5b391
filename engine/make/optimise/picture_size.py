"""Pictures of another size than the network's input: whether it takes them, and photos brought to a size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fovea.engine.errors import ImageError, NetworkError, UnsupportedError
from fovea.engine.make.optimise.canvas import Normalise
from fovea.models.memory import out_of_memory
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.method import Job


def features_of(job: Job[Any], picture: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
    """The taps' outputs for a picture (N, C, H, W) in [0, 1], without gradient.

    Raises UnsupportedError, in one line, where the network does not take a picture of this size, NetworkError where
    the memory is too small for it.
    """
    values = Normalise(job.card.preprocessing, job.device)(picture)
    try:
        with torch.no_grad():
            return forward_taps(job.network.module(job.device), values, taps)
    except (RuntimeError, AssertionError, ValueError) as error:
        height, width = picture.shape[-2:]
        own = job.card.preprocessing.size
        if out_of_memory(error):
            raise NetworkError(f"the memory is too small for one pass at {height} x {width} pixels") from None
        if (height, width) == own:
            raise
        first = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise UnsupportedError(
            f"{job.card.name} does not take pictures of {height} x {width} pixels ({first}): "
            f"choose its own size, {own[0]} x {own[1]}"
        ) from None


LEAST_PHOTO = 16
"""A photo must have so many pixels on its short side, so that there is something to take over."""


def large_enough(photo: Image.Image, what: str) -> Image.Image:
    """The photo. Raises ImageError where it is too small for `what` it is needed."""
    if min(photo.size) < LEAST_PHOTO:
        raise ImageError(
            f"{what} needs a photo of at least {LEAST_PHOTO} x {LEAST_PHOTO} pixels, and this one has "
            f"{photo.width} x {photo.height}: choose a larger one"
        )
    return photo


def photo_pixels(job: Job[Any], photo: Image.Image, long_side: int) -> NDArray[np.uint8]:
    """The whole photo, its long side brought to `long_side` pixels, uint8 (H, W, C) with the network's channels."""
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[job.card.preprocessing.channels]
    scale = long_side / max(photo.size)
    size = (max(16, round(photo.width * scale)), max(16, round(photo.height * scale)))
    resized = photo.convert(mode).resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(resized, np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels
