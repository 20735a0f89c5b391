"""The whole network at a glance: for one photo each layer's strongest units with their maps, its mean and sparsity.

All of it is reduced inside the graph but for the maps of the strongest units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.panels import CurvePanel, GalleryPanel, Panel, TablePanel

if TYPE_CHECKING:
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job, Result
    from fovea.models.card import Layer

STRONGEST = 4
"""So many units are named and drawn for each layer."""
TILE = 56
COLUMNS = 24


@dataclass(frozen=True)
class LayerGlance:
    """What one layer answers: its strongest `units` (k,), their largest `values` (k,) and, where they are maps that can
    be drawn, their `maps` (k, h, w); the `mean` of the layer, and the share of its values that is above zero."""

    layer: Layer
    units: NDArray[np.int64]
    values: NDArray[np.float32]
    mean: float
    active: float
    maps: NDArray[np.float32] | None


def look_over(job: Job[Any]) -> list[LayerGlance]:
    """Every layer that has units, in forward order, on the job's photo."""
    layers = [layer for layer in job.card.layers if layer.axes != "none"]
    answers = _ask(job, layers)
    return [
        LayerGlance(
            layer=layer,
            units=answers[f"units.{index}"][0],
            values=answers[f"values.{index}"][0],
            mean=float(answers[f"mean.{index}"][0].mean()),
            active=float(answers[f"active.{index}"][0].mean()),
            maps=answers[f"maps.{index}"][0] if _drawn(layer) else None,
        )
        for index, layer in enumerate(layers)
    ]


def _drawn(layer: Layer) -> bool:
    return layer.spatial and layer.leaf


def _ask(job: Job[Any], layers: Sequence[Layer]) -> dict[str, NDArray[Any]]:
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
            if _drawn(layer):
                # One photo goes through, so the first row of units is that photo's.
                first = editor.node("Gather", units, editor.constant(0), axis=0)
                editor.answer(editor.node("Gather", maps, first, axis=1), f"maps.{index}")
            editor.answer(reducers.spatial_mean(editor, maps), f"mean.{index}")
            editor.answer(reducers.share_above_zero(editor, maps), f"active.{index}")

    probe = Probe(job, [layer.name for layer in layers], build)
    feed = job.network.graph().input
    return probe.run({feed: job.input}, batched=(feed,))


def add_glance(glance: Sequence[LayerGlance], result: Result) -> None:
    """Add the table `layers` (one row a layer with units: its size, strongest units, largest and mean value, share of
    values of zero or less), the table `strongest` and the sheet `strongest` with these units' maps, and the panels."""
    import pandas as pd

    from fovea.engine.panels.sheet import Sheet, map_tiles

    rows: list[dict[str, Any]] = []
    strongest: list[dict[str, Any]] = []
    tiles: list[NDArray[np.uint8]] = []
    for depth, seen in enumerate(glance):
        layer, best = seen.layer, list(zip(seen.units, seen.values, strict=True))
        rows.append(
            {
                "depth": depth,
                "layer": layer.name,
                "kind": layer.kind,
                "units": layer.units,
                "rows": layer.grid[0],
                "columns": layer.grid[1],
                "strongest units": ", ".join(f"{unit} ({value:.3g})" for unit, value in best),
                "maximum": float(seen.values[0]),
                "mean": seen.mean,
                "sparsity": 1 - seen.active,
            }
        )
        if seen.maps is not None:
            tiles.append(map_tiles(seen.maps, TILE))
            strongest += [{"layer": layer.name, "unit": int(unit), "maximum": float(value)} for unit, value in best]
    result.tables["layers"] = pd.DataFrame(rows)
    if strongest:
        result.tables["strongest"] = pd.DataFrame(strongest).assign(tile=range(len(strongest)))
        result.images["strongest"] = Sheet(TILE, COLUMNS).compose(np.concatenate(tiles))
        result.panels.append(_strongest_panel())
    result.panels += _layers_panels()


def _strongest_panel() -> Panel:
    return GalleryPanel(
        title="The strongest units of every layer",
        help="Each tile is a unit's map of this photo, from its smallest value in black to its largest in white.",
        image="strongest",
        table="strongest",
        tile=TILE,
        columns=COLUMNS,
        group=("layer",),
        caption=("unit", "maximum"),
    )


def _layers_panels() -> list[Panel]:
    return [
        CurvePanel(
            title="How sparse the layers are",
            help="The curve goes from the input to the output. It shows the share of a layer's values that are zero or "
            "less: the higher it is, the fewer units answer to this photo.",
            table="layers",
            x="depth",
            y=("sparsity",),
        ),
        TablePanel(
            title="The whole network at a glance",
            help="Each row is a layer: its strongest units on this photo, its mean, and its sparsity, which is the "
            "share of its values that are zero or less.",
            table="layers",
        ),
    ]
