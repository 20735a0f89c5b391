"""Maximally activating patches: the places of a data set that excite each unit most.

Zeiler and Fergus (2014), section 4, and Girshick et al., "Rich feature hierarchies" (2014), section 3.1: for
every unit the images with the largest spatial maximum, cropped to the receptive field at its position. One pass
over the data serves all layers; the maxima are taken inside the graph. One patch an image, so that nine patches
are nine images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fovea.engine.errors import DatasetError, UnsupportedError
from fovea.engine.look.mining.merge import HISTOGRAM_BINS, Partial, histogram_edges
from fovea.engine.look.mining.mined import MINING
from fovea.engine.look.mining.miner import KEPT_BYTES, SHARD, VERSION, Miner
from fovea.engine.look.mining.sheets import cut_sheets, sheet_name, tile_plan
from fovea.engine.look.mining.tables import patches_table, units_table, unreadable_table
from fovea.engine.look.probing.layers import last_of_each_resolution, with_units
from fovea.engine.method import Job, Method, Needs, Result
from fovea.engine.options import CommaList, DatasetKind, LayersKind, Options, option, parts_of
from fovea.engine.panels import GalleryPanel, Panel, TablePanel
from fovea.engine.panels.sheet import Sheet

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Card, Layer

PROCESS_BYTES, KEY_BYTES, SHEET_BYTES = 450_000_000, 300, 0.45
"""As measured: a process that has loaded all it needs, an image's key with its places in tables, a sheet's pixel."""


class PatchesOptions(Options):
    """Which units are looked at, on which images, and how many patches are kept."""

    dataset: str = option(
        "sample",
        "The data set that is mined: its name, or a folder or list of images. The sample photos are for a first look; "
        "take images like those that the network was trained on.",
        kind=DatasetKind(),
        min_length=1,
    )
    layers: CommaList = option(
        "",
        "The layers whose units are mined, separated by commas. One pass serves them all.",
        kind=LayersKind(),
        empty="the last layer of each of the deepest resolutions",
    )
    top: int = option(
        9,
        "How many patches are kept for each unit. Zeiler and Fergus (2014) show nine.",
        ge=1,
        le=100,
    )
    rank: Literal["maximum", "mean"] = option(
        "maximum",
        "What images are ranked by: the largest value in the unit's map, or the mean of its map. The mean prefers "
        "images that excite the unit everywhere, such as textures.",
    )
    batch: int = option(
        0,
        "How many images go through the network at a time. With 0 it is chosen by what runs the network: 4 or 8 on a "
        "processor, 64 on a graphics card. Lower it if memory runs out.",
        ge=0,
        le=1024,
        advanced=True,
    )
    threads: int = option(
        0,
        "How many threads decode images ahead of the network. With 0 there is one for each core.",
        ge=0,
        le=64,
        advanced=True,
    )


def chosen_layers(card: Card, layers: str | Iterable[str]) -> list[Layer]:
    """The named layers; without a name, the last layer of each of the deepest resolutions.

    Raises UnknownNameError, or UnsupportedError if one has no units.
    """
    chosen = [with_units(card, name) for name in parts_of(layers)] or last_of_each_resolution(card)
    if not chosen:
        hint = f"name layers, e.g. {card.layers[-1].name}" if card.layers else "choose another network"
        raise UnsupportedError(f"{card.name} has no layer whose units are maps: {hint}")
    return chosen


def check(card: Card, options: PatchesOptions) -> None:
    """Raises UnknownNameError or UnsupportedError if a layer cannot be mined."""
    chosen_layers(card, options.layers)


@dataclass(frozen=True)
class Findings:
    """The pass through the data set, and what it found of all shards together."""

    miner: Miner
    mined: Partial


def compute(job: Job[PatchesOptions]) -> Findings:
    """Mine the data set, going on where an interrupted run of the same request was.

    For every unit the `top` images by (-score, key); a score is the maximum of the unit's map, or its mean. Raises
    DatasetError if no image can be read.
    """
    miner = Miner(job, chosen_layers(job.card, job.options.layers))
    mined = miner.mine()
    if not mined.images:
        raise DatasetError(f"the data set {miner.dataset.name} has no readable image: {len(miner.dataset)} were tried")
    return Findings(miner, mined)


def report(job: Job[PatchesOptions], findings: Findings) -> Result:
    """Tables `patches`, `units`, `gallery`, `unreadable`; a sheet of crops for each layer.

    `patches`: layer, unit, rank (from 0), score (what images are ranked by), image (its key), y, x (the maximum's
    position in the layer's map), box_x0, box_y0, box_x1, box_y1 (its receptive field in the network's input,
    exclusive ends, clipped).
    Every unit has min(top, images) rows, dead ones too; an image whose map is all NaN for a unit has none.
    """
    miner, mined = findings.miner, findings.mined
    patches, units, unreadable = (table(miner, mined) for table in (patches_table, units_table, unreadable_table))
    if mined.unreadable:
        job.warn(f"{len(unreadable)} of {len(miner.dataset)} images could not be read: see the table unreadable.")
    sheets, gallery = cut_sheets(miner, patches)
    captions = ("score", "label", "image") if miner.dataset.labels else ("score", "image")
    last, tile = sheets[miner.layers[-1].name].pixels, sheets[miner.layers[-1].name].sheet.tile
    return Result(
        arrays={
            "histograms": np.concatenate([part.histogram for part in mined.layers.values()]).astype(np.int32),
            "histogram_edges": histogram_edges(),
        },
        tables={"patches": patches, "units": units, "unreadable": unreadable, "gallery": gallery},
        images={sheet_name(name): patch_sheet.pixels for name, patch_sheet in sheets.items()},
        panels=[
            *(_sheet_panel(name, patch_sheet.sheet, captions) for name, patch_sheet in sheets.items()),
            *_table_panels(bool(mined.unreadable)),
        ],
        summary=_summary(findings, units),
        preview=last[: 4 * tile, : 6 * tile],
    )


def _summary(findings: Findings, units: pd.DataFrame) -> dict[str, Any]:
    return {
        "images": findings.mined.images,
        "unreadable": len(findings.mined.unreadable),
        "layers": ", ".join(layer.name for layer in findings.miner.layers),
        "units": len(units),
        "dead units": int(units["dead"].sum()),
    }


def _sheet_panel(layer: str, sheet: Sheet, captions: tuple[str, ...]) -> Panel:
    return GalleryPanel(
        title=f"What excites the units of {layer}",
        help="For each unit these are the images with its largest activations, cut to what the unit sees there. "
        "Grey stands where the receptive field is not square.",
        image=sheet_name(layer),
        table="gallery",
        tile=sheet.tile,
        columns=sheet.columns,
        group=("layer", "unit"),
        caption=captions,
        where={"layer": layer},
    )


def _table_panels(unreadable: bool) -> list[Panel]:
    units = TablePanel(
        title="Units",
        help="Each row is a unit: its largest value, the mean of the images' maxima, the share of images where it is "
        "silent (it is never above zero), and the labels whose images excite it most.",
        table="units",
    )
    skipped = TablePanel(title="Unreadable images", help="These images were left out.", table="unreadable")
    return [units, skipped] if unreadable else [units]


def work(card: Card, options: PatchesOptions, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


def needs(card: Card, options: PatchesOptions, images: int) -> Needs:
    """Bytes of memory and of files. With the number of images only their keys grow, and the frames kept for crops."""
    from fovea.engine.look.probing.probe import batch_size, parallel_batches

    layers = chosen_layers(card, options.layers)
    units, top = sum(layer.units for layer in layers), min(options.top, images)
    height, width = card.preprocessing.size
    frame = height * width * card.preprocessing.channels
    parallel = parallel_batches()
    batch = options.batch or batch_size("cpu", parallel)
    maps = 4 * max(math.prod(layer.shape) for layer in card.layers)
    pixels = 0
    for layer in layers:
        tile, shown = tile_plan(layer.units, top)
        pixels += layer.units * shown * tile * tile
    memory = (
        PROCESS_BYTES
        + 12 * card.parameters  # torch's, the graph's, the session's
        + parallel * batch * (3 * maps + 4 * frame)
        + min(images * frame, KEPT_BYTES)
        + KEY_BYTES * images
        + units * (60 * top + 16 * SHARD + 32 * HISTOGRAM_BINS)
        + 3 * pixels
        + 350 * units * top
    )
    return Needs(memory, int(SHEET_BYTES * pixels) + 30 * units * top + 30 * units)


METHOD = Method(
    name=MINING,
    title="Exciting patches",
    verb="look",
    family="Patches",
    question="What excites it?",
    home="What excites it?",
    summary="Finds the places of a data set that excite each unit most, in one pass (Zeiler and Fergus 2014).",
    options=PatchesOptions,
    compute=compute,
    report=report,
    work=work,
    needs=needs,
    photo=False,
    long=True,
    version=VERSION,
    check=check,
    every_unit=True,
)
