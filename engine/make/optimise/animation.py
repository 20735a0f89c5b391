"""A short animation of a picture that grows: few small frames while it is made, one GIF at the end."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 224
FRAMES = 32
FRAME_MS = 80
LAST_MS = 2000


class Animation:
    """Keeps at most `frames` pictures, evenly spread over `steps` steps, none with a side over `side` pixels.

    So its memory does not grow with the run. Frames are chosen by their step, never by the clock: the same run
    gives the same bytes.
    """

    def __init__(self, steps: int, frames: int = FRAMES, side: int = SIDE) -> None:
        self.every = max(1, math.ceil(steps / max(1, frames)))
        self.side = side
        self.offered = 0
        self.kept: list[Image.Image] = []

    def due(self) -> bool:
        """Count a step; whether its picture is wanted."""
        self.offered += 1
        return (self.offered - 1) % self.every == 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Keep a picture, uint8 (H, W, 3), made small."""
        self.kept.append(self.small(Image.fromarray(pixels)))

    def small(self, picture: Image.Image) -> Image.Image:
        """The picture, no side of it over the animation's."""
        scale = self.side / max(picture.size)
        if scale >= 1:
            return picture
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        return picture.resize(size, Image.Resampling.BOX, reducing_gap=2.0)

    def gif(self, last: NDArray[np.uint8]) -> bytes:
        """The animation, ending on `last`, uint8 (H, W, 3) or (H, W), which stays for two seconds."""
        end = self.small(Image.fromarray(last).convert("RGB"))
        same_size = (frame.size == end.size for frame in self.kept)
        frames = [
            frame if same else frame.resize(end.size, Image.Resampling.BILINEAR)
            for frame, same in zip(self.kept, same_size, strict=True)
        ]
        colours = palette_of([*frames, end])
        mapped = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in (*frames, end)]
        buffer = io.BytesIO()
        durations = [FRAME_MS] * len(frames) + [LAST_MS]
        mapped[0].save(buffer, "GIF", save_all=True, append_images=mapped[1:], duration=durations, loop=0, disposal=1)
        return buffer.getvalue()


def palette_of(frames: Sequence[Image.Image]) -> Image.Image:
    """A picture whose palette serves all frames, which are of one size: cut from some of every frame's pixels, the last
    one's sixteen times as densely. A palette for each frame would take a hundred times as long."""
    *before, last = frames
    samples = [np.asarray(last)[::2, ::2], *(np.asarray(frame)[::8, ::8] for frame in before)]
    pixels = np.concatenate([sample.reshape(-1, 3) for sample in samples])
    return Image.fromarray(pixels[None]).quantize(255, Image.Quantize.MEDIANCUT)


def side_by_side(animations: Sequence[Animation], gap: int = 4) -> Animation:
    """Animations of pictures made one after the other as one in which they grow at once, in a row."""
    joined = Animation(1)
    for moment in zip(*(animation.kept for animation in animations), strict=False):
        joined.kept.append(in_a_row(moment, gap))
    joined.side = max((max(frame.size) for frame in joined.kept), default=SIDE)
    return joined


def in_a_row(pictures: Sequence[Image.Image], gap: int = 4) -> Image.Image:
    """Pictures beside each other on grey, as high as the highest."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    row = Image.new("RGB", (width, max(picture.height for picture in pictures)), (128, 128, 128))
    left = 0
    for picture in pictures:
        row.paste(picture, (left, 0))
        left += picture.width + gap
    return row
