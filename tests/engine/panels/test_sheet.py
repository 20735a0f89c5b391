"""Sheets: what is laid out can be cut out again."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fovea.engine.panels.sheet import Sheet, fit_tile, map_tiles, square_columns, unit_range


@pytest.mark.parametrize("gap", [0, 3])
def test_tiles_are_found_again(gap: int) -> None:
    tiles = [np.random.default_rng(i).integers(0, 256, (5, 5, 3), np.uint8) for i in range(7)]
    sheet = Sheet(5, 3, gap)
    pixels = sheet.compose(iter(tiles))
    assert pixels.shape == (3 * (5 + gap), 3 * (5 + gap), 3) == (*sheet.size(7), 3)
    for index, tile in enumerate(tiles):
        assert np.array_equal(sheet.cut(pixels, index), tile)
    assert (sheet.cut(pixels, 8) == 128).all()


def test_greys_and_nothing() -> None:
    assert (Sheet(4, 1).compose([np.full((4, 4), 9, np.uint8)]) == 9).all()
    assert Sheet(4, 2).compose([]).shape == (4, 8, 3)
    with pytest.raises(ValueError, match="tile 0 has shape"):
        Sheet(4, 1).compose([np.zeros((4, 5), np.uint8)])


def test_tiles_need_not_be_square() -> None:
    tiles = np.random.default_rng(0).integers(0, 256, (5, 3, 7, 3), np.uint8)
    sheet = Sheet(7, 2, height=3)
    pixels = sheet.compose(tiles)
    assert pixels.shape == (9, 14, 3)
    assert [sheet.place(index) for index in range(5)] == [(0, 0), (0, 7), (3, 0), (3, 7), (6, 0)]
    assert all(np.array_equal(sheet.cut(pixels, index), tile) for index, tile in enumerate(tiles))
    down, across = sheet.middles(np.arange(5))
    assert (down[4], across[4]) == (7.5, 3.5)


def test_a_fitted_picture_keeps_its_shape() -> None:
    tile = fit_tile(Image.new("RGB", (40, 20), "red"), 20)
    assert tile.shape == (20, 20, 3)
    assert (tile[10] == (255, 0, 0)).all()
    assert (tile[0] == 128).all()


def test_ranges() -> None:
    maps = np.array([[[0.0, 2.0]], [[-4.0, 4.0]], [[7.0, 7.0]], [[np.nan, 1.0]]], np.float32)
    assert np.allclose(unit_range(maps)[:, 0], [[0, 1], [0, 1], [0, 0], [0, 1]])
    assert np.allclose(unit_range(maps, "diverging")[:2, 0], [[0.5, 1], [0, 1]])
    assert np.allclose(unit_range(maps, together=True)[0, 0], [4 / 11, 6 / 11])


def test_map_tiles() -> None:
    tiles = map_tiles(np.array([[[0.0, 1.0], [2.0, 3.0]]]), 4)
    assert tiles.shape == (1, 4, 4)
    assert np.array_equal(tiles[0, ::2, ::2], [[0, 85], [170, 255]])
    assert [square_columns(n) for n in (0, 1, 5, 64, 5000)] == [1, 1, 3, 8, 32]
