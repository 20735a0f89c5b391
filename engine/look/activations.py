"""Activation maps: what every unit of a layer answers to one photo, and the whole network at a glance.

Yosinski et al., "Understanding Neural Networks Through Deep Visualization" (2015), section 2: all channels of a
layer as one picture. Every map is scaled by its own values there; a second photo's or network's map shares the
scale of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.activity.pairs import cells
from fovea.engine.look.probing.layers import last_of_each_resolution, with_units
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayerKind, NetworkKind, Options, PhotoKind, option
from fovea.engine.panels import Cells, ChannelsPanel, Panel, TablePanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.look.probing.reducers import Editor
    from fovea.models.card import Card, Layer


class ActivationsOptions(Options):
    """Which layer is shown, and in which order."""

    layer: str = option("", "layer to show (default: one in the middle of the network)", kind=LayerKind())
    order: Literal["index", "maximum", "mean"] = option(
        "index", "units by index, or by their largest or mean value on the photo, largest first"
    )
    second: str = option("", "another photo, shown beside the first on the same scale", kind=PhotoKind())
    beside: str = option("", "another network, shown beside this one on the same photo and scale", kind=NetworkKind())
    beside_layer: str = option(
        "", "its layer (default: that of the same name, or one in its middle)", max_length=300, advanced=True
    )
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
    """Array `activations` (C, h, w), float32; with a second photo or network also `second` or `beside`.

    Tables `units` (unit, maximum, row, column, mean, active: share of positions above zero; in the chosen
    order) and `layers` (the same in sum for every layer). Arrays `ys`, `xs`: the frame's pixels where the cells
    of the map's rows and columns begin. `pair`, `pair_beside`: the maps of both side by side.
    """
    from fovea.engine.look.activity.glance import look_over

    options = job.options
    layer = chosen_layer(job.card, options.layer)
    job.progress(0.0, f"reading {layer.name}")
    maps = _maps(job, layer, job.input)
    units = _units_table(maps, options.order)
    (ys, _), (xs, _) = cells(layer, job.card.preprocessing.size)
    result = Result(arrays={"activations": maps, "ys": ys, "xs": xs}, tables={"units": units})
    result.panels = _panels(job.card, layer)
    if options.second:
        _beside_photo(job, layer, result)
    if options.beside:
        job.progress(0.2, f"reading {options.beside}")
        _beside_network(job, layer, result)
    result.panels.append(
        TablePanel(
            title=f"Units of {layer.name}",
            help="Largest value and where in the map it lies, mean, and the share of positions above zero.",
            table="units",
        )
    )
    if options.glance:
        job.progress(0.4, "looking over all layers")
        look_over(job, result)
    strongest = units.loc[units["maximum"].idxmax()]
    result.summary |= {
        "layer": layer.name,
        "units": layer.units,
        "map": " × ".join(str(side) for side in layer.grid),
        "strongest unit": int(strongest["unit"]),
        "largest value": round(float(strongest["maximum"]), 6),
        "silent units": int((units["active"] == 0).sum()),
    }
    result.preview = _preview(maps, units["unit"].to_numpy())
    return result


def _beside_photo(job: Job, layer: Layer, result: Result) -> None:
    """The second photo's maps, and both side by side."""
    preprocessing = job.card.preprocessing
    frame = preprocessing.frame(job.read_photo(job.options.second))
    maps = _maps(job, layer, preprocessing.normalise(frame)[None])
    result.arrays["second"] = maps
    _pair(job, layer, result, maps, frame, "pair", alike=True)


def _beside_network(job: Job, layer: Layer, result: Result) -> None:
    """The other network's maps of the same photo, and both side by side. Raises what loading it or its layer does."""
    from fovea.models.zoo import load

    other = dataclasses.replace(job, network=load(job.options.beside))
    wanted = job.options.beside_layer
    same = any(one.name == layer.name and one.axes != "none" for one in other.card.layers)
    theirs = chosen_layer(other.card, wanted or (layer.name if same else ""))
    maps = _maps(other, theirs, other.input)
    result.arrays["beside"] = maps
    result.summary["layer beside"] = theirs.name
    alike = theirs.name == layer.name and theirs.units == layer.units
    _pair(job, layer, result, maps, other.frame, "pair_beside", alike=alike)


def _pair(
    job: Job,
    layer: Layer,
    result: Result,
    maps: NDArray[np.float32],
    frame: NDArray[np.uint8],
    name: str,
    *,
    alike: bool,
) -> None:
    """Add one pair: its array, its photos, its table and panel."""
    from fovea.engine.look.activity.pairs import gap_between, pair_up, photos_beside

    size = job.card.preprocessing.size
    gap, pixels = gap_between(layer, size)
    order = result.tables["units"]["unit"].to_numpy()
    pair = pair_up(result.arrays["activations"], maps, order, gap, alike=alike)
    result.arrays[name] = pair.maps
    result.images[name] = photos_beside(job.frame, frame, pixels)
    what = "photo" if name == "pair" else "network"
    result.tables[name] = pair.table()
    each = "each unit" if alike else "the strongest beside the strongest"
    panel = ChannelsPanel(
        title=f"The two {what}s side by side",
        help=f"Left the first {what}'s map, right the second's: {each}, both on one scale. Click a pair to see it over "
        "the photos.",
        array=name,
        image=name,
        units="activation",
        cells=_cells(layer, size, name),
    )
    if layer.spatial:
        result.panels.append(panel)
    result.panels.append(TablePanel(title=f"Pairs of units, by {what}", table=name))


def _maps(job: Job, layer: Layer, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The layer's maps (C, h, w) for one input (1, channels, H, W)."""
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        editor.answer(reducers.as_maps(editor, tensors[layer.name], layer), "maps")

    probe = Probe(job, [layer.name], build)
    feed = job.network.graph().input
    return np.array(probe.run({feed: inputs}, batched=(feed,))["maps"][0], np.float32)


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


def _preview(maps: NDArray[np.float32], order: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The first maps in the chosen order as one small sheet."""
    from fovea.engine.panels.sheet import Sheet, map_tiles, square_columns

    first = maps[order[:64]]
    return Sheet(40, square_columns(len(first))).compose(map_tiles(first, 40))


def _cells(layer: Layer, size: tuple[int, int], values: str) -> Cells:
    (_, height), (_, width) = cells(layer, size)
    whole = (max(1, round(height)), max(1, round(width)))
    return Cells(ys="ys", xs="xs", height=whole[0], width=whole[1], values=values, label="activation")


def _panels(card: Card, layer: Layer) -> list[Panel]:
    if not layer.spatial:
        return []
    return [
        ChannelsPanel(
            title=f"Every unit of {layer.name}",
            help=f"{layer.units} maps of {layer.grid[0]} × {layer.grid[1]}, each from its smallest to its "
            "largest value. Click one to see it over the photo, where its receptive fields lie.",
            array="activations",
            table="units",
            image="photo",
            units="activation",
            cells=_cells(layer, card.preprocessing.size, "activations"),
        )
    ]


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one for each photo or network, one for the look over all layers, which keeps every map."""
    return 1.0 + float(bool(options.second)) + float(bool(options.beside)) + 3.0 * float(options.glance)


METHOD = Method(
    name="activations",
    title="Activation maps",
    verb="look",
    family="Activation maps",
    question="What does each unit see in it?",
    summary="Every unit's map of a layer for one photo, and the whole network at a glance (Yosinski et al. 2015).",
    options=ActivationsOptions,
    compute=run,
    work=work,
    check=check,
    every_unit=True,
    version=2,
)
