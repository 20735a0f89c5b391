"""Nearest neighbours: the images whose last features are closest to a photo's, and those closest in pixels.

Krizhevsky, Sutskever and Hinton (2012), section 6.1: L2 in the space of the last features finds what means the
same, L2 in pixels only what looks the same. Features are pooled over space, and computed once for a data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError, unknown
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, ItemKind, LabelKind, LayerKind, Options, option
from fovea.engine.panels import GalleryPanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.feature_space.label_votes import LabelVotes
    from fovea.engine.look.feature_space.store import Features
    from fovea.models.card import Card

TILE = 128


class NeighborsOptions(Options):
    """Among which images, in which space, how many."""

    dataset: str = option(
        "sample",
        "The data set that is searched: its name, or a folder or list of images.",
        kind=DatasetKind(),
        min_length=1,
    )
    layer: str = option(
        "",
        "The layer whose features are compared, pooled over space.",
        kind=LayerKind(),
        empty="what the last layer of weights reads",
    )
    k: int = option(12, "How many neighbours are shown.", ge=1, le=200)
    metric: Literal["l2", "cosine"] = option(
        "l2",
        "The distance between features. L2 is that of Krizhevsky et al. (2012); cosine leaves the features' lengths "
        "out. Pixels are always compared by L2.",
    )
    item: str = option(
        "",
        "Ask for the neighbours of this image of the data set instead of the photo's.",
        kind=ItemKind(),
        empty="the photo",
    )
    label: str = option(
        "",
        "Search only the images that have this label.",
        kind=LabelKind(),
        empty="images of all labels",
    )
    map: Literal["pca", "tsne", "none"] = option(
        "pca",
        "How the data set is drawn as a map: pca shows the two directions in which images differ most, tsne keeps "
        "neighbours together and takes longer, none draws no map.",
        advanced=True,
    )


def check(card: Card, options: NeighborsOptions) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    from fovea.engine.look.feature_space.store import check_layer

    check_layer(card, options.layer)


@dataclass(frozen=True)
class Nearest:
    """The images nearest to the query, nearest first: their rows among the features, and their distances, both (k,)."""

    rows: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True)
class Findings:
    """The `query`'s features (C,), what is nearest by features and by pixels, how well neighbours tell the label, and
    the points (m, 2) of the map."""

    dataset: Dataset
    features: Features
    query: NDArray[np.float32]
    by_features: Nearest
    by_pixels: Nearest
    votes: LabelVotes | None
    points: NDArray[np.float64] | None


def compute(job: Job[NeighborsOptions]) -> Findings:
    """Compare the query with every image of the data set, by their features and by their pixels at 32 × 32."""
    from fovea.engine.look.feature_space.label_votes import label_votes
    from fovea.engine.look.feature_space.plane import map_points
    from fovea.engine.look.feature_space.store import dataset_features, open_source, small_pixels

    options = job.options
    dataset = job.dataset(options.dataset)
    frame, own = _query_frame(job, dataset)
    source = open_source(job, options.layer)
    features = dataset_features(job, dataset, source)
    query = source.probe.run({"pixels": frame[None]}, batched=("pixels",))["features"].reshape(1, -1)
    allowed = _allowed(dataset, features, options.label, own)
    job.progress(0.75, "searching")
    by_features = features.space(options.metric, job.progress).nearest(query, options.k, allowed)
    by_pixels = features.pixel_space(job.progress).nearest(small_pixels(frame)[None], options.k, allowed)
    votes = label_votes(dataset, features, options.metric, job.progress)
    points = map_points(job, features, options.map)
    return Findings(dataset, features, query[0], _first(by_features), _first(by_pixels), votes, points)


def _query_frame(job: Job[NeighborsOptions], dataset: Dataset) -> tuple[NDArray[np.uint8], int | None]:
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
            raise unknown("label", label, dataset.classes, f"data set {dataset.name}")
        keep &= np.array([dataset.label(int(index)) == label for index in features.indices])
    if own is not None:
        keep &= features.indices != own
    if not keep.any():
        raise OptionsError(f"item has nothing to be compared with: {dataset.name} holds no other image to choose from")
    return None if keep.all() else np.nonzero(keep)[0]


def _first(answer: tuple[NDArray[np.int64], NDArray[np.float64]]) -> Nearest:
    """What was found for the first question."""
    rows, distances = answer[0][0], answer[1][0]
    return Nearest(rows[rows >= 0], distances[rows >= 0])


def report(job: Job[NeighborsOptions], findings: Findings) -> Result:
    """Tables `neighbors` and `pixel_neighbors`: rank (from 0), image, label, distance; array `query` (C,).

    With labels also table `accuracy` (k, features, pixels): how often the majority of the k nearest others is
    right. Table `map`: x, y, tile, image, label, prediction, neighbours (the label that they vote for), error.
    """
    from fovea.engine.look.feature_space.label_votes import add_accuracy
    from fovea.engine.look.feature_space.plane import add_map

    dataset, features, votes = findings.dataset, findings.features, findings.votes
    result = Result(arrays={"query": findings.query}, preview="neighbors")
    nearest = _neighbors_table(dataset, features, findings.by_features)
    result.tables["neighbors"] = nearest
    _add_gallery(job, dataset, "neighbors", result)
    result.tables["pixel_neighbors"] = _neighbors_table(dataset, features, findings.by_pixels)
    _add_gallery(job, dataset, "pixel_neighbors", result)
    result.summary = {"layer": features.layer, "images": len(features), "nearest": "", "distance": None}
    if len(nearest):
        result.summary |= {"nearest": str(nearest["image"][0]), "distance": round(float(nearest["distance"][0]), 6)}
    if len(nearest) < job.options.k:
        job.warn(
            f"There are only {len(nearest)} images to choose from, fewer than the {job.options.k} that k asks for."
        )
    if votes is not None:
        add_accuracy(votes, result)
    if findings.points is not None:
        add_map(job.card, dataset, features, findings.points, votes, result)
    return result


def _neighbors_table(dataset: Dataset, features: Features, nearest: Nearest) -> pd.DataFrame:
    import pandas as pd

    indices = features.indices[nearest.rows]
    return pd.DataFrame(
        {
            "rank": np.arange(len(indices)),
            "image": [dataset.keys[index] for index in indices],
            "label": [dataset.label(int(index)) for index in indices],
            "distance": nearest.distances,
        }
    )


def _add_gallery(job: Job[NeighborsOptions], dataset: Dataset, table: str, result: Result) -> None:
    """A sheet of the neighbours as the network sees them."""
    from fovea.engine.look.feature_space.store import thumbnail
    from fovea.engine.panels.sheet import Sheet

    rows = result.tables[table]
    by_index = {dataset.index_of(key): rank for rank, key in enumerate(rows["image"])}
    tiles = [np.full((TILE, TILE, 3), 128, np.uint8) for _ in by_index]
    for index, frame in dataset.frames(job.card.preprocessing, list(by_index), threads=2, unreadable=[]):
        tiles[by_index[index]] = thumbnail(frame, TILE)
    columns = max(1, min(6, len(tiles)))
    result.images[table] = Sheet(TILE, columns).compose(tiles)
    features = table == "neighbors"
    result.panels.append(
        GalleryPanel(
            title="Nearest by features" if features else "Nearest by pixels",
            help="These images' features are closest to the photo's: the network takes them for alike."
            if features
            else "The same question is asked of the pixels: it finds what only looks alike.",
            image=table,
            table=table,
            tile=TILE,
            columns=columns,
            caption=("label", "distance", "image") if dataset.labels else ("distance", "image"),
            key="image",
            beside=not features,
        )
    )


def work(card: Card, options: NeighborsOptions, images: int) -> float:
    """Forward passes: one an image and one for the photo."""
    return float(images + 1)


METHOD = Method(
    name="neighbors",
    title="Nearest neighbours",
    verb="look",
    family="Nearest neighbours",
    question="What does it take for alike?",
    summary="Finds a data set's images nearest to a photo by features and by pixels (Krizhevsky et al. 2012).",
    options=NeighborsOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
)
