"""The whole network at a glance: for one photo each layer's strongest units with their maps, its mean and sparsity.

All of it is reduced inside the graph but for the maps of the strongest units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.method import Result
from fovea.engine.panels import CurvePanel, GalleryPanel, Panel, TablePanel

if TYPE_CHECKING:
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.models.card import Layer

STRONGEST = 4
"""So many units are named and drawn for each layer."""
TILE = 56
COLUMNS = 24


def look_over(job: Job, result: Result) -> None:
    """Add the table `layers` (one row a layer with units: its size, strongest units, largest and mean value, share of
    values of zero or less), the table `strongest` and the sheet `strongest` with these units' maps, and the panels."""
    import pandas as pd

    layers = [layer for layer in job.card.layers if layer.axes != "none"]
    answers = _ask(job, layers)
    rows: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    tiles: list[NDArray[np.uint8]] = []
    for index, layer in enumerate(layers):
        units, values = answers[f"units.{index}"][0], answers[f"values.{index}"][0]
        rows.append(
            {
                "depth": index,
                "layer": layer.name,
                "kind": layer.kind,
                "units": layer.units,
                "rows": layer.grid[0],
                "columns": layer.grid[1],
                "strongest units": ", ".join(f"{u} ({v:.3g})" for u, v in zip(units, values, strict=True)),
                "maximum": float(values[0]),
                "mean": float(answers[f"mean.{index}"][0].mean()),
                "sparsity": 1 - float(answers[f"active.{index}"][0].mean()),
            }
        )
        if layer.spatial and layer.leaf:
            tiles.append(_tiles(answers[f"maps.{index}"][0]))
            for unit, value in zip(units, values, strict=True):
                drawn.append({"layer": layer.name, "unit": int(unit), "maximum": float(value), "tile": len(drawn)})
    result.tables["layers"] = pd.DataFrame(rows)
    if drawn:
        from fovea.engine.panels.sheet import Sheet

        result.tables["strongest"] = pd.DataFrame(drawn)
        result.images["strongest"] = Sheet(TILE, COLUMNS).compose(np.concatenate(tiles))
    result.panels += _panels(bool(drawn))


def _ask(job: Job, layers: list[Layer]) -> dict[str, NDArray[Any]]:
    """For layer i `values.i` and `units.i` (1, k) of its strongest units, their `maps.i` (1, k, h, w), and for each
    unit `mean.i` and `active.i`."""
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        for index, layer in enumerate(layers):
            maps = reducers.as_maps(editor, tensors[layer.name], layer)
            best = editor.reduce("ReduceMax", maps, [2, 3])
            count = editor.constant([min(STRONGEST, layer.units)])
            values, units = editor.nodes("TopK", best, count, outputs=2, axis=1)
            editor.answer(values, f"values.{index}")
            editor.answer(units, f"units.{index}", "int64")
            if layer.spatial and layer.leaf:
                # One photo goes through, so the first row of units is that photo's.
                first = editor.node("Gather", units, editor.constant(0), axis=0)
                editor.answer(editor.node("Gather", maps, first, axis=1), f"maps.{index}")
            editor.answer(reducers.spatial_mean(editor, maps), f"mean.{index}")
            editor.answer(reducers.share_above_zero(editor, maps), f"active.{index}")

    probe = Probe(job, [layer.name for layer in layers], build)
    feed = job.network.graph().input
    return probe.run({feed: job.input}, batched=(feed,))


def _tiles(maps: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Maps (k, h, w) as tiles, each from its smallest value in black to its largest in white."""
    from fovea.engine.panels.sheet import map_tiles

    return map_tiles(maps, TILE)


def _panels(drawn: bool) -> list[Panel]:
    pictures = GalleryPanel(
        title="The strongest units of every layer",
        help="Their maps of this photo, each from its smallest value in black to its largest in white.",
        image="strongest",
        table="strongest",
        tile=TILE,
        columns=COLUMNS,
        group=("layer",),
        caption=("unit", "maximum"),
    )
    return [
        *([pictures] if drawn else []),
        CurvePanel(
            title="How sparse the layers are",
            help="From the input to the output: the share of a layer's values that are zero or less.",
            table="layers",
            x="depth",
            y=("sparsity",),
        ),
        TablePanel(
            title="The whole network at a glance",
            help="For each layer its strongest units on this photo, its mean, and its sparsity: the share of "
            "values that are zero or less.",
            table="layers",
        ),
    ]
