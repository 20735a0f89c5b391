"""Sheets: many small pictures laid out as one, so that a run keeps (and a browser fetches) a single file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

BACKGROUND = 128
"""The grey of tiles that are not there and of what a fitted picture leaves free."""


def compose_sheet(
    tiles: Iterable[NDArray[np.uint8]], tile: int, columns: int, *, gap: int = 0, background: int = BACKGROUND
) -> NDArray[np.uint8]:
    """The tiles row by row as one picture, uint8 (rows * (tile + gap), columns * (tile + gap), 3).

    Each tile is uint8 (tile, tile, 3) or (tile, tile); with `gap` a margin of so many pixels follows each on its
    right and below. No tiles give one empty row. Raises ValueError on a tile of another shape.
    """
    pitch = tile + gap
    found = list(tiles)
    rows = max(1, math.ceil(len(found) / columns))
    sheet = np.full((rows * pitch, columns * pitch, 3), background, np.uint8)
    for index, picture in enumerate(found):
        if picture.shape[:2] != (tile, tile):
            raise ValueError(f"tile {index} has shape {picture.shape}, expected ({tile}, {tile}, 3)")
        y, x = (index // columns) * pitch, (index % columns) * pitch
        sheet[y : y + tile, x : x + tile] = picture if picture.ndim == 3 else picture[..., None]
    return sheet


def cut_tile(sheet: NDArray[np.uint8], index: int, tile: int, columns: int, *, gap: int = 0) -> NDArray[np.uint8]:
    """Tile `index` of a sheet, uint8 (tile, tile, 3): the inverse of `compose_sheet`."""
    y, x = (index // columns) * (tile + gap), (index % columns) * (tile + gap)
    return sheet[y : y + tile, x : x + tile]


def fit_tile(picture: Image.Image | NDArray[np.uint8], tile: int, background: int = BACKGROUND) -> NDArray[np.uint8]:
    """The whole picture inside a tile, its shape kept, uint8 (tile, tile, 3)."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    padded = ImageOps.pad(image.convert("RGB"), (tile, tile), Image.Resampling.BILINEAR, (background,) * 3)
    return np.asarray(padded, dtype=np.uint8)


def square_columns(count: int, most: int = 32) -> int:
    """How many tiles a row make a sheet of `count` tiles about square."""
    return max(1, min(most, math.ceil(math.sqrt(count))))


def unit_range(
    maps: NDArray[np.floating], scale: Literal["sequential", "diverging"] = "sequential", together: bool = False
) -> NDArray[np.float32]:
    """Maps (C, h, w) brought into [0, 1], each by its own values or all `together`.

    "sequential": smallest to largest. "diverging": zero stays at 0.5 and the largest distance from it goes to 0
    or 1. A flat map is 0 (sequential) or 0.5. NaN and infinities count as 0.
    """
    values = np.nan_to_num(np.asarray(maps, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    axes = None if together else tuple(range(1, values.ndim))
    if scale == "diverging":
        largest = np.abs(values).max(axis=axes, keepdims=True, initial=0)
        return np.asarray(values / np.where(largest > 0, 2 * largest, 1) + 0.5, np.float32)
    low, high = values.min(axis=axes, keepdims=True), values.max(axis=axes, keepdims=True)
    return np.asarray((values - low) / np.where(high > low, high - low, 1), np.float32)


def map_tiles(
    maps: NDArray[np.floating],
    tile: int,
    scale: Literal["sequential", "diverging"] = "sequential",
    together: bool = False,
    smooth: bool = False,
) -> NDArray[np.uint8]:
    """Maps (C, h, w), or (C, h, w, 3) of colours, as tiles uint8 (C, tile, tile) or (C, tile, tile, 3).

    Values are brought into range by `unit_range`, then enlarged by whole pixels, or smoothly.
    """
    levels = np.rint(unit_range(maps, scale, together) * 255).astype(np.uint8)
    how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    return np.stack([np.asarray(Image.fromarray(one).resize((tile, tile), how)) for one in levels])
