"""Filters as pictures: grey levels, colour tiles, mosaics of input channels, and sheets of them all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.kernels.weights import LayerWeights
from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

LARGE_TILES = 600
"""So many filters at most are drawn in tiles of 96 pixels, more in smaller ones."""
SHEET_SIDE = 2400
"""A sheet of filters is at most about this wide, in pixels."""
SHEET_PIXELS = 30_000_000
"""Filters as large as the picture itself are drawn smaller where their sheet would have more pixels."""
SINGLE_TILE = 400
"""A filter that is drawn by itself is at least about this large."""


def grey_levels(values: NDArray[np.float32], scaling: str, axes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Weights as grey levels; `axes` are those of one filter.

    "filter": black and white are its smallest and largest weight. "all": those of all filters. "zero": zero is
    middle grey and the largest distance from it within the filter is black or white.
    """
    within = None if scaling == "all" else axes
    if scaling == "zero":
        largest = np.abs(values).max(axis=within, keepdims=True)
        share = values / np.where(largest > 0, 2 * largest, 1) + 0.5
    else:
        low, high = values.min(axis=within, keepdims=True), values.max(axis=within, keepdims=True)
        share = (values - low) / np.where(high > low, high - low, 1)
    return np.asarray(np.rint(share * 255), np.uint8)


def colour_tiles(filters: NDArray[np.float32], scaling: str) -> NDArray[np.uint8]:
    """Filters (units, 1, 3 or 4, rows, columns) as pictures uint8 (units, rows, columns, 3); alpha is left out."""
    levels = np.moveaxis(grey_levels(filters[:, :3], scaling, (1, 2, 3)), 1, -1)
    return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels


def mosaic_tiles(filters: NDArray[np.float32], scaling: str) -> NDArray[np.uint8]:
    """Filters (units, inputs, rows, columns) as one square picture each, a grey tile for every input channel."""
    units, inputs, rows, columns = filters.shape
    side = max(rows, columns)
    across = int(np.ceil(np.sqrt(inputs)))
    sheet = Sheet(side, across, 1 if side > 1 else 0)
    levels = grey_levels(filters, scaling, (1, 2, 3))
    whole = sheet.size(across * across)[0] - sheet.gap
    pictures = np.full((units, whole, whole), 160, np.uint8)
    for index in range(inputs):
        top, left = sheet.place(index)
        pictures[:, top : top + rows, left : left + columns] = levels[:, index]
    return np.repeat(pictures[..., None], 3, axis=-1)


def enlarged(pictures: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """Pictures (n, h, w, 3) by whole pixels into the middle of tiles (n, tile, tile, 3)."""
    count, height, width, _ = pictures.shape
    factor = max(1, tile // max(height, width))
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)[:, :tile, :tile]
    tiles = np.full((count, tile, tile, 3), 128, np.uint8)
    top, left = (tile - large.shape[1]) // 2, (tile - large.shape[2]) // 2
    tiles[:, top : top + large.shape[1], left : left + large.shape[2]] = large
    return tiles


def tile_side(pictures: NDArray[np.uint8], least: int = 48) -> int:
    """A tile that holds the pictures enlarged by a whole factor."""
    side = int(max(pictures.shape[1:3]))
    return side * max(1, -(-least // side))


def single_tile(filter_values: NDArray[np.float32], scaling: str) -> NDArray[np.uint8]:
    """One filter (1, 3 or 4, rows, columns) as a large picture, uint8 (side, side, 3)."""
    picture = colour_tiles(filter_values[None], scaling)
    return np.asarray(enlarged(picture, tile_side(picture, SINGLE_TILE))[0])


def filter_pictures(weights: LayerWeights, order: NDArray[np.int64], scaling: str) -> NDArray[np.uint8]:
    """The filters in that order as pictures (units, rows, columns, 3)."""
    if weights.colours:
        return colour_tiles(weights.pictures[order], scaling)
    return mosaic_tiles(weights.values[order], scaling)


def filters_sheet(pictures: NDArray[np.uint8], gap: int = 0) -> tuple[Sheet, NDArray[np.uint8]]:
    """The pictures (n, h, w, 3) as tiles with `gap` pixels of white between them: how they lie, and the sheet's pixels,
    uint8 (H, W, 3)."""

    most = max(24, math.isqrt(SHEET_PIXELS // max(1, len(pictures))))
    if max(pictures.shape[1:3]) > most:
        pictures = np.stack([fit_tile(picture, most) for picture in pictures])
    tile = tile_side(pictures, 96 if len(pictures) <= LARGE_TILES else 48)
    sheet = Sheet(tile, square_columns(len(pictures), max(1, SHEET_SIDE // tile)), gap)
    return sheet, sheet.compose(enlarged(pictures, tile), background=255)
