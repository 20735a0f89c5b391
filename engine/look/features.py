"""The features of a whole data set: how well they tell the labels, and where each image lies among the others.

Krizhevsky, Sutskever and Hinton (2012), section 6.1, asked of every image at once; the map is van der Maaten and
Hinton, "Visualizing Data using t-SNE" (2008), or two principal components. What is computed here is kept: nearest
neighbours in the same layer then answer at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, LayerKind, Options, option
from fovea.engine.panels import TablePanel

if TYPE_CHECKING:
    from fovea.models.card import Card

SAVED_BYTES = 64 * 2**20
"""Features are also saved with the run up to this size; larger ones stay in their own file alone."""


class FeaturesOptions(Options):
    """Of which images, at which layer, and how they are laid out."""

    dataset: str = option("sample", "the data set, a name or a folder", kind=DatasetKind(), min_length=1)
    layer: str = option("", "layer of the features (default: what the last weights read)", kind=LayerKind())
    metric: Literal["l2", "cosine"] = option("l2", "distance by which the nearest others tell the label")
    map: Literal["tsne", "pca", "none"] = option(
        "tsne", "how the map is drawn: openTSNE, two principal components, or not at all"
    )


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no features."""
    from fovea.engine.look.feature_space.store import check_layer

    check_layer(card, options.layer)


def run(job: Job) -> Result:
    """Arrays `features` (n, C) float32 and `rows` (n,), if small enough; tables `accuracy`, `map`, `images`.

    `images`: row, image, label, prediction, for every readable image in the order of the rows.
    """
    import numpy as np
    import pandas as pd

    from fovea.engine.look.feature_space.accuracy_and_map import add_accuracy, add_map
    from fovea.engine.look.feature_space.store import dataset_features, open_source

    options = job.options
    dataset = job.dataset(options.dataset)
    source = open_source(job)
    features = dataset_features(job, dataset, source)
    features.space(job, options.metric)
    result = Result()
    if features.vectors.nbytes <= SAVED_BYTES:
        result.arrays["features"] = np.array(features.vectors)
    votes = add_accuracy(job, dataset, features, options.metric, result)
    add_map(job, dataset, features, options.map, votes, result)
    table = pd.DataFrame({"row": np.arange(len(features))})
    table["image"] = [dataset.keys[index] for index in features.indices]
    if dataset.labels:
        table["label"] = [dataset.label(int(index)) for index in features.indices]
    if job.card.classes:
        names = [*job.card.classes, ""]
        table["prediction"] = [names[best] for best in features.classes]
    result.tables["images"] = table
    result.panels.append(
        TablePanel(title="Images", help="Every image in the order of the features' rows.", table="images")
    )
    result.summary = {
        "layer": features.layer,
        "images": len(features),
        "features": features.vectors.shape[1],
        "on disk": f"{features.bytes / 1e6:,.0f} MB",
    }
    if "accuracy" in result.tables:
        result.summary["right by 1 neighbour"] = round(float(result.tables["accuracy"]["features"][0]), 4)
        result.summary["by pixels"] = round(float(result.tables["accuracy"]["pixels"][0]), 4)
    result.preview = "map.jpg" if "map.jpg" in result.images else ""
    return result


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


METHOD = Method(
    name="features",
    title="Map of a data set",
    verb="look",
    family="Nearest neighbours",
    question="How does it see a whole data set?",
    summary="A data set as a map by its features, and how well neighbours tell its labels (van der Maaten 2008).",
    options=FeaturesOptions,
    compute=run,
    work=work,
    photo=False,
    long=True,
    check=check,
)
