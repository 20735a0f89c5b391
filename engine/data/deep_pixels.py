"""Pictures of more than 8 bits a channel, or of floats, brought to 8 bits by one rule for grey and colour.

The darkest value becomes black and the brightest white; floats that all lie from 0 to 1 keep 0 as black and 1 as white.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROWS = 256
"""So many rows are scaled at a time, so that a large picture needs little beside itself."""
PNG_COLOUR, PNG_GREY_ALPHA, PNG_COLOUR_ALPHA = 2, 4, 6
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def is_deep_png(data: bytes) -> bool:
    """Whether it is a PNG of 16 bits a channel that Pillow would cut to 8: colour, or grey with alpha."""
    deep = (PNG_COLOUR, PNG_GREY_ALPHA, PNG_COLOUR_ALPHA)
    return data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 26 and data[24] == 16 and data[25] in deep


def read_deep_png(data: bytes) -> NDArray[Any]:
    """Its values, uint16 (H, W, 3 or 4), RGB. Raises ValueError where it is broken."""
    import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.ndim != 3:
        raise ValueError("its pixels cannot be decoded")
    order = [2, 1, 0, *range(3, values.shape[2])]
    return np.asarray(values[..., order])


class DeepTiff:
    """The first picture of a TIFF file whose pixels Pillow does not know, or would cut to 8 bits."""

    def __init__(self, data: bytes) -> None:
        """Reads the header alone. Raises ValueError where it is no such file."""
        import tifffile

        try:
            self._file = tifffile.TiffFile(io.BytesIO(data))
            self._page: Any = self._file.pages[0]
            self.dtype = np.dtype(self._page.dtype)
            shape, axes = tuple(int(side) for side in self._page.shape), str(self._page.axes)
        except (tifffile.TiffFileError, IndexError, TypeError, struct.error, KeyError, OverflowError) as error:
            raise ValueError(str(error)) from None
        if axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"its axes are {axes}, and a picture has rows, columns and colours")
        self._planes_first = axes == "SYX"
        self.channels = 1 if axes == "YX" else shape[0] if self._planes_first else shape[2]
        self.size = (shape[2], shape[1]) if self._planes_first else (shape[1], shape[0])
        """(width, height) in pixels."""
        self.deep = self.dtype.kind in "iufb" and (self.dtype.itemsize > 1 or self.dtype.kind in "if")
        self.white_is_zero = int(getattr(self._page, "photometric", 1)) == 0

    def values(self) -> NDArray[Any]:
        """Its values (H, W) or (H, W, channels). Raises ValueError where it is broken."""
        try:
            values = np.asarray(self._page.asarray())
        except Exception as error:  # tifffile raises whatever its decoders raise
            raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
        return np.moveaxis(values, 0, -1) if self._planes_first else values


def to_eight_bits(values: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """Values (H, W) or (H, W, C) as uint8 of the same shape, and in words the range that was taken.

    What is not finite counts as 0. A picture of one value is scaled by its type's own range.
    """
    floats = values.dtype.kind == "f"
    finite = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) if floats else values
    low, high = float(finite.min()), float(finite.max())
    told = f"from {low:.6g} to {high:.6g}"
    if floats and low >= 0 and high <= 1:
        low, high, told = 0.0, 1.0, "from 0 to 1"
    elif low == high:  # one value has no range of its own
        info = None if floats else np.iinfo(values.dtype)
        low, high = (0.0, 1.0) if info is None else (max(float(info.min), 0.0), float(info.max))
        low, high = min(low, float(finite.flat[0])), max(high, float(finite.flat[0]))
        told = f"from {low:.6g} to {high:.6g}"
    levels = np.empty(values.shape, np.uint8)
    for start in range(0, len(values), ROWS):
        part = finite[start : start + ROWS].astype(np.float64)
        levels[start : start + ROWS] = np.clip(np.rint((part - low) / (high - low) * 255), 0, 255)
    return levels, told


def as_rgb(values: NDArray[Any]) -> tuple[Image.Image, str]:
    """Values (H, W) or (H, W, 1 to 4) as an RGB picture, alpha laid over white; and what was done, in one sentence."""
    channels = 1 if values.ndim == 2 else values.shape[2]
    colours = values if values.ndim == 2 else values[..., : 3 if channels >= 3 else 1]
    levels, told = to_eight_bits(colours)
    if channels in (2, 4):
        alpha = values[..., -1].astype(np.float64)
        largest = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max)
        share = np.clip(np.nan_to_num(alpha) / largest, 0, 1)[..., None]
        levels = np.rint(levels * share + 255 * (1 - share)).astype(np.uint8)
    if levels.ndim == 3 and levels.shape[2] == 1:
        levels = levels[..., 0]
    note = f"its {values.dtype.name} pixels were brought to 8 bits: values {told} became black to white"
    return Image.fromarray(np.ascontiguousarray(levels)).convert("RGB"), note
