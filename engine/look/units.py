"""Units alike: for each unit of a layer those whose weights point the same way, and those that fire together.

Weights are compared by the cosine of their directions. Co-activation is the correlation, over the images of a data
set, of the units' activations pooled over space (Li et al., "Convergent Learning", 2016, equation 2, there of single
positions and between networks). The features that this needs are the ones that nearest neighbours keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.probing.layers import layer_or_middle
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, LayerKind, Options, option
from fovea.engine.panels import HeatmapPanel, TablePanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.look.feature_space.store import Features
    from fovea.models.card import Card

BLOCK = 256
"""Units that are compared with all others at a time."""
SHOWN = 512
"""The correlations of so many units are drawn."""
IMAGES = 16_384
"""Correlations add up over so many images at a time."""


class UnitsOptions(Options):
    """Which layer's units, over which images."""

    layer: str = option(
        "",
        "The layer whose units are compared.",
        kind=LayerKind(),
        empty="the last layer of the middle resolution",
    )
    dataset: str = option(
        "sample",
        "The data set over whose images units fire together: its name, or a folder or list of images.",
        kind=DatasetKind(),
        min_length=1,
    )
    top: int = option(12, "How many units are kept for each unit, the closest first.", ge=1, le=100)


def check(card: Card, options: UnitsOptions) -> None:
    """Raises UnknownNameError, or UnsupportedError if the layer has no units to compare."""
    layer = layer_or_middle(card, options.layer)
    if layer.units < 2:
        raise UnsupportedError(f"layer {layer.name} of {card.name} has one unit alone: there is none to compare with")


@dataclass(frozen=True)
class Findings:
    """Which units are alike: tables unit, rank, other, and `cosine` of their weights or `correlation` of their answers.

    `weighted`: the layer whose weights were compared; empty, and its table None, where there is none. `correlations`
    (units, units) of the first units. `units`, `images`: how many were compared.
    """

    layer: str
    dataset: str
    units: int
    images: int
    weighted: str
    by_weight: pd.DataFrame | None
    by_answer: pd.DataFrame
    correlations: NDArray[np.float32]


def compute(job: Job[UnitsOptions]) -> Findings:
    """The cosines of the units' weights, and the correlations of their mean activations over the data set."""
    from fovea.engine.look.feature_space.store import dataset_features, open_source

    layer, top = layer_or_middle(job.card, job.options.layer).name, job.options.top
    dataset = job.dataset(job.options.dataset)
    features = dataset_features(job, dataset, open_source(job, layer))
    weighted, weights = _own_weights(job, layer)
    by_weight = None
    if weights is not None:
        job.progress(0.8, "comparing weights")
        by_weight = most_alike(weights, top, "cosine")
    else:
        job.warn(f"Layer {layer} has no weights of its own, so its units are compared by what they answer alone.")
    job.progress(0.85, "comparing activations")
    rows = standardised(features)
    by_answer = most_alike(rows, top, "correlation")
    units, images = features.vectors.shape[1], len(features)
    return Findings(layer, dataset.name, units, images, weighted, by_weight, by_answer, _correlations(rows))


def report(job: Job[UnitsOptions], findings: Findings) -> Result:
    """Tables `weight_neighbors` and `coactive`: layer, unit, rank (from 0), other, cosine or correlation.

    `weight_neighbors` is there for a layer with weights of its own, or one behind whose normalisation and
    activation such a layer stands. A unit that is the same on every image correlates with none: its rows are left out.
    """
    closest = f"For each unit these are the {job.options.top} closest."
    matrix, by_answer = findings.correlations, findings.by_answer
    result = Result(
        arrays={"correlations": matrix},
        summary={"layer": findings.layer, "units": findings.units, "images": findings.images},
        preview=np.rint((matrix.clip(-1, 1) + 1) * 127.5).astype(np.uint8),
    )
    if findings.by_weight is not None:
        result.tables["weight_neighbors"] = _of_layer(findings.layer, findings.by_weight)
        result.panels.append(
            TablePanel(
                title="Alike in weight",
                help=f"{closest} They are compared by the cosine of the weights of {findings.weighted}.",
                table="weight_neighbors",
            )
        )
    some = f" The first {SHOWN} units are shown." if findings.units > SHOWN else ""
    result.panels.append(
        HeatmapPanel(
            title="Who fires with whom",
            help=f"Each cell is the correlation of one unit with another; rows and columns count from 0.{some}",
            array="correlations",
            scale="diverging",
            units="correlation",
        )
    )
    result.tables["coactive"] = _of_layer(findings.layer, by_answer)
    result.panels.append(
        TablePanel(
            title="Fire together",
            help=f"{closest} They are compared by the correlation of their mean activations over {findings.images:,} "
            f"images of {findings.dataset}.",
            table="coactive",
        )
    )
    if len(by_answer):
        best = by_answer.iloc[int(by_answer["correlation"].argmax())]
        result.summary["closest pair"] = f"{int(best['unit'])} and {int(best['other'])}"
        result.summary["their correlation"] = round(float(best["correlation"]), 4)
    return result


def _of_layer(layer: str, table: pd.DataFrame) -> pd.DataFrame:
    """The table with the layer as its first column."""
    named = table.copy()
    named.insert(0, "layer", layer)
    return named


def _own_weights(job: Job[UnitsOptions], name: str) -> tuple[str, NDArray[np.float64] | None]:
    """The layer, or the one whose units it passes on, and its weights (units, n); "" and None without any."""
    from fovea.engine.look.kernels.weights import layer_weights, same_units, weighted_layers

    names = weighted_layers(job.card)
    behind = [other for other in names if other == name or name in same_units(job.network, other)]
    for other in reversed(behind):
        try:
            values = layer_weights(job.network, other).values
        except UnsupportedError:
            continue
        return other, values.reshape(len(values), -1).astype(np.float64)
    return "", None


def standardised(features: Features) -> NDArray[np.float64]:
    """Units as rows whose products are their correlations over the images, (units, units of images' directions).

    The images are summed up block by block: what is kept is the square root of the units' covariance.
    """
    count, units = features.vectors.shape
    mean = np.zeros(units)
    for start in range(0, count, IMAGES):
        mean += features.vectors[start : start + IMAGES].sum(axis=0, dtype=np.float64) / count
    if count <= units:
        return np.asarray((features.vectors.astype(np.float64) - mean).T)
    covariance = np.zeros((units, units))
    for start in range(0, count, IMAGES):
        block = features.vectors[start : start + IMAGES].astype(np.float64) - mean
        covariance += block.T @ block
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(values.clip(0)))


def _correlations(rows: NDArray[np.float64]) -> NDArray[np.float32]:
    """The correlations (units, units) of the first SHOWN units with each other; 0 where there is none."""
    length = np.linalg.norm(rows[:SHOWN], axis=1, keepdims=True)
    directions = rows[:SHOWN] / np.where(length > 1e-6 * max(length.max(initial=0.0), 1e-12), length, np.inf)
    return np.asarray(directions @ directions.T, np.float32)


def most_alike(rows: NDArray[np.float64], top: int, name: str) -> pd.DataFrame:
    """For each row the `top` others whose cosine with it is largest: unit, rank, other, and the cosine as `name`.

    Ties go to the smaller number; a row without a direction has none, and is nobody's.
    """
    import pandas as pd

    length = np.linalg.norm(rows, axis=1)
    known = np.nonzero(length > 1e-6 * max(length.max(initial=0.0), 1e-12))[0]
    directions = rows[known] / length[known, None]
    kept = min(top, len(known) - 1)
    blocks = []
    for start in range(0, len(known) if kept > 0 else 0, BLOCK):
        alike = np.round(directions[start : start + BLOCK] @ directions.T, 9)
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :kept]
        blocks.append(
            pd.DataFrame(
                {
                    "unit": np.repeat(known[start : start + len(alike)], kept),
                    "rank": np.tile(np.arange(kept), len(alike)),
                    "other": known[order].ravel(),
                    name: np.take_along_axis(alike, order, 1).ravel(),
                }
            )
        )
    return pd.concat(blocks, ignore_index=True) if blocks else pd.DataFrame(columns=["unit", "rank", "other", name])


def work(card: Card, options: UnitsOptions, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


METHOD = Method(
    name="units",
    title="Units alike",
    verb="look",
    family="Nearest neighbours",
    question="Which units are alike?",
    summary="Finds for each unit of a layer those alike in weight, and those that fire together (Li et al. 2016).",
    options=UnitsOptions,
    compute=compute,
    report=report,
    work=work,
    photo=False,
    every_unit=True,
    check=check,
)
