"""Nearest neighbours: the images whose last features are closest to a photo's, and those closest in pixels.

Krizhevsky, Sutskever and Hinton (2012), section 6.1: L2 in the space of the last features finds what means the
same, L2 in pixels only what looks the same. Features are pooled over space, and computed once for a data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, ItemKind, LabelKind, LayerKind, Options, option
from fovea.engine.panels import GalleryPanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.vectors.store import Features
    from fovea.models.card import Card

TILE = 128


class NeighborsOptions(Options):
    """Among which images, in which space, how many."""

    dataset: str = option(
        "sample", "the data set that is searched, a name or a folder", kind=DatasetKind(), min_length=1
    )
    layer: str = option("", "layer of the features (default: what the last weights read)", kind=LayerKind())
    k: int = option(12, "how many neighbours", ge=1, le=200)
    metric: Literal["l2", "cosine"] = option("l2", "distance of the features; pixels are always compared by L2")
    item: str = option("", "ask for the neighbours of this image of the data set instead of the photo", kind=ItemKind())
    label: str = option("", "search only images of this label", kind=LabelKind())
    map: Literal["pca", "tsne", "none"] = option(
        "pca", "the data set as a map: principal components, openTSNE, or no map", advanced=True
    )


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    from fovea.engine.look.vectors.store import check_layer

    check_layer(card, options.layer)


def run(job: Job) -> Result:
    """Tables `neighbors` and `pixel_neighbors`: rank (from 0), image, label, distance; array `query` (C,).

    With labels also table `accuracy` (k, features, pixels): how often the majority of the k nearest others is
    right. Table `map`: x, y, tile, image, label, prediction, neighbours (the label that they vote for), error.
    """
    from fovea.engine.look.vectors.space import add_accuracy, add_map
    from fovea.engine.look.vectors.store import dataset_features, open_source, small_pixels

    options = job.options
    dataset = job.dataset(options.dataset)
    frame, own = _query_frame(job, dataset)
    source = open_source(job)
    features = dataset_features(job, dataset, source)
    query = source.probe.run({"pixels": frame[None]}, batched=("pixels",))["features"].reshape(1, -1)
    allowed = _allowed(dataset, features, options.label, own)
    job.progress(0.75, "searching")
    result = Result(arrays={"query": query[0]})
    by_features = features.space(job, options.metric).nearest(query, options.k, allowed)
    by_pixels = features.pixel_space(job).nearest(small_pixels(frame)[None], options.k, allowed)
    for table, (found, distances) in (("neighbors", by_features), ("pixel_neighbors", by_pixels)):
        result.tables[table] = _neighbors_table(dataset, features, found[0], distances[0])
        _add_gallery(job, dataset, table, result)
    votes = add_accuracy(job, dataset, features, options.metric, result)
    add_map(job, dataset, features, options.map, votes, result)
    nearest = result.tables["neighbors"]
    if len(nearest) < options.k:
        job.warn(f"k: {options.k} were asked for, and there are {len(nearest)} images to choose from")
    result.summary = {"layer": source.name, "images": len(features), "nearest": "", "distance": None}
    if len(nearest):
        result.summary |= {"nearest": str(nearest["image"][0]), "distance": round(float(nearest["distance"][0]), 6)}
    if "accuracy" in result.tables:
        result.summary["right by 1 neighbour"] = round(float(result.tables["accuracy"]["features"][0]), 4)
        result.summary["by pixels"] = round(float(result.tables["accuracy"]["pixels"][0]), 4)
    result.preview = "neighbors"
    return result


def _query_frame(job: Job, dataset: Dataset) -> tuple[NDArray[np.uint8], int | None]:
    """The frame that is asked about, and its index if it is one of the data set's own."""
    if not job.options.item:
        return job.frame, None
    index = dataset.index_of(job.options.item)
    return job.card.preprocessing.frame(dataset.photo(index)), index


def _allowed(dataset: Dataset, features: Features, label: str, own: int | None) -> NDArray[np.int64] | None:
    """The rows that may be found: of one label, and not the query itself. None: all."""
    keep = np.ones(len(features.indices), bool)
    if label:
        if label not in dataset.classes:
            from fovea.engine.errors import unknown

            raise unknown("label", label, dataset.classes, f"data set {dataset.name}")
        keep &= np.array([dataset.label(int(index)) == label for index in features.indices])
    if own is not None:
        keep &= features.indices != own
    if not keep.any():
        raise OptionsError(f"item: {dataset.name} holds no other image to compare it with")
    return None if keep.all() else np.nonzero(keep)[0]


# --- tables and pictures


def _neighbors_table(
    dataset: Dataset, features: Features, found: NDArray[np.int64], distances: NDArray[np.float64]
) -> pd.DataFrame:
    import pandas as pd

    known = found >= 0
    indices = features.indices[found[known]]
    return pd.DataFrame(
        {
            "rank": np.arange(len(indices)),
            "image": [dataset.keys[index] for index in indices],
            "label": [dataset.label(int(index)) for index in indices],
            "distance": distances[known],
        }
    )


def _add_gallery(job: Job, dataset: Dataset, table: str, result: Result) -> None:
    """A sheet of the neighbours as the network sees them."""
    from fovea.engine.look.vectors.store import thumbnail
    from fovea.engine.panels.sheet import Sheet

    rows = result.tables[table]
    by_index = {dataset.index_of(key): rank for rank, key in enumerate(rows["image"])}
    tiles = [np.full((TILE, TILE, 3), 128, np.uint8) for _ in by_index]
    preprocessing = job.card.preprocessing
    for index, found in dataset.frames(preprocessing, list(by_index), threads=2, unreadable=[]):
        tiles[by_index[index]] = thumbnail(found, TILE)
    columns = max(1, min(6, len(tiles)))
    result.images[table] = Sheet(TILE, columns).compose(tiles)
    features = table == "neighbors"
    result.panels.append(
        GalleryPanel(
            title="Nearest by features" if features else "Nearest by pixels",
            help="The images whose features are closest to the photo's: what the network takes for alike."
            if features
            else "The same question asked of the pixels: what only looks alike.",
            image=table,
            table=table,
            tile=TILE,
            columns=columns,
            caption=("label", "distance", "image") if dataset.labels else ("distance", "image"),
            key="image",
            beside=not features,
        )
    )


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one an image and one for the photo."""
    return float(images + 1)


METHOD = Method(
    name="neighbors",
    title="Nearest neighbours",
    verb="look",
    family="Nearest neighbours",
    question="What does it take for alike?",
    summary="The images of a data set nearest to a photo by features and by pixels (Krizhevsky et al. 2012).",
    options=NeighborsOptions,
    compute=run,
    work=work,
    check=check,
)
