"""What a data set looks like in a network's features: how well neighbours tell the label, and a map.

Both are computed once for kept features and drawn by every run that reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.vectors.search import Metric, Space, leave_one_out
from fovea.engine.look.vectors.store import THUMB, Features
from fovea.engine.method import Job, Result
from fovea.engine.panels import CurvePanel, ScatterPanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset

COMPARED = 20_000_000
"""Images that are classified times images that are compared with each stay below this."""
ASKED_LIMIT = 2000
MOST_VOTES = 10
MapKind = Literal["pca", "tsne", "none"]


def add_accuracy(
    job: Job, dataset: Dataset, features: Features, metric: Metric, result: Result
) -> NDArray[np.int64] | None:
    """Table `accuracy` (k, features, pixels) and its chart, if the images have labels.

    Returns the features' votes by row, as positions in `dataset.classes`, -1 where an image was not asked.
    """
    import pandas as pd

    names = dataset.classes
    if len(names) < 2 or len(features) < 3:
        return None
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number.get(dataset.label(int(index)), -1) for index in features.indices])
    labelled = np.nonzero(labels >= 0)[0]
    if len(labelled) < 3:
        return None
    count = max(10, min(len(labelled), ASKED_LIMIT, COMPARED // len(features)))
    asked = labelled[np.unique(np.linspace(0, len(labelled) - 1, count).astype(int))]
    most = min(MOST_VOTES, len(features) - 1)

    def compute() -> Mapping[str, NDArray[Any]]:
        spaces: dict[str, Space] = {"features": features.space(job, metric), "pixels": features.pixel_space(job)}
        votes = np.full(len(labels), -1, np.int64)
        found: dict[str, NDArray[Any]] = {}
        for name, space in spaces.items():
            job.progress(0.8, f"neighbours by {name} tell the label")
            found[name], predicted = leave_one_out(space, labels, asked, most)
            if name == "features":
                votes[asked] = predicted
        return found | {"votes": votes}

    kept = features.remembered(f"accuracy-{metric}", compute)
    result.tables["accuracy"] = pd.DataFrame(
        {"k": np.arange(1, most + 1), "features": kept["features"], "pixels": kept["pixels"]}
    )
    result.panels.append(
        CurvePanel(
            title="How well neighbours tell the label",
            help=f"Share of {len(asked):,} images, each left out in turn, whose label the majority of their k nearest "
            "others has. Where the network has understood the classes, its features are far above the pixels.",
            table="accuracy",
            x="k",
            y=("features", "pixels"),
            units="share that is right",
        )
    )
    return kept["votes"]


def add_map(
    job: Job, dataset: Dataset, features: Features, how: MapKind, votes: NDArray[np.int64] | None, result: Result
) -> None:
    """Table `map`, its thumbnails and its chart: the data set as points in the plane.

    Columns: x, y, tile, image; label and neighbours (the label that the nearest others vote for) where there are
    labels; prediction (the network's own class); error ("right" or "wrong") where both can be compared.
    """
    import pandas as pd

    from fovea.engine.panels.sheet import Sheet, square_columns

    if how == "none" or len(features.shown) < 3:
        return
    rows = features.shown

    def compute() -> Mapping[str, NDArray[Any]]:
        job.progress(0.86, f"drawing the map of {len(rows):,} images")
        return {"points": plane(np.array(features.vectors[rows]), how, job.seed)}

    points = features.remembered(f"map-{how}-{job.seed}", compute)["points"]
    table = pd.DataFrame({"x": points[:, 0], "y": points[:, 1], "tile": np.arange(len(rows))})
    table["image"] = [dataset.keys[index] for index in features.indices[rows]]
    told = _add_words(job, dataset, features, votes, table)
    result.tables["map"] = table
    columns = square_columns(len(rows), 64)
    result.images["map.jpg"] = Sheet(THUMB, columns).compose(features.thumbs)
    names = [name for name in ("label", "prediction", "neighbours", "error") if name in table]
    some = f" {len(rows):,} of {len(features):,} images are shown, evenly spread." if len(rows) < len(features) else ""
    result.panels.append(
        ScatterPanel(
            title="The data set as a map",
            help="Each point is an image; near to each other are those whose features are alike. "
            f"Point at one to see it, click it to open it.{told}{some}",
            table="map",
            x="x",
            y=("y",),
            caption=(*names, "image"),
            image="map.jpg",
            tile=THUMB,
            columns=columns,
        )
    )


def _add_words(
    job: Job, dataset: Dataset, features: Features, votes: NDArray[np.int64] | None, table: pd.DataFrame
) -> str:
    """Add what can be said of each image; returns the sentence that explains the column `error`."""
    rows = features.shown
    if dataset.labels:
        table["label"] = [dataset.label(int(index)) for index in features.indices[rows]]
    if job.card.classes and (features.classes[rows] >= 0).all():
        table["prediction"] = [job.card.classes[best] for best in features.classes[rows]]
    if votes is not None:
        table["neighbours"] = np.array([*dataset.classes, ""], dtype=object)[votes[rows]]
    if "label" not in table:
        return ""
    own = {_plain(name) for name in job.card.classes}
    if "prediction" in table and all(_plain(name) in own for name in dataset.classes):
        against, words = "prediction", " An error is a label that the network does not predict."
    elif votes is not None:
        against, words = "neighbours", " An error is a label that the nearest others do not vote for."
    else:
        return ""
    table["error"] = [
        "" if not label or not given else ("right" if _plain(label) == _plain(given) else "wrong")
        for label, given in zip(table["label"], table[against], strict=True)
    ]
    return words


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()


def plane(vectors: NDArray[np.float32], how: MapKind, seed: int) -> NDArray[np.float64]:
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
