"""The features of a whole data set: how well they tell the labels, and where each image lies among the others.

Krizhevsky, Sutskever and Hinton (2012), section 6.1, asked of every image at once; the map is van der Maaten and
Hinton, "Visualizing Data using t-SNE" (2008), or two principal components. What is computed here is kept: nearest
neighbours in the same layer then answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, LayerKind, Options, option
from fovea.engine.panels import TablePanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.feature_space.label_votes import LabelVotes
    from fovea.engine.look.feature_space.store import Features
    from fovea.models.card import Card

SAVED_BYTES = 64 * 2**20
"""Features are also saved with the run up to this size; larger ones stay in their own file alone."""


class FeaturesOptions(Options):
    """Of which images, at which layer, and how they are laid out."""

    dataset: str = option(
        "sample",
        "The data set whose images are laid out: its name, or a folder or list of images.",
        kind=DatasetKind(),
        min_length=1,
    )
    layer: str = option(
        "",
        "The layer whose features are compared, pooled over space.",
        kind=LayerKind(),
        empty="what the last layer of weights reads",
    )
    metric: Literal["l2", "cosine"] = option(
        "l2",
        "The distance by which the nearest others tell the label. L2 is that of Krizhevsky et al. (2012); cosine "
        "leaves the features' lengths out.",
    )
    map: Literal["tsne", "pca", "none"] = option(
        "tsne",
        "How the map is drawn: t-SNE keeps neighbours together, pca shows the two directions in which images differ "
        "most and is faster, none draws no map.",
    )


def check(card: Card, options: FeaturesOptions) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    from fovea.engine.look.feature_space.store import check_layer

    check_layer(card, options.layer)


@dataclass(frozen=True)
class Findings:
    """The features of the readable images, how well neighbours tell their labels, and their points (m, 2)."""

    dataset: Dataset
    features: Features
    votes: LabelVotes | None
    points: NDArray[np.float64] | None


def compute(job: Job[FeaturesOptions]) -> Findings:
    """One forward pass for each image whose features are not kept yet; then each is left out in turn, and all drawn."""
    from fovea.engine.look.feature_space.label_votes import label_votes
    from fovea.engine.look.feature_space.plane import map_points
    from fovea.engine.look.feature_space.store import dataset_features, open_source

    options = job.options
    dataset = job.dataset(options.dataset)
    features = dataset_features(job, dataset, open_source(job, options.layer))
    features.space(options.metric, job.progress)  # an index is trained here, so that questions find it later
    votes = label_votes(dataset, features, options.metric, job.progress)
    return Findings(dataset, features, votes, map_points(job, features, options.map))


def report(job: Job[FeaturesOptions], findings: Findings) -> Result:
    """Arrays `features` (n, C) float32 and `rows` (n,), if small enough; tables `accuracy`, `map`, `images`.

    `images`: row, image, label, prediction, for every readable image in the order of the rows.
    """
    import numpy as np

    from fovea.engine.look.feature_space.label_votes import add_accuracy
    from fovea.engine.look.feature_space.plane import add_map

    dataset, features = findings.dataset, findings.features
    result = Result(
        summary={
            "layer": features.layer,
            "images": len(features),
            "features": features.vectors.shape[1],
            "on disk": f"{features.bytes / 1e6:,.0f} MB",
        }
    )
    if features.vectors.nbytes <= SAVED_BYTES:
        result.arrays["features"] = np.array(features.vectors)
    if findings.votes is not None:
        add_accuracy(findings.votes, result)
    if findings.points is not None:
        add_map(job.card, dataset, features, findings.points, findings.votes, result)
        result.preview = "map.jpg"
    result.tables["images"] = _images_table(job.card, dataset, features)
    result.panels.append(
        TablePanel(title="Images", help="Every image stands in the order of the features' rows.", table="images")
    )
    return result


def _images_table(card: Card, dataset: Dataset, features: Features) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    table = pd.DataFrame({"row": np.arange(len(features))})
    table["image"] = [dataset.keys[index] for index in features.indices]
    if dataset.labels:
        table["label"] = [dataset.label(int(index)) for index in features.indices]
    if card.classes:
        names = [*card.classes, ""]
        table["prediction"] = [names[best] for best in features.classes]
    return table


def work(card: Card, options: FeaturesOptions, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


METHOD = Method(
    name="features",
    title="Map of a data set",
    verb="look",
    family="Nearest neighbours",
    question="How does it see a whole data set?",
    summary=(
        "Draws a data set as a map by its features, and measures how well neighbours tell its labels (van der Maaten "
        "and Hinton 2008)."
    ),
    options=FeaturesOptions,
    compute=compute,
    report=report,
    work=work,
    photo=False,
    long=True,
    check=check,
)
