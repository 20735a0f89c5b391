"""Units alike: for each unit of a layer those whose weights point the same way, and those that fire together.

Weights are compared by the cosine of their directions. Co-activation is the correlation, over the images of a data
set, of the units' activations pooled over space (Li et al., "Convergent Learning", 2016, equation 2, there of single
positions and between networks). The features that this needs are the ones that nearest neighbours keep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.activations import chosen_layer
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
        "", "layer whose units are compared (default: one in the middle of the network)", kind=LayerKind()
    )
    dataset: str = option("sample", "the images over which units fire together", kind=DatasetKind(), min_length=1)
    top: int = option(12, "units kept for each unit", ge=1, le=100)


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError, or UnsupportedError if the layer has no units to compare."""
    layer = chosen_layer(card, options.layer)
    if layer.units < 2:
        raise UnsupportedError(f"layer {layer.name} of {card.name} has one unit alone: there is none to compare with")


def run(job: Job) -> Result:
    """Tables `weight_neighbors` and `coactive`: layer, unit, rank (from 0), other, cosine or correlation.

    `weight_neighbors` is there for a layer with weights of its own, or one behind whose normalisation and
    activation such a layer stands. A unit that is the same on every image correlates with none: its rows are left out.
    """
    from fovea.engine.look.feature_space.store import dataset_features, open_source

    layer = chosen_layer(job.card, job.options.layer).name
    options = job.options.model_copy(update={"layer": layer})
    dataset = job.dataset(options.dataset)
    features = dataset_features(job, dataset, open_source(job, layer))
    result = Result()
    weights, where = _own_weights(job, layer)
    if weights is not None:
        job.progress(0.8, "comparing weights")
        table = most_alike(weights, options.top, "cosine")
        _add(options, table, "weight_neighbors", "Alike in weight", f"Cosine of the weights of {where}.", result)
    else:
        job.warn(
            f"layer {options.layer} has no weights of its own, so its units are compared by what they answer alone"
        )
    job.progress(0.85, "comparing activations")
    rows = standardised(features)
    _add_matrix(rows, result)
    table = most_alike(rows, options.top, "correlation")
    about = f"Correlation of the units' mean activations over {len(features):,} images of {dataset.name}."
    _add(options, table, "coactive", "Fire together", about, result)
    result.summary = {"layer": layer, "units": features.vectors.shape[1], "images": len(features)}
    if len(table):
        best = table.iloc[int(table["correlation"].argmax())]
        result.summary["closest pair"] = f"{best['unit']} and {best['other']}"
        result.summary["their correlation"] = round(float(best["correlation"]), 4)
    return result


def _own_weights(job: Job, name: str) -> tuple[NDArray[np.float64] | None, str]:
    """The weights (units, n) of the layer, or of the one whose units it passes on; and that layer's name."""
    from fovea.engine.look.kernels.weights import layer_weights, same_units, weighted_layers

    names = weighted_layers(job.card)
    behind = [other for other in names if other == name or name in same_units(job.network, other)]
    for other in reversed(behind):
        try:
            values = layer_weights(job.network, other).values
        except UnsupportedError:
            continue
        return values.reshape(len(values), -1).astype(np.float64), other
    return None, ""


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


def _add_matrix(rows: NDArray[np.float64], result: Result) -> None:
    """Array `correlations` (units, units), of the first units where there are many; 0 where there is none."""
    length = np.linalg.norm(rows[:SHOWN], axis=1, keepdims=True)
    directions = rows[:SHOWN] / np.where(length > 1e-6 * max(length.max(initial=0.0), 1e-12), length, np.inf)
    matrix = (directions @ directions.T).astype(np.float32)
    result.arrays["correlations"] = matrix
    result.preview = np.rint((matrix.clip(-1, 1) + 1) * 127.5).astype(np.uint8)
    some = f" The first {SHOWN} are shown." if len(rows) > SHOWN else ""
    result.panels.append(
        HeatmapPanel(
            title="Who fires with whom",
            help=f"The correlation of each unit with each other, both from 0.{some}",
            array="correlations",
            scale="diverging",
            units="correlation",
        )
    )


def most_alike(rows: NDArray[np.float64], top: int, name: str) -> pd.DataFrame:
    """For each row the `top` others whose cosine with it is largest: unit, rank, other, and the cosine as `name`.

    Ties go to the smaller number; a row without a direction has none, and is nobody's.
    """
    import pandas as pd

    length = np.linalg.norm(rows, axis=1)
    known = np.nonzero(length > 1e-6 * max(length.max(initial=0.0), 1e-12))[0]
    directions = rows[known] / length[known, None]
    kept = min(top, len(known) - 1)
    found = []
    for start in range(0, len(known) if kept > 0 else 0, BLOCK):
        alike = np.round(directions[start : start + BLOCK] @ directions.T, 9)
        alike[np.arange(len(alike)), np.arange(start, start + len(alike))] = -np.inf
        order = np.argsort(-alike, axis=1, kind="stable")[:, :kept]
        found.append(
            pd.DataFrame(
                {
                    "unit": np.repeat(known[start : start + len(alike)], kept),
                    "rank": np.tile(np.arange(kept), len(alike)),
                    "other": known[order].ravel(),
                    name: np.take_along_axis(alike, order, 1).ravel(),
                }
            )
        )
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["unit", "rank", "other", name])


def _add(options: Any, table: pd.DataFrame, name: str, title: str, words: str, result: Result) -> None:
    table.insert(0, "layer", options.layer)
    result.tables[name] = table
    result.panels.append(TablePanel(title=title, help=f"For each unit the {options.top} closest. {words}", table=name))


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one an image."""
    return float(images)


METHOD = Method(
    name="units",
    title="Units alike",
    verb="look",
    family="Nearest neighbours",
    question="Which units are alike?",
    summary="For each unit of a layer those alike in weight, and those that fire together (Li et al. 2016).",
    options=UnitsOptions,
    compute=run,
    work=work,
    photo=False,
    every_unit=True,
    check=check,
)
