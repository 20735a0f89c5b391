"""What a mining run has found, as tables: every unit's patches and statistics, and the images that were skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import ImageError
from fovea.engine.look.mining.merge import SCALE, LayerPart, Partial
from fovea.engine.look.mining.miner import Miner

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.data.dataset import Dataset
    from fovea.models.card import Layer

BEST_LABELS = 3
"""So many labels are named for each unit."""


def patches_table(miner: Miner, mined: Partial) -> pd.DataFrame:
    """A row for each patch: layer, unit, rank (from 0), score, image, y, x (the place in the map), and its box."""
    import pandas as pd

    keys = np.array(miner.dataset.keys, dtype=object)
    frame = miner.job.card.preprocessing.size
    tables = []
    for layer in miner.layers:
        part = mined.layers[layer.name]
        unit, rank = np.nonzero(part.images >= 0)
        rows, columns = np.divmod(part.places[unit, rank], layer.grid[1])
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer.name,
                    "unit": unit,
                    "rank": rank,
                    "score": part.scores[unit, rank],
                    "image": keys[miner.by_rank[part.images[unit, rank]]],
                    "y": rows,
                    "x": columns,
                    **_boxes(layer, rows, columns, frame),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _boxes(
    layer: Layer, rows: NDArray[np.int64], columns: NDArray[np.int64], frame: tuple[int, int]
) -> dict[str, NDArray[np.int64]]:
    """The receptive fields of the positions, clipped to the frame and at least one pixel large."""
    height, width = frame
    places = np.stack([rows, columns], axis=1)
    distinct, which = np.unique(places, axis=0, return_inverse=True)
    boxes = np.tile(np.array([0, 0, width, height], np.int64), (len(distinct), 1))
    if layer.receptive_field is not None:
        for index, (row, column) in enumerate(distinct):
            boxes[index] = layer.receptive_field.box(int(row), int(column), frame)
    boxes[:, 0], boxes[:, 1] = boxes[:, 0].clip(0, width - 1), boxes[:, 1].clip(0, height - 1)
    boxes[:, 2] = boxes[:, 2].clip(boxes[:, 0] + 1, width)
    boxes[:, 3] = boxes[:, 3].clip(boxes[:, 1] + 1, height)
    chosen = boxes[which.reshape(-1)]
    return {name: chosen[:, side] for side, name in enumerate(("box_x0", "box_y0", "box_x1", "box_y1"))}


def units_table(miner: Miner, mined: Partial) -> pd.DataFrame:
    """One row a unit: layer, unit, maximum, mean (of the images' maxima), silent (share of images where it
    never rises above zero), dead (on all of them), labels (whose images excite it most, with their mean)."""
    import pandas as pd

    tables = []
    for layer in miner.layers:
        part = mined.layers[layer.name]
        count = np.maximum(part.count, 1)
        tables.append(
            pd.DataFrame(
                {
                    "layer": layer.name,
                    "unit": np.arange(len(part.count)),
                    "maximum": np.where(part.count > 0, part.largest, np.nan).astype(np.float32),
                    "mean": part.total / count / SCALE,
                    "silent": part.silent / count,
                    "dead": part.silent == part.count,
                    "labels": _best_labels(miner, mined, part),
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _best_labels(miner: Miner, mined: Partial, part: LayerPart) -> list[str]:
    if not miner.label_names:
        return [""] * len(part.count)
    counted = mined.labels > 0
    means = np.where(counted, part.by_label / np.maximum(mined.labels, 1) / SCALE, -np.inf)
    best = np.argsort(-means, axis=1, kind="stable")[:, : min(BEST_LABELS, int(counted.sum()))]
    return [
        ", ".join(f"{miner.label_names[label]} ({means[unit, label]:.3g})" for label in row)
        for unit, row in enumerate(best)
    ]


def unreadable_table(miner: Miner, mined: Partial) -> pd.DataFrame:
    """The images that were skipped: image, error."""
    import pandas as pd

    indices = [int(miner.by_rank[rank]) for rank in mined.unreadable]
    rows = [(miner.dataset.keys[index], _why_unreadable(miner.dataset, index)) for index in indices]
    return pd.DataFrame(rows, columns=["image", "error"])


def _why_unreadable(dataset: Dataset, index: int) -> str:
    try:
        dataset.photo(index)
    except ImageError as error:
        return str(error)
    return "it could not be read in the run"
