"""Activation maps: what every unit of a layer answers to one photo, and the whole network at a glance.

Yosinski et al., "Understanding Neural Networks Through Deep Visualization" (2015), section 2: all channels of a
layer as one picture. Every map is scaled by its own values there; a second photo shares the first one's scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import UnsupportedError
from engine.look.layers import last_of_each_resolution, with_units
from engine.method import Cells, Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    import pandas as pd

    from engine.look.reducers import Editor
    from models.card import Card, Layer

STRONGEST = 3
"""So many units are named for each layer of the whole network."""


class ActivationsOptions(Options):
    """Which layer is shown, and in which order."""

    layer: str = option("", "layer to show (default: one in the middle of the network)", kind="layer")
    order: Literal["index", "maximum", "mean"] = option(
        "index", "units by index, or by their largest or mean value on the photo, largest first"
    )
    second: str = option("", "another photo, shown beside the first on the same scale", kind="photo")
    glance: bool = option(True, "also look over all layers: strongest units, mean, sparsity", advanced=True)


def chosen_layer(card: Card, name: str) -> Layer:
    """The named layer, or the last one of the middle resolution.

    Raises UnknownNameError, or UnsupportedError if it has no units or there is no layer of maps at all.
    """
    if name:
        return with_units(card, name)
    layers = last_of_each_resolution(card)
    if not layers:
        raise UnsupportedError(
            f"{card.name} has no layer whose units are maps: name a layer such as {card.layers[-1].name}"
        )
    return layers[(len(layers) - 1) // 2]


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer cannot be shown."""
    chosen_layer(card, options.layer)


def run(job: Job) -> Result:
    """Array `activations` (C, h, w), float32; with a second photo also `second` (C, h, w).

    Tables `units` (unit, maximum, row, column, mean, active: share of positions above zero; in the chosen
    order) and `layers` (the same in sum for every layer). Arrays `ys`, `xs`: the frame's pixels where the cells
    of the map's rows and columns begin.
    """
    options = job.options
    layer = chosen_layer(job.card, options.layer)
    job.progress(0.0, f"reading {layer.name}")
    inputs = [job.input]
    if options.second:
        preprocessing = job.card.preprocessing
        inputs.append(preprocessing.normalise(preprocessing.frame(job.read_photo(options.second)))[None])
    maps = _maps(job, layer, inputs)
    units = _units_table(maps[0], options.order)
    (ys, _), (xs, _) = cells(layer, job.card.preprocessing.size)
    result = Result(arrays={"activations": maps[0], "ys": ys, "xs": xs}, tables={"units": units})
    if options.second:
        result.arrays |= {"second": maps[1], "pair": side_by_side(maps[0], maps[1])}
    if options.glance:
        job.progress(0.4, "looking over all layers")
        result.tables["layers"] = _layers_table(job)
    strongest = units.loc[units["maximum"].idxmax()]
    result.summary = {
        "layer": layer.name,
        "units": layer.units,
        "map": " × ".join(str(side) for side in layer.grid),
        "strongest unit": int(strongest["unit"]),
        "largest value": round(float(strongest["maximum"]), 6),
        "silent units": int((units["active"] == 0).sum()),
    }
    result.preview = _preview(maps[0], units["unit"].to_numpy())
    result.panels = _panels(job.card, layer, options, result)
    return result


def _maps(job: Job, layer: Layer, inputs: list[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """The layer's maps (C, h, w) for each input."""
    from engine.look import reducers
    from engine.look.probe import Probe

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        editor.answer(reducers.as_maps(editor, tensors[layer.name], layer), "maps")

    probe = Probe(job, [layer.name], build)
    feed = job.network.graph().input
    return [np.array(probe.run({feed: one}, batched=(feed,))["maps"][0], np.float32) for one in inputs]


def _units_table(maps: NDArray[np.float32], order: str) -> pd.DataFrame:
    import pandas as pd

    flat = np.nan_to_num(maps.reshape(len(maps), -1), nan=-np.inf)
    row, column = np.divmod(flat.argmax(axis=1), maps.shape[2])
    table = pd.DataFrame(
        {
            "unit": np.arange(len(maps)),
            "maximum": flat.max(axis=1),
            "row": row,
            "column": column,
            "mean": maps.mean(axis=(1, 2), dtype=np.float64),
            "active": (maps > 0).mean(axis=(1, 2)),
        }
    )
    if order == "index":
        return table
    return table.sort_values([order, "unit"], ascending=[False, True], ignore_index=True)


def cells(layer: Layer, frame: tuple[int, int]) -> list[tuple[NDArray[np.float64], float]]:
    """Where the layer's positions lie in the (H, W) frame: for rows and for columns their first edges and height
    or width in pixels.

    A position's cell is one stride large, about the middle of its receptive field; where every position sees
    everything the cells share the frame evenly.
    """
    field = layer.receptive_field
    found = []
    for side, count in enumerate(layer.grid):
        steps = np.arange(count, dtype=np.float64)
        if field is None or field.whole:
            found.append((steps * frame[side] / count, frame[side] / count))
        else:
            stride = float(field.stride[side])
            found.append((field.offset[side] + (field.size[side] - stride) / 2 + steps * stride, stride))
    return found


def side_by_side(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Two sets of maps (C, h, w) as one (C, h, 2w + gap), so that each pair is drawn on one scale."""
    gap = max(1, one.shape[2] // 16)
    low = np.minimum(one.min(axis=(1, 2)), other.min(axis=(1, 2)))[:, None, None]
    between = np.broadcast_to(low, (len(one), one.shape[1], gap))
    return np.concatenate([one, between, other], axis=2)


def _layers_table(job: Job) -> pd.DataFrame:
    """One row a layer with units: its size, strongest units, largest and mean value, share of zero or less."""
    import pandas as pd

    from engine.look import reducers
    from engine.look.probe import Probe

    layers = [layer for layer in job.card.layers if layer.axes != "none"]

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        for index, layer in enumerate(layers):
            maps = reducers.as_maps(editor, tensors[layer.name], layer)
            editor.answer(editor.reduce("ReduceMax", maps, [2, 3]), f"maximum.{index}")
            editor.answer(reducers.spatial_mean(editor, maps), f"mean.{index}")
            editor.answer(reducers.share_above_zero(editor, maps), f"active.{index}")

    probe = Probe(job, [layer.name for layer in layers], build)
    feed = job.network.graph().input
    answers = probe.run({feed: job.input}, batched=(feed,))
    rows = []
    for index, layer in enumerate(layers):
        maximum = answers[f"maximum.{index}"][0]
        best = np.argsort(-maximum, kind="stable")[:STRONGEST]
        rows.append(
            {
                "layer": layer.name,
                "kind": layer.kind,
                "units": layer.units,
                "rows": layer.grid[0],
                "columns": layer.grid[1],
                "strongest units": ", ".join(f"{unit} ({maximum[unit]:.3g})" for unit in best),
                "maximum": float(maximum[best[0]]),
                "mean": float(answers[f"mean.{index}"][0].mean()),
                "sparsity": 1 - float(answers[f"active.{index}"][0].mean()),
            }
        )
    return pd.DataFrame(rows)


def _preview(maps: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The first maps in the chosen order as one small sheet."""
    from engine.sheet import compose_sheet, map_tiles, square_columns

    first = maps[order[:64]]
    return compose_sheet(map_tiles(first, 40), 40, square_columns(len(first)))


def _panels(card: Card, layer: Layer, options: Any, result: Result) -> list[Panel]:
    panels = []
    if layer.spatial:
        (_, height), (_, width) = cells(layer, card.preprocessing.size)
        panels.append(
            Panel(
                kind="channels",
                title=f"Every unit of {layer.name}",
                help=f"{layer.units} maps of {layer.grid[0]} × {layer.grid[1]}, each from its smallest to its "
                "largest value. Click one to see it over the photo, where its receptive fields lie.",
                array="activations",
                table="units",
                image="photo",
                units="activation",
                cells=Cells(
                    ys="ys",
                    xs="xs",
                    height=max(1, round(height)),
                    width=max(1, round(width)),
                    values="activations",
                    label="activation",
                ),
            )
        )
        if options.second:
            panels.append(
                Panel(
                    kind="channels",
                    title="The two photos side by side",
                    help="Left the first photo's map, right the second's, each pair on one scale.",
                    array="pair",
                    table="units",
                    units="activation",
                )
            )
    panels.append(
        Panel(
            kind="table",
            title=f"Units of {layer.name}",
            help="Largest value and where in the map it lies, mean, and the share of positions above zero.",
            table="units",
        )
    )
    if "layers" in result.tables:
        panels.append(
            Panel(
                kind="table",
                title="The whole network at a glance",
                help="For each layer its strongest units on this photo, its mean, and its sparsity: the share of "
                "values that are zero or less.",
                table="layers",
            )
        )
    return panels


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one for each photo, one for the look over all layers, which keeps every map."""
    return 1.0 + float(bool(options.second)) + 3.0 * float(options.glance)


METHOD = Method(
    name="activations",
    title="Activation maps",
    verb="look",
    family="Activation maps",
    question="What does each unit see in it?",
    summary="Every unit's map of a layer for one photo, and the whole network at a glance (Yosinski et al. 2015).",
    options=ActivationsOptions,
    run=run,
    work=work,
    check=check,
    every_unit=True,
)
