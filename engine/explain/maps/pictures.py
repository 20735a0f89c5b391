"""Signed attributions (C, H, W) as pictures for people."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from fovea.models.card import Layer


def signed_picture(values: NDArray[np.floating], clip: float = 99.8) -> NDArray[np.uint8]:
    """(C, H, W) to uint8 (H, W, 3): zero is grey, the `clip` percentile of |·| black or white; one channel is grey."""
    largest = float(np.percentile(np.abs(values), clip)) or float(np.abs(values).max()) or 1.0
    levels = np.clip(values / (2 * largest) + 0.5, 0, 1)
    picture = np.rint(np.moveaxis(levels, 0, -1) * 255).astype(np.uint8)
    return np.repeat(picture, 3, axis=-1) if picture.shape[-1] == 1 else np.ascontiguousarray(picture[..., :3])


def as_colour(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame (H, W, 1 or more) as uint8 (H, W, 3)."""
    return np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame[..., :3]


def seen_box(layer: Layer, position: tuple[int, int] | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) of what a position of the layer sees of a frame of `size` (H, W); all of it if unknown."""
    field = layer.receptive_field
    if position is None or field is None:
        return 0, 0, size[1], size[0]
    box = field.box(*position, size)
    return box if box[0] < box[2] and box[1] < box[3] else (0, 0, size[1], size[0])


def crop_tile(picture: NDArray[np.uint8], box: tuple[int, int, int, int], tile: int) -> NDArray[np.uint8]:
    """The box cut out of uint8 (H, W, 3) and brought into (tile, tile, 3), its shape kept on grey."""
    crop = Image.fromarray(picture).crop(box)
    scale = tile / max(crop.size)
    size = (max(1, round(crop.width * scale)), max(1, round(crop.height * scale)))
    out = Image.new("RGB", (tile, tile), (128, 128, 128))
    out.paste(crop.resize(size, Image.Resampling.BICUBIC), ((tile - size[0]) // 2, (tile - size[1]) // 2))
    return np.asarray(out)


def crop_signed(values: NDArray[np.floating], box: tuple[int, int, int, int], tile: int) -> NDArray[np.uint8]:
    """The box of signed values (C, H, W) as a picture of its own scale, brought into (tile, tile, 3)."""
    x0, y0, x1, y1 = box
    return crop_tile(signed_picture(values[:, y0:y1, x0:x1]), (0, 0, x1 - x0, y1 - y0), tile)


def labelled_grid(
    rows: Sequence[Sequence[NDArray[np.uint8]]],
    row_names: Sequence[str] = (),
    column_names: Sequence[str] = (),
    together: int = 1,
) -> NDArray[np.uint8]:
    """Rows of square tiles as one figure on white, uint8 (H, W, 3), with names at the left of rows and over columns.

    `together` neighbours of a row stand close, so that pairs are seen as pairs.
    """
    tile = rows[0][0].shape[0]
    font = ImageFont.load_default(size=min(22, max(11, tile // 6)))
    lines = [line for name in row_names for line in name.split("\n")]
    left = max((math.ceil(font.getlength(line)) for line in lines), default=0) + (18 if lines else 0)
    top = tile // 5 if column_names else 0
    close, apart = 2, max(6, tile // 12)
    columns = max(len(row) for row in rows)
    at = [left + column * (tile + close) + column // together * (apart - close) for column in range(columns)]
    figure = Image.new("RGB", (at[-1] + tile, top + len(rows) * (tile + apart) - apart), "white")
    draw = ImageDraw.Draw(figure)
    for x, name in zip(at, column_names, strict=False):
        draw.text((x + tile / 2, top / 2), name, "black", font, anchor="mm")
    for index, row in enumerate(rows):
        y = top + index * (tile + apart)
        if row_names:
            draw.multiline_text((left - 10, y + tile / 2), row_names[index], "black", font, anchor="rm", align="right")
        for x, picture in zip(at, row, strict=False):
            figure.paste(Image.fromarray(picture), (x, y))
    return np.asarray(figure)
