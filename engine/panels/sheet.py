"""Sheets: many small pictures laid out as one, so that a run keeps (and a browser fetches) a single file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

BACKGROUND = 128
"""The grey of tiles that are not there and of what a fitted picture leaves free."""


@dataclass(frozen=True)
class Sheet:
    """How tiles lie on a sheet: `columns` of them a row, each `tile` pixels wide, in the order of reading.

    A tile is square unless a `height` is told. `gap` pixels of margin follow each on its right and below.
    """

    tile: int
    columns: int
    gap: int = 0
    height: int = 0

    @property
    def pitch(self) -> tuple[int, int]:
        """The pixels from one tile to the next below it, and to the next on its right."""
        return (self.height or self.tile) + self.gap, self.tile + self.gap

    def rows(self, count: int) -> int:
        """How many rows `count` tiles take; none take one."""
        return max(1, -(-count // self.columns))

    def size(self, count: int) -> tuple[int, int]:
        """Height and width in pixels of a sheet of `count` tiles."""
        down, across = self.pitch
        return self.rows(count) * down, self.columns * across

    def place(self, index: int) -> tuple[int, int]:
        """The row and column of pixels at which tile `index` starts."""
        down, across = self.pitch
        return index // self.columns * down, index % self.columns * across

    def middles(self, indices: NDArray[np.integer]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Where the middles of these tiles lie, in pixels: downwards, and to the right."""
        down, across = self.pitch
        return (indices // self.columns + 0.5) * down, (indices % self.columns + 0.5) * across

    def compose(self, tiles: Iterable[NDArray[np.uint8]], background: int = BACKGROUND) -> NDArray[np.uint8]:
        """The tiles as one picture, uint8 (*self.size(count), 3).

        Each tile is uint8 (height, width, 3) or (height, width). No tiles give one empty row. Raises ValueError on a
        tile of another shape.
        """
        pictures = list(tiles)
        expected = (self.height or self.tile, self.tile)
        pixels = np.full((*self.size(len(pictures)), 3), background, np.uint8)
        for index, picture in enumerate(pictures):
            if picture.shape[:2] != expected:
                raise ValueError(f"tile {index} has shape {picture.shape}, expected ({expected[0]}, {expected[1]}, 3)")
            self.cut(pixels, index)[:] = picture if picture.ndim == 3 else picture[..., None]
        return pixels

    def cut(self, pixels: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Tile `index` of a sheet's pixels (H, W, 3), as a view onto them: uint8 (height, width, 3)."""
        top, left = self.place(index)
        return pixels[top : top + (self.height or self.tile), left : left + self.tile]


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
    return np.stack([np.asarray(Image.fromarray(level).resize((tile, tile), how)) for level in levels])
