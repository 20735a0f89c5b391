"""A data set as a map: each image a point of the plane, near to those whose features are alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.feature_space.store import THUMB, Features
from fovea.engine.panels import ScatterPanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.feature_space.label_votes import LabelVotes
    from fovea.engine.method import Job, Result
    from fovea.models.card import Card

MapKind = Literal["pca", "tsne", "none"]
MOST_COMPONENTS = 50
"""So many principal components are laid out in the plane."""


def map_points(job: Job[Any], features: Features, how: MapKind) -> NDArray[np.float64] | None:
    """The points (m, 2) of the images that are shown, computed once for kept features; None where there is no map."""
    rows = features.shown
    if how == "none" or len(rows) < 3:
        return None

    def compute() -> Mapping[str, NDArray[Any]]:
        job.progress(0.86, f"drawing the map of {len(rows):,} images")
        return {"points": plane(np.array(features.vectors[rows]), how, job.seed)}

    return features.remembered(f"map-{how}-{job.seed}", compute)["points"]


def plane(vectors: NDArray[np.float32], how: MapKind, seed: int) -> NDArray[np.float64]:
    """Vectors (n, C) as points (n, 2): their two principal components, or openTSNE's embedding that starts there."""
    from sklearn.decomposition import PCA

    # (its axes' signs are settled, so that the map is always the same)
    many = min(MOST_COMPONENTS, *vectors.shape)
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


def add_map(
    card: Card,
    dataset: Dataset,
    features: Features,
    points: NDArray[np.float64],
    votes: LabelVotes | None,
    result: Result,
) -> None:
    """Table `map`, its thumbnails and its chart: the data set as points in the plane.

    Columns: x, y, tile, image; label and neighbours (the label that the nearest others vote for) where there are
    labels; prediction (the network's own class); error ("right" or "wrong") where both can be compared.
    """
    import pandas as pd

    from fovea.engine.panels.sheet import Sheet, square_columns

    rows = features.shown
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "tile": np.arange(len(rows))})
    table["image"] = [dataset.keys[index] for index in features.indices[rows]]
    about_errors = _add_words(card, dataset, features, votes, table)
    result.tables["map"] = table
    columns = square_columns(len(rows), 64)
    result.images["map.jpg"] = Sheet(THUMB, columns).compose(features.thumbs)
    names = [name for name in ("label", "prediction", "neighbours", "error") if name in table]
    some = f" {len(rows):,} of {len(features):,} images are shown, evenly spread." if len(rows) < len(features) else ""
    result.panels.append(
        ScatterPanel(
            title="The data set as a map",
            help="Each point is an image; near to each other are those whose features are alike. "
            f"Point at one to see it, click it to open it.{about_errors}{some}",
            table="map",
            x="x",
            y=("y",),
            caption=(*names, "image"),
            image="map.jpg",
            tile=THUMB,
            columns=columns,
        )
    )


def _add_words(card: Card, dataset: Dataset, features: Features, votes: LabelVotes | None, table: pd.DataFrame) -> str:
    """Add what can be said of each image; returns the sentence that explains the column `error`."""
    rows = features.shown
    if dataset.labels:
        table["label"] = [dataset.label(int(index)) for index in features.indices[rows]]
    if card.classes and (features.classes[rows] >= 0).all():
        table["prediction"] = [card.classes[best] for best in features.classes[rows]]
    if votes is not None:
        table["neighbours"] = np.array([*dataset.classes, ""], dtype=object)[votes.votes[rows]]
    if "label" not in table:
        return ""
    own = {_spelling(name) for name in card.classes}
    if "prediction" in table and all(_spelling(name) in own for name in dataset.classes):
        against, sentence = "prediction", " An error is a label that the network does not predict."
    elif votes is not None:
        against, sentence = "neighbours", " An error is a label that the nearest others do not vote for."
    else:
        return ""
    table["error"] = [
        "" if not label or not said else ("right" if _spelling(label) == _spelling(said) else "wrong")
        for label, said in zip(table["label"], table[against], strict=True)
    ]
    return sentence


def _spelling(name: str) -> str:
    """A name however it is written: any case, and spaces, underscores or hyphens between its words."""
    return name.lower().replace("_", " ").replace("-", " ").strip()
