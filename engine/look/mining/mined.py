"""What finished mining runs found: each unit's best patches. Whoever shows them or measures on them reads them here.

Mining itself is not repeated; a page, a method and a report know of the method that mines by `MINING` alone.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import FoveaError, OptionsError, UnsupportedError
from fovea.engine.panels import GalleryPanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.method import Job
    from fovea.engine.panels import RunView
    from fovea.models.card import Layer

MINING = "patches"
"""The method whose runs are read; its table of this name has a row for each patch of each unit."""
LOOKED_AT = 20
"""Mining runs in which one unit is looked for, newest first."""


@dataclass(frozen=True)
class Mined:
    """One finished mining run."""

    run: RunView

    @functools.cached_property
    def table(self) -> pd.DataFrame:
        """A row for each patch: layer, unit, rank (from 0), score, image, y, x, …. Raises StoreError."""
        return self.run.table(MINING)

    @property
    def layers(self) -> set[str]:
        """The layers that were mined."""
        return {str(name) for name in self.table["layer"].unique()}

    @property
    def top(self) -> int:
        """How many patches of each unit were kept."""
        return int(self.run.record.options["top"])

    @property
    def images(self) -> str:
        """The data set that was mined, as it was named."""
        return str(self.run.record.options["dataset"])

    def over(self, content: str) -> bool:
        """Whether the data set with this hash was mined."""
        return any(read.kind == "dataset" and read.sha256 == content for read in self.run.record.inputs)

    def best(self, layer: str, count: int) -> pd.DataFrame:
        """The `count` best patches of every unit of a layer, in the order of units and ranks."""
        table = self.table
        return table[(table["layer"] == layer) & (table["rank"] < count)].sort_values(["unit", "rank"])

    def gallery(self, layer: str) -> GalleryPanel | None:
        """The panel that shows the layer's patches."""
        shown = (panel for panel in self.run.record.panels if isinstance(panel, GalleryPanel))
        return next((panel for panel in shown if panel.where.get("layer") == layer), None)

    def pictures(self, panel: GalleryPanel, most: int) -> tuple[pd.DataFrame, dict[int, NDArray[np.uint8]]]:
        """Of a gallery the rows (unit, rank, score, tile, …) of the `most` best patches of each unit, and each tile."""
        table = panel.rows(self.run)
        table = table[table["rank"] < most]
        pixels = np.asarray(self.run.image(panel.image).convert("RGB"))
        sheet = panel.sheet(pixels.shape[1])
        return table, {int(tile): sheet.cut(pixels, int(tile)) for tile in table["tile"]}


@dataclass(frozen=True)
class BestPhoto:
    """The photo `frame` (H, W, C) as the network sees it, its key in the data set, and the run that found it."""

    frame: NDArray[np.uint8]
    image: str
    dataset: str
    run: str


def by_maximum(run: Any) -> bool:
    """Whether a mining run ranked images by the unit's maximum, and not by the mean of its map."""
    return bool(run.record.options.get("rank", "maximum") == "maximum")


def mined_runs(job: Job[Any]) -> Iterator[Mined]:
    """The finished mining runs of this network, newest first."""
    return (Mined(run) for run in job.finished_runs(MINING))


def mined_gallery(job: Job[Any], layers: Sequence[str]) -> tuple[Mined, GalleryPanel] | None:
    """The newest run that shows one of these layers, and its gallery; the first layer comes first."""
    newest: dict[str, tuple[Mined, GalleryPanel]] = {}
    for mined in mined_runs(job):
        for layer in layers:
            panel = mined.gallery(layer)
            if panel is not None:
                newest.setdefault(layer, (mined, panel))
        if layers and layers[0] in newest:
            break
    return next((newest[layer] for layer in layers if layer in newest), None)


def best_photo(job: Job[Any], layer: str, unit: int) -> BestPhoto | None:
    """The photo that the newest run with this unit found to excite it most, or None."""
    if job.open_dataset is None:
        return None
    for _, mined in zip(range(LOOKED_AT), mined_runs(job), strict=False):
        try:
            rows = mined.best(layer, 1)
            rows = rows[rows["unit"] == unit]
            if not rows.empty:
                dataset = job.dataset(mined.images)
                key = str(rows["image"].iloc[0])
                photo = dataset.photo(dataset.keys.index(key))
                return BestPhoto(job.card.preprocessing.frame(photo), key, dataset.name, mined.run.record.id)
        except (FoveaError, OSError, KeyError, ValueError):  # a data set may be gone, or a run be half imported
            continue
    return None


def mined_over(job: Job[Any], dataset: Dataset) -> list[Mined]:
    """The runs over this very data set that ranked its images by the unit's maximum, newest first."""
    content = dataset.manifest_sha256()
    over: list[Mined] = []
    for mined in mined_runs(job):
        with contextlib.suppress(FoveaError, KeyError):  # deleted or damaged since: another run may hold the same
            if mined.over(content) and by_maximum(mined.run) and mined.layers and mined.top:
                over.append(mined)
    return over


def mined_layers(mined: Sequence[Mined]) -> set[str]:
    """The layers that these runs tell of."""
    return set().union(*(run.layers for run in mined))


def best_patches(mined: Sequence[Mined], reference: str, layer: Layer, count: int) -> pd.DataFrame:
    """The `count` best patches of every unit of the layer; columns as the mining run has them: unit, rank, score, ….

    `reference` names the data set for the user. Raises UnsupportedError if no run has mined this layer, OptionsError
    if none kept so many patches.
    """
    of_layer = [run for run in mined if layer.name in run.layers]
    if not of_layer:
        others = sorted(mined_layers(mined))
        where = f" (only {', '.join(others)})" if others else ""
        raise UnsupportedError(
            f"layer {layer.name} has not been mined over {reference} yet{where}: run {MINING} with dataset "
            f"{reference} and layers {layer.name} first, then this again"
        )
    best = max(of_layer, key=lambda run: run.top)
    if best.top < count:
        raise OptionsError(
            f"{best.top} patches a unit were mined over {reference}: ask for at most {best.top} patches, or run "
            f"{MINING} with top {count} first"
        )
    return best.best(layer.name, count)
