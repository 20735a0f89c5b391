"""The patches that a mining run found for a layer, beside the layer's filters: what a filter's weights cannot tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.kernels.drawing import enlarged, tile_side
from fovea.engine.look.kernels.weights import same_units
from fovea.engine.look.mining.mined import MINING, Mined, mined_gallery
from fovea.engine.panels import GalleryPanel, Panel, TextPanel
from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.method import Job, Result

MINED_PIXELS = 8_000_000
"""The best patches of all filters are kept with the run within so many pixels, best first."""
SHOWN = 9
"""At most so many patches are shown for each filter."""


def add_best_patches(job: Job[Any], layer: str, result: Result) -> Panel:
    """Image `mined.jpg`, table `mined` and the panel that shows them: the best patches of each filter, if a run has
    mined them; else the panel that says how to mine."""
    newest = mined_gallery(job, same_units(job.network, layer))
    if newest is None:
        return how_to_mine(job, f"What excites it is not known yet: nobody has mined {layer}.", layer)
    mined, panel = newest
    units = job.card.layer(layer).units
    most = max(1, MINED_PIXELS // max(1, units * panel.tile**2))
    table, tiles = mined.pictures(panel, min(SHOWN, most))
    result.tables["mined"] = table.assign(tile=np.arange(len(table))).drop(columns=["layer"]).reset_index(drop=True)
    columns = square_columns(len(table), 64)
    result.images["mined.jpg"] = Sheet(panel.tile, columns).compose(tiles[int(tile)] for tile in table["tile"])
    return GalleryPanel(
        title="What excites it most",
        help=f"These are its best patches of {mined.run.record.subject}, mined at {panel.where['layer']}.",
        image="mined.jpg",
        table="mined",
        tile=panel.tile,
        columns=columns,
        group=("unit",),
        caption=tuple(name for name in ("score", "label", "image") if name in table),
    )


def how_to_mine(job: Job[Any], why: str, layer: str) -> Panel:
    """A line that says how to get what is missing."""
    command = f"python -m engine {MINING} --network {job.card.name} --layers {layer} --dataset NAME"
    return TextPanel(
        title="",
        help=f"{why} Open Patches, choose the layer {layer} and your images (or: {command}), then run this again.",
    )


def inputs_beside_patches(
    inputs: pd.DataFrame, pictures: NDArray[np.uint8], mined: Mined, panel: GalleryPanel
) -> tuple[pd.DataFrame, Sheet, NDArray[np.uint8]]:
    """Two tiles for each input channel of a unit: its weights, and its best patch of a mining run's gallery.

    `inputs`: input, norm, in the order of `pictures` (n, h, w, 3). Returns the table input, shows, weight, tile; how
    the tiles lie; and the sheet's pixels, uint8 (H, W, 3).
    """
    import pandas as pd

    best, tiles = mined.pictures(panel, 1)
    patch_of = dict(zip(best["unit"].astype(int), best["tile"].astype(int), strict=True))
    side = tile_side(pictures, panel.tile)
    drawn: list[NDArray[np.uint8]] = []
    rows = []
    for place, channel in enumerate(inputs["input"].astype(int)):
        text = f"norm {inputs['norm'][place]:.3g}"
        rows.append((channel, "weights", text, len(drawn)))
        drawn.append(enlarged(pictures[place][None], side)[0])
        if channel in patch_of:
            rows.append((channel, "best patch", text, len(drawn)))
            drawn.append(fit_tile(tiles[patch_of[channel]], side))
    sheet = Sheet(side, 2 * max(1, round(len(inputs) ** 0.5)))
    table = pd.DataFrame(rows, columns=["input", "shows", "weight", "tile"])
    return table, sheet, sheet.compose(drawn)
