"""Filters: the weights of a layer as pictures, and what can and cannot be read from them.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
figure 3: first-layer filters are small colour pictures. Further in, a filter reads other units and not pixels,
so its raw tiles say little; there, the gradient of the unit at the mean picture shows its effective filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import UnknownNameError, UnsupportedError, needs_photo
from fovea.engine.look.activation_maps.cells import clickable_cells, map_cells
from fovea.engine.look.kernels.beside_patches import add_best_patches, how_to_mine, inputs_beside_patches
from fovea.engine.look.kernels.drawing import filter_pictures, filters_sheet, grey_levels, single_tile
from fovea.engine.look.kernels.effective import TRACES, effective_filter
from fovea.engine.look.kernels.measures import filters_table, likeness_order
from fovea.engine.look.kernels.weights import LayerWeights, input_layers, layer_weights, weighted_layers
from fovea.engine.look.kernels.words import how_to_read, why_hard_to_read
from fovea.engine.look.mining.mined import MINING, mined_gallery
from fovea.engine.look.probing.maps import layer_maps
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayerKind, NetworkKind, Options, UnitKind, option
from fovea.engine.panels import (
    ChannelsPanel,
    GalleryPanel,
    HeatmapPanel,
    ImagePanel,
    Panel,
    ScatterPanel,
    TablePanel,
)

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Card

MAP_VALUES = 16_000_000
"""Activation maps are kept with the run up to so many values."""


class FiltersOptions(Options):
    """Which layer's filters are drawn, and how."""

    layer: str = option(
        "",
        "The layer whose weights are drawn. The filters of the first layer are pictures; those further in are not.",
        kind=LayerKind(has="weights"),
        empty="the first layer with weights",
    )
    unit: int | None = option(
        None,
        "One unit alone: it is drawn with a tile for each of its input channels, the strongest first.",
        kind=UnitKind(),
        empty="all units",
    )
    scaling: Literal["filter", "all", "zero"] = option(
        "zero",
        "What black and white stand for. With zero, middle grey is zero, so that signs can be seen; with filter, they "
        "are each filter's own extremes; with all, they are those of all filters, so that sizes can be compared.",
    )
    order: Literal["index", "norm", "activation", "likeness"] = option(
        "index",
        "The order of the units: by index, by norm, by mean activation on the photo (largest first), or by likeness, "
        "which puts alike filters beside each other.",
    )
    beside: str = option(
        "",
        "Another network whose filters stand beside these. The same network with @random weights shows what training "
        "has changed.",
        kind=NetworkKind(),
        empty="no other network",
    )


def check(card: Card, options: FiltersOptions) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no weights."""
    name = _layer_name(card, options.layer)
    layer = card.layer(name)
    if layer.axes == "none" or not layer.parameters:
        some = ", ".join(weighted_layers(card)[:5])
        raise UnsupportedError(f"layer {name} of {card.name} has no weights of its own: choose one such as {some}")
    if options.unit is not None:
        card.unit(name, options.unit)


def _layer_name(card: Card, chosen: str) -> str:
    """The chosen layer, or the first one that has weights."""
    if chosen:
        return chosen
    names = weighted_layers(card)
    if not names:
        raise UnsupportedError(f"{card.name} has no convolution or linear layer whose weights could be drawn")
    return names[0]


@dataclass(frozen=True)
class Other:
    """The filters of another network: its layer, their weights, the table of its units in the order shown, and whether
    they were never trained."""

    layer: str
    weights: LayerWeights
    units: pd.DataFrame
    random: bool


@dataclass(frozen=True)
class Findings:
    """A layer's weights, red first, and the table of its units in the order shown.

    `maps` (C, h, w): what the units answer to the photo, if there is one. `effective` (channels, h, w): the chosen
    unit's effective filter. `beside`: the filters of another network.
    """

    layer: str
    weights: LayerWeights
    units: pd.DataFrame
    maps: NDArray[np.float32] | None
    effective: NDArray[np.float32] | None
    beside: Other | None


def compute(job: Job[FiltersOptions]) -> Findings:
    """Read the weights and measure them; for one unit, look through the layers before it."""
    options, card = job.options, job.card
    name = _layer_name(card, options.layer)
    job.progress(0.0, f"reading {name}")
    weights = _red_first(layer_weights(job.network, name), card)
    units = filters_table(name, weights.values)
    maps = None
    if job.photo is not None:
        maps = layer_maps(job, card.layer(name), job.input)
        units["activation"] = maps.mean(axis=(1, 2), dtype=np.float64)
    if options.unit is not None:
        return Findings(name, weights, units, maps, _effective(job, name, weights, options.unit), beside=None)
    if options.order == "activation" and maps is None:
        raise needs_photo("order by activation")
    beside = _of_other_network(job, name) if options.beside else None
    return Findings(name, weights, _ordered(units, weights, options.order), maps, effective=None, beside=beside)


def _red_first(weights: LayerWeights, card: Card) -> LayerWeights:
    """Weights on the picture in the order of red, green and blue."""
    if card.preprocessing.order == "BGR" and weights.on_picture and weights.groups == 1:
        return LayerWeights(np.ascontiguousarray(weights.values[:, ::-1]), 1, True)
    return weights


def _ordered(units: pd.DataFrame, weights: LayerWeights, order: str) -> pd.DataFrame:
    """The table of the units in the order in which they are drawn; as it is where that order cannot be had."""
    if order == "likeness":
        places = likeness_order(weights.values)
    elif order in units:
        places = np.argsort(-units[order].to_numpy(), kind="stable")
    else:
        return units
    return units.iloc[places].reset_index(drop=True)


def _effective(job: Job[FiltersOptions], name: str, weights: LayerWeights, unit: int) -> NDArray[np.float32] | None:
    """The effective filter of a unit, where torch can differentiate the network."""
    if weights.colours:  # through one layer alone the effective filter is the filter
        return np.asarray(weights.pictures[unit])
    if not job.card.gradients:
        reason = job.card.no_gradients or f"It needs gradients, and {job.card.name} is an ONNX file."
        job.warn(f"The effective filter is not shown. {reason}")
        return None
    effective = effective_filter(job, name, unit)
    if not effective.any():
        job.warn("The effective filter is zero: at the mean picture every way to this unit goes through silent units.")
    return effective


def _of_other_network(job: Job[FiltersOptions], name: str) -> Other:
    """The same layer of another network, or its first one where it has no such layer."""
    from fovea.models.zoo import load

    job.progress(0.6, f"reading {job.options.beside}")
    other = load(job.options.beside)
    try:
        layer = other.card.layer(name).name
        weights = layer_weights(other, layer)
    except (UnknownNameError, UnsupportedError):
        layer = _layer_name(other.card, "")
        weights = layer_weights(other, layer)
    weights = _red_first(weights, other.card)
    units = _ordered(filters_table(layer, weights.values), weights, job.options.order)
    return Other(layer, weights, units.assign(tile=np.arange(len(units))), other.card.random)


def report(job: Job[FiltersOptions], findings: Findings) -> Result:
    """Array `weights` (units, inputs of a group, rows, columns), image `filters`, table `units` in the order shown.

    Table `units`: unit, norm, orientation (of the stripes it answers to, in degrees, 0 horizontal), frequency (in
    cycles a pixel), dead, duplicate_of (-1: of none), activation (mean on the photo, if there is one). With
    `unit`: table `inputs` (input, norm) and, for a torch network, array `effective` (3, h, w).
    """
    name, weights, units = findings.layer, findings.weights, findings.units
    result = Result(arrays={"weights": weights.values}, tables={"units": units})
    if job.options.unit is None:
        _draw_all(job, findings, result)
        if findings.beside is not None:
            _draw_beside(job, findings.beside, result)
    else:
        _draw_unit(job, findings, job.options.unit, result)
    if not weights.colours:
        result.panels.insert(0, why_hard_to_read(weights))
    if weights.values.shape[2] > 1 and job.options.unit is None:
        result.panels.append(_stripes_panel())
    result.panels.append(_units_panel(name))
    result.preview = "effective" if "effective" in result.images else "filters"
    result.summary = {
        "layer": name,
        "units": len(weights.values),
        "filter": f"{weights.values.shape[2]} × {weights.values.shape[3]} of {weights.values.shape[1]}",
        "dead": int(units["dead"].sum()),
        "duplicates": int((units["duplicate_of"] >= 0).sum()),
    }
    return result


# --- all filters of a layer


def _is_matrix(weights: LayerWeights) -> bool:
    """Whether the layer only mixes its inputs at each position."""
    return weights.values.shape[2:] == (1, 1) and not weights.colours


def _draw_all(job: Job[FiltersOptions], findings: Findings, result: Result) -> None:
    """Every filter as one tile: a colour picture, or a mosaic of its input channels; a 1 × 1 layer as its matrix."""
    weights, units, scaling = findings.weights, findings.units, job.options.scaling
    order = units["unit"].to_numpy()
    if _is_matrix(weights):
        matrix = weights.values[order, :, 0, 0]
        result.arrays["matrix"] = matrix
        result.images["filters"] = np.repeat(grey_levels(matrix, scaling, (0, 1))[..., None], 3, -1)
        result.panels.append(
            HeatmapPanel(
                title="The layer as a matrix",
                help="A 1 × 1 layer only mixes its inputs: there is a row for each unit and a column for each input "
                "channel.",
                array="matrix",
                scale="diverging",
                units="weight",
            )
        )
        return
    opens = (*_add_maps(job, findings, result), add_best_patches(job, findings.layer, result))
    pictures = filter_pictures(weights, order, scaling)
    sheet, pixels = filters_sheet(pictures)
    result.images |= {"filters": filters_sheet(pictures, gap=4)[1], "tiles": pixels}
    result.tables["units"] = units.assign(tile=np.arange(len(units)))
    more = " Click one to see it large" + (", with what it answers to the photo." if job.photo is not None else ".")
    result.panels.append(
        GalleryPanel(
            title="Filters",
            help=how_to_read(weights, scaling) + more,
            image="tiles",
            table="units",
            tile=sheet.tile,
            columns=sheet.columns,
            caption=("unit", "remarks", "norm", "orientation", "frequency"),
            key="unit",
            opens=opens,
        )
    )


def _add_maps(job: Job[FiltersOptions], findings: Findings, result: Result) -> tuple[Panel, ...]:
    """Array `activations` and its panel: what each filter answers to the photo."""
    layer, maps, size = job.card.layer(findings.layer), findings.maps, job.card.preprocessing.size
    if maps is None or not layer.spatial or maps.size > MAP_VALUES:
        return ()
    (ys, _), (xs, _) = map_cells(layer, size)
    result.arrays |= {"activations": maps, "ys": ys, "xs": xs}
    return (
        ChannelsPanel(
            title="What it answers to the photo",
            help=f"This is the unit's map in {layer.name}, over the photo.",
            array="activations",
            image="photo",
            units="activation",
            scale="diverging" if (maps < 0).any() else "sequential",
            cells=clickable_cells(layer, size, "activations"),
        ),
    )


def _draw_beside(job: Job[FiltersOptions], other: Other, result: Result) -> None:
    """The other network's filters in one row with these."""
    order, scaling = other.units["unit"].to_numpy(), job.options.scaling
    title = f"{other.layer} of {job.options.beside}"
    if _is_matrix(other.weights):
        result.arrays["matrix_beside"] = other.weights.values[order, :, 0, 0]
        result.panels.append(
            HeatmapPanel(
                title=title,
                help="There is a row for each unit and a column for each input channel.",
                array="matrix_beside",
                scale="diverging",
                units="weight",
                beside=True,
            )
        )
        return
    sheet, pixels = filters_sheet(filter_pictures(other.weights, order, scaling))
    result.images["beside"], result.tables["beside"] = pixels, other.units
    untrained = "Its weights are random: what looks like this was not learned."
    result.panels.append(
        GalleryPanel(
            title=title,
            help=untrained if other.random else how_to_read(other.weights, scaling),
            image="beside",
            table="beside",
            tile=sheet.tile,
            columns=sheet.columns,
            caption=("unit", "remarks", "norm", "orientation", "frequency"),
            key="unit",
            beside=True,
        )
    )


# --- one unit


def _draw_unit(job: Job[FiltersOptions], findings: Findings, unit: int, result: Result) -> None:
    """One unit: its picture or its effective filter, and a tile for each of its input channels, strongest first."""
    if findings.effective is not None:
        result.arrays["effective"] = findings.effective
    if findings.weights.colours:
        result.images["filters"] = single_tile(findings.weights.pictures[unit], job.options.scaling)
        words = how_to_read(findings.weights, job.options.scaling)
        result.panels.append(ImagePanel(title=f"Filter {unit} of {findings.layer}", help=words, image="filters"))
    elif findings.effective is not None and findings.effective.any():
        result.images["effective"] = single_tile(findings.effective, "zero")
        result.panels.append(
            ImagePanel(
                title=f"Effective filter of unit {unit}",
                help="Each pixel shows how a change there would move the unit, at the network's mean picture: all "
                "layers up to this one are taken as if they were one filter. Middle grey is zero.",
                image="effective",
            )
        )
    _draw_inputs(job, findings, unit, result)


def _draw_inputs(job: Job[FiltersOptions], findings: Findings, unit: int, result: Result) -> None:
    """Table and image `inputs`: a tile for each channel that the unit reads, beside what excites that channel."""
    import pandas as pd

    weights = findings.weights
    values = weights.values[unit]
    norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2)))
    order = np.argsort(-norm, kind="stable")
    channels = [weights.input_of(unit, int(index)) for index in order]
    inputs = pd.DataFrame({"input": channels, "norm": norm[order], "tile": np.arange(len(order))})
    levels = grey_levels(values[order][None], "zero" if job.options.scaling == "zero" else "all", (1, 2, 3))[0]
    pictures = np.repeat(levels[..., None], 3, axis=-1)
    result.tables["inputs"] = inputs
    before = [] if weights.on_picture else input_layers(job.network, findings.layer)
    newest = mined_gallery(job, before) if before else None
    words = "There is one tile for each channel that the unit reads, those with the largest weights first"
    if newest is None:
        (sheet, pixels), table, group = filters_sheet(pictures), "inputs", tuple[str, ...]()
    else:
        mined, gallery = newest
        result.tables["inputs_shown"], sheet, pixels = inputs_beside_patches(inputs, pictures, mined, gallery)
        table, group = "inputs_shown", ("input",)
        words += f", each beside the patch that excites that channel most ({mined.run.record.subject})"
    result.images["inputs"] = pixels
    result.images.setdefault("filters", pixels)
    result.panels.append(
        GalleryPanel(
            title=f"Unit {unit} by input channel",
            help=f"{words}.",
            image="inputs",
            table=table,
            tile=sheet.tile,
            columns=sheet.columns,
            group=group,
            caption=("weight",) if group else ("input", "norm"),
        )
    )
    if newest is None and before:
        result.panels.append(how_to_mine(job, "What each input channel stands for is not known yet.", before[0]))


# --- the units in numbers


def _stripes_panel() -> Panel:
    return ScatterPanel(
        title="Orientation and frequency",
        help="Each point is a filter's strongest wave: how its stripes lie (in degrees, 0 is horizontal), and how fine "
        "they are (in cycles a pixel).",
        table="units",
        x="orientation",
        y=("frequency",),
        caption=("norm", "unit"),
    )


def _units_panel(name: str) -> Panel:
    return TablePanel(
        title=f"Units of {name}",
        help="Each row is a unit: its norm, the orientation of its stripes in degrees (0 is horizontal), their "
        "frequency in cycles a pixel, and whether it is dead (it has nearly no weight) or repeats another unit.",
        table="units",
    )


def work(card: Card, options: FiltersOptions, images: int) -> float:
    """Forward passes: one for the activations, three for each gradient of an effective filter."""
    return 1.0 if options.unit is None else 1.0 + 3.0 * TRACES


METHOD = Method(
    name="filters",
    title="Filters",
    verb="look",
    family="Filters",
    question="What does it look for?",
    summary="Draws the weights of a layer as pictures, and a unit's effective filter (Krizhevsky et al. 2012).",
    options=FiltersOptions,
    compute=compute,
    report=report,
    work=work,
    photo=False,
    uses_photo=True,
    check=check,
    reads=(MINING,),
    version=2,
)
