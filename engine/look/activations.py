"""Activation maps: what every unit of a layer answers to one photo, and the whole network at a glance.

Yosinski et al., "Understanding Neural Networks Through Deep Visualization" (2015), section 2: all channels of a
layer as one picture. Every map is scaled by its own values there; a second photo's or network's map shares the
scale of the first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.activation_maps.cells import clickable_cells, map_cells
from fovea.engine.look.activation_maps.glance import LayerGlance, add_glance, look_over
from fovea.engine.look.probing.layers import layer_or_middle
from fovea.engine.look.probing.maps import layer_maps
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayerKind, NetworkKind, Options, PhotoKind, option
from fovea.engine.panels import ChannelsPanel, TablePanel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Card, Layer


class ActivationsOptions(Options):
    """Which layer is shown, and in which order."""

    layer: str = option(
        "",
        "The layer whose units are shown.",
        kind=LayerKind(),
        empty="the last layer of the middle resolution",
    )
    order: Literal["index", "maximum", "mean"] = option(
        "index",
        "The order of the units: by index, or by their largest or their mean value on the photo, largest first.",
    )
    second: str = option(
        "",
        "Another photo, whose maps are shown beside the first photo's on the same scale.",
        kind=PhotoKind(),
        empty="no second photo",
    )
    beside: str = option(
        "",
        "Another network, whose maps of the same photo are shown beside this network's on the same scale.",
        kind=NetworkKind(),
        empty="no other network",
    )
    beside_layer: str = option(
        "",
        "The layer of the other network that is shown.",
        max_length=300,
        advanced=True,
        empty="the layer of the same name, or one in the middle",
    )
    glance: bool = option(
        True,
        "Also look over all layers: their strongest units, their means, and how sparse they are. Switch it off for a "
        "large network, since the photo then goes through it once more with every map kept.",
        advanced=True,
    )


def check(card: Card, options: ActivationsOptions) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer cannot be shown."""
    layer_or_middle(card, options.layer)


@dataclass(frozen=True)
class Counterpart:
    """What stands beside the maps: `maps` (D, i, j) of another photo or network, the `frame` (H, W, C) that they are
    of, the name of their layer, and whether unit i of both is the same unit (`alike`)."""

    maps: NDArray[np.float32]
    frame: NDArray[np.uint8]
    layer: str
    alike: bool


@dataclass(frozen=True)
class Findings:
    """The layer and its `maps` (C, h, w) of the photo, what stands beside them, and every layer at a glance."""

    layer: Layer
    maps: NDArray[np.float32]
    second: Counterpart | None
    beside: Counterpart | None
    glance: Sequence[LayerGlance]


def compute(job: Job[ActivationsOptions]) -> Findings:
    """One forward pass for the layer's maps, one for what stands beside them, one for the look over all layers."""
    options = job.options
    layer = layer_or_middle(job.card, options.layer)
    job.progress(0.0, f"reading {layer.name}")
    maps = layer_maps(job, layer, job.input)
    second = _of_second_photo(job, layer) if options.second else None
    beside = None
    if options.beside:
        job.progress(0.2, f"reading {options.beside}")
        beside = _of_other_network(job, layer)
    glance: Sequence[LayerGlance] = ()
    if options.glance:
        job.progress(0.4, "looking over all layers")
        glance = look_over(job)
    return Findings(layer, maps, second, beside, glance)


def _of_second_photo(job: Job[ActivationsOptions], layer: Layer) -> Counterpart:
    preprocessing = job.card.preprocessing
    frame = preprocessing.frame(job.read_photo(job.options.second))
    return Counterpart(layer_maps(job, layer, preprocessing.normalise(frame)[None]), frame, layer.name, alike=True)


def _of_other_network(job: Job[ActivationsOptions], layer: Layer) -> Counterpart:
    """The other network's maps of the same photo. Raises what loading it or its layer does."""
    from fovea.models.zoo import load

    other = dataclasses.replace(job, network=load(job.options.beside))
    same_name = any(known.name == layer.name and known.axes != "none" for known in other.card.layers)
    theirs = layer_or_middle(other.card, job.options.beside_layer or (layer.name if same_name else ""))
    alike = theirs.name == layer.name and theirs.units == layer.units
    return Counterpart(layer_maps(other, theirs, other.input), other.frame, theirs.name, alike)


def report(job: Job[ActivationsOptions], findings: Findings) -> Result:
    """Array `activations` (C, h, w), float32; with a second photo or network also `second` or `beside`.

    Tables `units` (unit, maximum, row, column, mean, active: share of positions above zero; in the chosen
    order) and `layers` (the same in sum for every layer). Arrays `ys`, `xs`: the frame's pixels where the cells
    of the map's rows and columns begin. `pair`, `pair_beside`: the maps of both side by side.
    """
    layer, maps = findings.layer, findings.maps
    units = _units_table(maps, job.options.order)
    (ys, _), (xs, _) = map_cells(layer, job.card.preprocessing.size)
    result = Result(arrays={"activations": maps, "ys": ys, "xs": xs}, tables={"units": units})
    if layer.spatial:
        result.panels.append(_maps_panel(job.card, layer))
    if findings.second is not None:
        result.arrays["second"] = findings.second.maps
        _add_pair(job, layer, findings.second, "pair", "photo", result)
    if findings.beside is not None:
        result.arrays["beside"] = findings.beside.maps
        result.summary["layer beside"] = findings.beside.layer
        _add_pair(job, layer, findings.beside, "pair_beside", "network", result)
    result.panels.append(
        TablePanel(
            title=f"Units of {layer.name}",
            help="Each row is a unit: its largest value and where in the map it lies, its mean, and the share of its "
            "positions that are above zero.",
            table="units",
        )
    )
    if findings.glance:
        add_glance(findings.glance, result)
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


def _add_pair(
    job: Job[ActivationsOptions], layer: Layer, counterpart: Counterpart, name: str, what: str, result: Result
) -> None:
    """Add the maps side by side as array, picture and table `name`, and their panels; `what` differs between them."""
    from fovea.engine.look.activation_maps.pairs import gap_between, pair_up, photos_beside

    size = job.card.preprocessing.size
    gap, pixels = gap_between(layer, size)
    order = result.tables["units"]["unit"].to_numpy()
    pair = pair_up(result.arrays["activations"], counterpart.maps, order, gap, alike=counterpart.alike)
    result.arrays[name] = pair.maps
    result.images[name] = photos_beside(job.frame, counterpart.frame, pixels)
    result.tables[name] = pair.table()
    if layer.spatial:
        each = "A pair is one unit." if counterpart.alike else "The strongest unit stands beside the strongest."
        result.panels.append(
            ChannelsPanel(
                title=f"The two {what}s side by side",
                help=f"The first {what}'s map is on the left, the second's on the right, both on one scale. {each} "
                "Click a pair to see it over the photos.",
                array=name,
                image=name,
                units="activation",
                cells=clickable_cells(layer, size, name),
            )
        )
    result.panels.append(
        TablePanel(
            title=f"Pairs of units, by {what}",
            help=f"Each row is a pair: a unit's largest value for the first {what}, and its partner's for the second.",
            table=name,
        )
    )


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


def _maps_panel(card: Card, layer: Layer) -> ChannelsPanel:
    return ChannelsPanel(
        title=f"Every unit of {layer.name}",
        help=f"These are {layer.units} maps of {layer.grid[0]} × {layer.grid[1]}, each drawn from its smallest to its "
        "largest value. Click one to see it over the photo, where its receptive fields lie.",
        array="activations",
        table="units",
        image="photo",
        units="activation",
        cells=clickable_cells(layer, card.preprocessing.size, "activations"),
    )


def work(card: Card, options: ActivationsOptions, images: int) -> float:
    """Forward passes: one for each photo or network, one for the look over all layers, which keeps every map."""
    return 1.0 + float(bool(options.second)) + float(bool(options.beside)) + 3.0 * float(options.glance)


METHOD = Method(
    name="activations",
    title="Activation maps",
    verb="look",
    family="Activation maps",
    question="What does each unit see in it?",
    summary="Shows each unit's map of a layer for one photo, and the whole network at a glance (Yosinski et al. 2015).",
    options=ActivationsOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
    every_unit=True,
    version=2,
)
