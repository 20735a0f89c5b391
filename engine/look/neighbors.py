"""Nearest neighbours: the images whose last features are closest to a photo's, and those closest in pixels.

Krizhevsky, Sutskever and Hinton (2012), section 6.1: L2 in the space of the last features finds what means the
same, L2 in pixels only what looks the same. Features are pooled over space, and computed once for a data set.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from engine.errors import DatasetError, OptionsError, UnsupportedError
from engine.look.layers import with_units
from engine.look.search import Neighbors, leave_one_out
from engine.look.weights import weighted_layers
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    import pandas as pd

    from engine.dataset import Dataset
    from engine.look.probe import Probe
    from engine.look.reducers import Editor
    from models.card import Card

PIXELS = 32
"""Pixel space is the frame at this side, as bytes: what is lost cannot be seen in a thumbnail either."""
MAP_LIMIT = 5000
"""A map of the data set shows at most so many images, evenly spread."""
ASKED_LIMIT = 2000
"""So many images, evenly spread, are classified by their neighbours."""
MOST_VOTES = 10
TILE = 128


class NeighborsOptions(Options):
    """Among which images, in which space, how many."""

    dataset: str = option("sample", "the data set that is searched, a name or a folder", kind="dataset", min_length=1)
    layer: str = option("", "layer of the features (default: what the last weights read)", kind="layer")
    k: int = option(12, "how many neighbours", ge=1, le=200)
    metric: Literal["l2", "cosine"] = option("l2", "distance of the features; pixels are always compared by L2")
    item: str = option("", "ask for the neighbours of this image of the data set instead of the photo")
    label: str = option("", "search only images of this label", advanced=True)
    map: Literal["pca", "tsne", "none"] = option("pca", "also draw the data set as a map", advanced=True)


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    if options.layer:
        with_units(card, options.layer)
    elif not weighted_layers(card):
        raise UnsupportedError(f"{card.name} has no layer of weights: name the layer whose features are compared")


def feature_source(job: Job) -> tuple[str, bool]:
    """The layer whose features are compared, and whether it is its input that is: of the last weights, unless
    a layer is named."""
    if job.options.layer:
        return str(job.options.layer), False
    return weighted_layers(job.card)[-1], True


@dataclass
class Features:
    """Of the readable images of a data set: their `indices` (n,), features (n, C), and pixels (n, 32·32·channels)."""

    indices: NDArray[np.int64]
    vectors: NDArray[np.float32]
    pixels: NDArray[np.uint8]


def run(job: Job) -> Result:
    """Tables `neighbors` and `pixel_neighbors`: rank (from 0), image, label, distance.

    With labels also table `accuracy` (k, features, pixels): how often the majority of the k nearest others is
    right. Table `map`: x, y, image, label, neighbours (the label that they vote for). Array `query` (C,).
    """
    options = job.options
    dataset = job.dataset(options.dataset)
    layer, before = feature_source(job)
    probe = open_probe(job, layer, before)
    layer = f"input of {layer}" if before else layer
    features = dataset_features(job, dataset, layer, probe)
    if not len(features.indices):
        raise DatasetError(f"the data set {dataset.name} has no readable image")
    frame, own = _query_frame(job, dataset)
    query = probe.run({"pixels": frame[None]}, batched=("pixels",))["features"]
    allowed = _allowed(dataset, features, options.label, own)
    job.progress(0.8, "searching")
    spaces = {
        "features": (Neighbors(features.vectors, options.metric), query),
        "pixels": (Neighbors(_unit(features.pixels)), _unit(_pixels(frame)[None])),
    }
    result = Result(arrays={"query": query[0]})
    for name, table in (("features", "neighbors"), ("pixels", "pixel_neighbors")):
        index, vector = spaces[name]
        found, distances = index.nearest(vector, options.k, allowed)
        result.tables[table] = _neighbors_table(dataset, features, found[0], distances[0])
        _add_gallery(job, dataset, frame, table, result)
    votes = _add_accuracy(job, dataset, features, spaces, result)
    if options.map != "none" and len(features.indices) > 2:
        _add_map(job, dataset, features, votes, result)
    nearest = result.tables["neighbors"]
    result.summary = {"layer": layer, "images": len(features.indices), "nearest": "", "distance": None}
    if len(nearest):
        result.summary |= {"nearest": str(nearest["image"][0]), "distance": round(float(nearest["distance"][0]), 6)}
    if "accuracy" in result.tables:
        result.summary["right by 1 neighbour"] = round(float(result.tables["accuracy"]["features"][0]), 4)
    result.preview = "neighbors"
    return result


# --- features


def open_probe(job: Job, layer_name: str, before: bool = False) -> Probe:
    """The session that takes frames and answers with features pooled over space: of a layer's output, or of what
    its weights read (`before`), which need not be the output of any module."""
    from engine.look import reducers
    from engine.look.probe import Probe
    from engine.look.weights import weighted_node

    layer = reducers.read_layer(job.card, layer_name)

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        reducers.normalised_input(editor, job.card.preprocessing)
        tensor = tensors[layer_name]
        if before:
            node = weighted_node(editor.model, tensor)
            tensor = editor.float32(node.input[0])
            if node.op_type == "Conv":
                tensor = reducers.spatial_mean(editor, tensor)
        else:
            tensor = reducers.spatial_mean(editor, reducers.as_maps(editor, tensor, layer))
        editor.answer(tensor, "features")

    return Probe(job, [layer_name], build)


def dataset_features(job: Job, dataset: Dataset, layer: str, probe: Probe) -> Features:
    """The features of a data set, computed once for a network, a layer and a state of the data set, then kept."""
    from models.home import home

    facts: list[Any] = [job.card.sha256, job.card.architecture, job.card.preprocessing.model_dump(mode="json"), layer]
    facts += [dataset.manifest_sha256(), PIXELS, probe.provider]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]
    path = home() / "features" / f"{key}.npz"
    if path.is_file():
        try:
            with np.load(path, allow_pickle=False) as kept:
                return Features(kept["indices"], kept["vectors"], kept["pixels"])
        except (OSError, ValueError, KeyError, EOFError):
            path.unlink(missing_ok=True)
    found = _compute(job, dataset, probe)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("wb") as file:
        np.savez(file, indices=found.indices, vectors=found.vectors, pixels=found.pixels)
    os.replace(part, path)
    return found


def _compute(job: Job, dataset: Dataset, probe: Probe) -> Features:
    from engine.look.probe import batch_size

    unreadable: list[Any] = []
    indices: list[int] = []
    frames: list[NDArray[np.uint8]] = []
    vectors: list[NDArray[np.float32]] = []
    pixels: list[NDArray[np.uint8]] = []

    def ask() -> None:
        vectors.append(probe.run({"pixels": np.stack(frames)}, batched=("pixels",))["features"])
        frames.clear()
        job.progress(0.75 * len(indices) / len(dataset), f"image {len(indices)} of {len(dataset)}")

    size = batch_size(probe.provider)
    for index, frame in dataset.frames(job.card.preprocessing, range(len(dataset)), threads=2, unreadable=unreadable):
        indices.append(index)
        frames.append(frame)
        pixels.append(_pixels(frame))
        if len(frames) == size:
            ask()
    if frames:
        ask()
    job.record(decoder=dataset.decoder)
    if unreadable:
        job.warn(f"{len(unreadable)} of {len(dataset)} images could not be read and are left out")
    if not indices:
        return Features(np.empty(0, np.int64), np.empty((0, 1), np.float32), np.empty((0, 1), np.uint8))
    return Features(np.array(indices, np.int64), np.concatenate(vectors), np.stack(pixels))


def _pixels(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame as a vector of pixel space, uint8 (PIXELS · PIXELS · channels,)."""
    picture = Image.fromarray(frame[..., 0] if frame.shape[2] == 1 else frame)
    return np.asarray(picture.resize((PIXELS, PIXELS), Image.Resampling.BOX)).reshape(-1)


def _unit(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bytes as values from 0 to 1."""
    return pixels.astype(np.float32) / np.float32(255)


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
            from engine.errors import unknown

            raise unknown("label", label, dataset.classes, f"data set {dataset.name}")
        labels = dataset.labels or []
        keep &= np.array([labels[index] == label for index in features.indices])
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
            "label": [_label(dataset, index) for index in indices],
            "distance": distances[known],
        }
    )


def _label(dataset: Dataset, index: int) -> str:
    return dataset.labels[index] if dataset.labels else ""


def _add_gallery(job: Job, dataset: Dataset, frame: NDArray[np.uint8], table: str, result: Result) -> None:
    """A sheet of the neighbours as the network sees them."""
    from engine.sheet import compose_sheet, fit_tile

    rows = result.tables[table]
    by_index = {dataset.index_of(key): rank for rank, key in enumerate(rows["image"])}
    tiles = [np.full((TILE, TILE, 3), 128, np.uint8) for _ in by_index]
    preprocessing = job.card.preprocessing
    for index, found in dataset.frames(preprocessing, list(by_index), threads=2, unreadable=[]):
        tiles[by_index[index]] = fit_tile(_picture(found), TILE)
    columns = max(1, min(6, len(tiles)))
    result.images[table] = compose_sheet(tiles, TILE, columns)
    features = table == "neighbors"
    result.panels.append(
        Panel(
            kind="gallery",
            title="Nearest by features" if features else "Nearest by pixels",
            help="The images whose features are closest to the photo's: what the network takes for alike."
            if features
            else "The same question asked of the pixels: what only looks alike.",
            image=table,
            table=table,
            tile=TILE,
            columns=columns,
            caption=("label", "distance", "image") if dataset.labels else ("distance", "image"),
        )
    )


def _picture(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return frame[..., 0] if frame.shape[2] == 1 else frame[..., :3]


def _add_accuracy(
    job: Job,
    dataset: Dataset,
    features: Features,
    spaces: Mapping[str, tuple[Neighbors, NDArray[np.float32]]],
    result: Result,
) -> NDArray[np.int64] | None:
    """How well neighbours tell the label, in both spaces; returns the features' votes by row, -1 where not asked."""
    import pandas as pd

    names = dataset.classes
    if len(names) < 2 or len(features.indices) < 3:
        return None
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number.get(_label(dataset, index), -1) for index in features.indices])
    labelled = np.nonzero(labels >= 0)[0]
    asked = labelled[np.linspace(0, len(labelled) - 1, min(len(labelled), ASKED_LIMIT)).astype(int)]
    most = min(MOST_VOTES, len(features.indices) - 1)
    votes = np.full(len(labels), -1, np.int64)
    table = pd.DataFrame({"k": np.arange(1, most + 1)})
    for name, (index, _) in spaces.items():
        job.progress(0.85, f"neighbours by {name} tell the label")
        table[name], predicted = leave_one_out(index, labels, asked, most)
        if name == "features":
            votes[asked] = predicted
    result.tables["accuracy"] = table
    result.panels.append(
        Panel(
            kind="curve",
            title="How well neighbours tell the label",
            help=f"Share of {len(asked)} images whose label the majority of their k nearest others has. Where the "
            "network has understood the classes, its features are far above the pixels.",
            table="accuracy",
            x="k",
            y=("features", "pixels"),
        )
    )
    return votes


def _add_map(job: Job, dataset: Dataset, features: Features, votes: NDArray[np.int64] | None, result: Result) -> None:
    """The data set as points in the plane, near to each other where their features are."""
    import pandas as pd

    shown = np.linspace(0, len(features.indices) - 1, min(len(features.indices), MAP_LIMIT)).astype(int)
    job.progress(0.9, "drawing the map")
    points = plane(features.vectors[shown], job.options.map, job.seed)
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1]})
    table["image"] = [dataset.keys[index] for index in features.indices[shown]]
    caption: tuple[str, ...] = ("image",)
    if dataset.labels:
        table["label"] = [_label(dataset, index) for index in features.indices[shown]]
        caption = ("label", "image")
    if votes is not None:
        names = np.array([*dataset.classes, ""], dtype=object)
        table["neighbours"] = names[votes[shown]]
    result.tables["map"] = table
    result.panels.append(
        Panel(
            kind="scatter",
            title="The data set as a map",
            help="Each point is an image; near to each other are those whose features are alike.",
            table="map",
            x="x",
            y=("y",),
            caption=caption,
        )
    )


def plane(vectors: NDArray[np.float32], how: str, seed: int) -> NDArray[np.float64]:
    """Vectors (n, C) as points (n, 2): their two principal components, or openTSNE's embedding that starts there."""
    from sklearn.decomposition import PCA

    # (its axes' signs are settled, so that the map is always the same)
    many = min(50, *vectors.shape)
    components = PCA(many, svd_solver="full" if max(vectors.shape) < 500 else "randomized", random_state=0)
    points = np.asarray(components.fit_transform(vectors.astype(np.float64)), np.float64)
    if points.shape[1] < 2:
        points = np.pad(points, ((0, 0), (0, 2 - points.shape[1])))
    if how == "pca" or len(vectors) < 10:
        return points[:, :2]
    from openTSNE import TSNE

    start = points[:, :2] / max(points[:, 0].std(), 1e-12) * 1e-4
    perplexity = min(30.0, (len(vectors) - 1) / 3)
    made = TSNE(perplexity=perplexity, initialization=start, random_state=seed, n_jobs=2).fit(points)
    return np.array(made, np.float64)


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
    run=run,
    work=work,
    check=check,
)
