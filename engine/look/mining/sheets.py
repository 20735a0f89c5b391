"""The patches of a mining run as pictures: a sheet of crops for each layer, drawn in a second pass over the images."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.mining.miner import Miner
from fovea.engine.panels.sheet import Sheet

if TYPE_CHECKING:
    import pandas as pd

TILES = (64, 48, 32, 24)
"""The sides of tiles, in pixels; the largest is taken with which a layer's sheet stays within bounds."""
SHEET_PIXELS = 45_000_000
"""A sheet of crops is kept below this, by smaller tiles and then by fewer of them: browsers decode it whole."""
SHEET_WIDTH = 4096
"""A row of a sheet is at most about so many pixels wide, and holds units as a whole."""
BACKGROUND = 128
"""The grey around a crop that is not square."""
AT_ONCE = 32
"""So many images are cut at once."""


def tile_plan(units: int, top: int) -> tuple[int, int]:
    """The tile's side and the patches drawn for each unit, so that a layer's sheet stays within bounds."""
    for tile in TILES:
        if units * top * tile * tile <= SHEET_PIXELS:
            return tile, top
    return TILES[-1], max(1, SHEET_PIXELS // (units * TILES[-1] ** 2))


@dataclass(frozen=True)
class PatchSheet:
    """A layer's crops: how their tiles lie on the `sheet`, its `pixels` uint8 (H, W, 3), and how many patches of each
    unit are `shown`; tile unit * `shown` + rank is that patch."""

    sheet: Sheet
    pixels: NDArray[np.uint8]
    shown: int

    def put(self, index: int, crop: NDArray[np.uint8]) -> None:
        """Draw a crop (h, w, 3) into the middle of a tile."""
        height, width = crop.shape[:2]
        top, left = (self.sheet.tile - height) // 2, (self.sheet.tile - width) // 2
        self.sheet.cut(self.pixels, index)[top : top + height, left : left + width] = crop


def _empty_sheet(units: int, top: int) -> PatchSheet:
    tile, shown = tile_plan(units, top)
    sheet = Sheet(tile, shown * max(1, SHEET_WIDTH // (shown * tile)))
    return PatchSheet(sheet, np.full((*sheet.size(units * shown), 3), BACKGROUND, np.uint8), shown)


def cut_sheets(miner: Miner, patches: pd.DataFrame) -> tuple[dict[str, PatchSheet], pd.DataFrame]:
    """Each layer's sheet by the layer's name, and the table that tells which tile is which patch: layer, unit, rank,
    score, image, tile, and label where there are labels. `patches` is the table of `patches_table`."""
    sheets: dict[str, PatchSheet] = {}
    tiles = np.full(len(patches), -1, np.int64)
    for layer in miner.layers:
        mine = (patches["layer"] == layer.name).to_numpy()
        layer_sheet = _empty_sheet(layer.units, int(patches.loc[mine, "rank"].max()) + 1 if mine.any() else 1)
        drawn = mine & (patches["rank"] < layer_sheet.shown).to_numpy()
        tiles[drawn] = (patches["unit"] * layer_sheet.shown + patches["rank"])[drawn]
        sheets[layer.name] = layer_sheet
    _cut(miner, patches, tiles, sheets)
    return sheets, _gallery_table(miner, patches, tiles)


def _cut(miner: Miner, patches: pd.DataFrame, tiles: NDArray[np.int64], sheets: dict[str, PatchSheet]) -> None:
    """Draw every patch into its tile; -1 is none."""
    from fovea.engine.look.probing.probe import cores

    index_of = {key: index for index, key in enumerate(miner.dataset.keys)}
    drawn_on: dict[int, list[int]] = defaultdict(list)
    for patch, key in enumerate(patches["image"]):
        if tiles[patch] >= 0:
            drawn_on[index_of[key]].append(patch)
    layers, tile_of = patches["layer"].tolist(), tiles.tolist()
    boxes = patches[["box_x0", "box_y0", "box_x1", "box_y1"]].to_numpy().tolist()

    def draw(image: tuple[int, NDArray[np.uint8]]) -> None:
        """Cut all patches out of one image. Units of a layer often share a place: each is cut out once."""
        index, frame = image
        picture = _rgb(frame)
        crops: dict[tuple[int, ...], NDArray[np.uint8]] = {}
        for patch in drawn_on[index]:
            tile = sheets[layers[patch]].sheet.tile
            key = (tile, *boxes[patch])
            if key not in crops:
                crops[key] = crop_within(picture, boxes[patch], tile)
            sheets[layers[patch]].put(tile_of[patch], crops[key])

    progress = miner.job.progress.span(0.98, 1.0)
    with ThreadPoolExecutor(cores(), thread_name_prefix="crop") as pool:
        frames = miner.frames_again(sorted(drawn_on))
        done = 0
        while some := list(islice(frames, AT_ONCE)):
            list(pool.map(draw, some))
            done += len(some)
            progress(done / len(drawn_on), "cutting out the patches")


def _gallery_table(miner: Miner, patches: pd.DataFrame, tiles: NDArray[np.int64]) -> pd.DataFrame:
    table = patches[["layer", "unit", "rank", "score", "image"]].assign(tile=tiles)
    if miner.dataset.labels:
        label_of = dict(zip(miner.dataset.keys, miner.dataset.labels, strict=True))
        table["label"] = [label_of[key] for key in table["image"]]
    return table[table["tile"] >= 0].reset_index(drop=True)


def sheet_name(layer: str) -> str:
    """The file name of a layer's sheet of crops."""
    return f"patches-{re.sub(r'[^A-Za-z0-9]+', '_', layer)}.jpg"


def _rgb(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as RGB uint8 (H, W, 3)."""
    return np.repeat(frame[..., :1], 3, axis=2) if frame.shape[2] < 3 else frame[..., :3]


def crop_within(picture: NDArray[np.uint8], box: Sequence[int], tile: int) -> NDArray[np.uint8]:
    """The box (x0, y0, x1, y1) of a picture, uint8 (H, W, 3), its shape kept, as the largest uint8 (h, w, 3) that a
    square tile of side `tile` holds."""
    import cv2

    x0, y0, x1, y1 = box
    scale = tile / max(x1 - x0, y1 - y0)
    size = max(1, round((x1 - x0) * scale)), max(1, round((y1 - y0) * scale))
    # Single pixels of a small field should be seen as such; a large field is averaged.
    how = cv2.INTER_NEAREST_EXACT if scale >= 3 else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture[y0:y1, x0:x1], size, interpolation=how), np.uint8)
