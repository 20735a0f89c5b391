"""Filters: the weights of a layer as pictures, and what can and cannot be read from them.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
figure 3: first-layer filters are small colour pictures. Further in, a filter reads other units and not pixels,
so its raw tiles say little; there, the gradient of the unit at the mean picture shows its effective filter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from engine.errors import OptionsError, UnsupportedError
from engine.look.weights import LayerWeights, layer_weights, weighted_layers
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    import pandas as pd

    from models.card import Card

SHEET_SIDE = 2400
"""A sheet of filters is at most about this wide, in pixels."""
DEAD = 1e-3
"""A filter whose norm is below this share of the layer's median is called dead."""
SAME = 0.99
"""Two filters whose cosine is above this are called duplicates."""
LIKENESS_LIMIT = 4096
_FREQUENCIES = 64


class FiltersOptions(Options):
    """Which layer's filters are drawn, and how."""

    layer: str = option("", "layer whose weights are drawn (default: the first)", kind="layer", needs="weights")
    unit: int | None = option(None, "one unit alone: a tile for each of its input channels", kind="unit")
    scaling: Literal["filter", "all", "zero"] = option(
        "zero", "black and white are a filter's own extremes, those of all filters, or zero lies at middle grey"
    )
    order: Literal["index", "norm", "activation", "likeness"] = option(
        "index", "units by index, by norm, by mean activation on the photo, or alike beside alike"
    )


def check(card: Card, options: Any) -> None:
    """Raises UnknownNameError or UnsupportedError if the layer has no weights."""
    name = _layer_name(card, options)
    layer = card.layer(name)
    if layer.axes == "none" or not layer.parameters:
        some = ", ".join(weighted_layers(card)[:5])
        raise UnsupportedError(f"layer {name} of {card.name} has no weights of its own: choose one such as {some}")
    if options.unit is not None:
        card.unit(name, options.unit)


def _layer_name(card: Card, options: Any) -> str:
    if options.layer:
        return str(options.layer)
    names = weighted_layers(card)
    if not names:
        raise UnsupportedError(f"{card.name} has no convolution or linear layer whose weights could be drawn")
    return names[0]


def run(job: Job) -> Result:
    """Array `weights` (units, inputs of a group, rows, columns), image `filters`, table `units` in the order shown.

    Table `units`: unit, norm, orientation (of the stripes it answers to, in degrees, 0 horizontal), frequency (in
    cycles a pixel), dead, duplicate_of (-1: of none), activation (mean on the photo, if there is one). With
    `unit`: table `inputs` (input, norm) and, for a torch network, array `effective` (3, h, w).
    """
    options, card = job.options, job.card
    name = _layer_name(card, options)
    job.progress(0.0, f"reading {name}")
    weights = layer_weights(job.network, name)
    if card.preprocessing.order == "BGR" and weights.colours:
        weights = LayerWeights(np.ascontiguousarray(weights.values[:, ::-1]), weights.groups, True)
    units = _units_table(job, name, weights)
    result = Result(arrays={"weights": weights.values})
    if options.unit is None:
        order = _order(options.order, units, weights)
        units = units.iloc[order].reset_index(drop=True)
        result.tables["units"] = units
        _draw_all(weights, units, options, result)
    else:
        result.tables["units"] = units
        _draw_unit(job, name, weights, result)
    result.panels += _panels_of_layer(name, weights, options)
    result.summary = {
        "layer": name,
        "units": len(weights.values),
        "filter": f"{weights.values.shape[2]} × {weights.values.shape[3]} of {weights.values.shape[1]}",
        "dead": int(units["dead"].sum()),
        "duplicates": int((units["duplicate_of"] >= 0).sum()),
    }
    return result


# --- numbers


def _units_table(job: Job, name: str, weights: LayerWeights) -> pd.DataFrame:
    import pandas as pd

    values = weights.values
    norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    orientation, frequency = stripes(values)
    table = pd.DataFrame(
        {
            "unit": np.arange(len(values)),
            "norm": norm,
            "orientation": orientation,
            "frequency": frequency,
            "dead": norm <= DEAD * np.median(norm),
            "duplicate_of": duplicates(values),
        }
    )
    if job.photo is not None:
        table["activation"] = _mean_activation(job, name)
    elif job.options.order == "activation":
        raise OptionsError("order: by activation needs a photo: give --image PATH or --image sample:cat")
    return table


def stripes(filters: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Orientation in degrees (0 to 180, 0 is horizontal stripes) and frequency in cycles a pixel of each filter.

    They are those of the strongest wave in the filter, of all its channels' spectra together, without the mean;
    NaN for a filter without any (1 × 1, or flat). `filters` (units, inputs, rows, columns).
    """
    count, _, rows, columns = filters.shape
    nothing = np.full(count, np.nan)
    if rows == 1 and columns == 1:
        return nothing, nothing.copy()
    centred = filters - filters.mean(axis=(2, 3), keepdims=True)
    power = np.zeros((count, _FREQUENCIES, _FREQUENCIES // 2 + 1))
    for channel in range(filters.shape[1]):
        power += np.abs(np.fft.rfft2(centred[:, channel], s=(_FREQUENCIES, _FREQUENCIES))) ** 2
    best = power.reshape(count, -1).argmax(axis=1)
    y = np.fft.fftfreq(_FREQUENCIES)[best // power.shape[2]]
    x = np.fft.rfftfreq(_FREQUENCIES)[best % power.shape[2]]
    flat = power.reshape(count, -1).max(axis=1) <= 1e-12
    # Stripes run across the direction in which the wave goes; rows count downwards, angles upwards.
    orientation = np.rad2deg(np.arctan2(x, y)) % 180
    return np.where(flat, np.nan, orientation), np.where(flat, np.nan, np.hypot(x, y))


def duplicates(filters: NDArray[np.float32]) -> NDArray[np.int64]:
    """For each filter the first other one before it that it equals but for its size, or -1."""
    flat = _directions(filters)
    found = np.full(len(flat), -1, np.int64)
    for unit in range(1, len(flat)):
        alike = np.nonzero(flat[:unit] @ flat[unit] > SAME)[0]
        if len(alike):
            found[unit] = alike[0]
    return found


def _directions(filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters as rows of length one; a filter that is all zero stays zero."""
    flat = filters.reshape(len(filters), -1)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    return np.asarray(flat / np.where(norm > 0, norm, 1), np.float32)


def _mean_activation(job: Job, name: str) -> NDArray[np.float32]:
    from engine.look import reducers
    from engine.look.probe import Probe

    layer = job.card.layer(name)

    def build(editor: reducers.Editor, tensors: Any) -> None:
        editor.answer(reducers.spatial_mean(editor, reducers.as_maps(editor, tensors[name], layer)), "mean")

    feed = job.network.graph().input
    return np.asarray(Probe(job, [name], build).run({feed: job.input}, batched=(feed,))["mean"][0])


def _order(order: str, units: pd.DataFrame, weights: LayerWeights) -> NDArray[np.int64]:
    """The units' indices in the order in which they are drawn."""
    if order == "norm":
        return np.argsort(-units["norm"].to_numpy(), kind="stable")
    if order == "activation":
        return np.argsort(-units["activation"].to_numpy(), kind="stable")
    if order == "likeness" and 2 < len(units) <= LIKENESS_LIMIT:
        return likeness_order(weights.values)
    return np.arange(len(units))


def likeness_order(filters: NDArray[np.float32]) -> NDArray[np.int64]:
    """The filters so ordered that alike lie beside alike: the leaves of a tree of average linkage by cosine.

    A filter and its negative count as alike, since both see the same stripes.
    """
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    directions = _directions(filters - filters.mean(axis=(2, 3), keepdims=True) if filters.shape[2] > 1 else filters)
    distance = 1 - np.abs(directions @ directions.T).clip(0, 1)
    np.fill_diagonal(distance, 0)
    tree = linkage(squareform(distance, checks=False), "average", optimal_ordering=len(filters) <= 512)
    return np.asarray(leaves_list(tree), np.int64)


# --- pictures


def grey_levels(values: NDArray[np.float32], scaling: str, axes: tuple[int, ...]) -> NDArray[np.uint8]:
    """Weights as grey levels; `axes` are those of one filter.

    "filter": black and white are its smallest and largest weight. "all": those of all filters. "zero": zero is
    middle grey and the largest distance from it within the filter is black or white.
    """
    within = None if scaling == "all" else axes
    if scaling == "zero":
        largest = np.abs(values).max(axis=within, keepdims=True)
        share = values / np.where(largest > 0, 2 * largest, 1) + 0.5
    else:
        low, high = values.min(axis=within, keepdims=True), values.max(axis=within, keepdims=True)
        share = (values - low) / np.where(high > low, high - low, 1)
    return np.asarray(np.rint(share * 255), np.uint8)


def colour_tiles(filters: NDArray[np.float32], scaling: str) -> NDArray[np.uint8]:
    """Filters (units, 1, 3 or 4, rows, columns) as pictures uint8 (units, rows, columns, 3); alpha is left out."""
    levels = np.moveaxis(grey_levels(filters[:, :3], scaling, (1, 2, 3)), 1, -1)
    return np.repeat(levels, 3, axis=-1) if levels.shape[-1] == 1 else levels


def mosaic_tiles(filters: NDArray[np.float32], scaling: str) -> NDArray[np.uint8]:
    """Filters (units, inputs, rows, columns) as one square picture each, a grey tile for every input channel."""
    units, inputs, rows, columns = filters.shape
    across = int(np.ceil(np.sqrt(inputs)))
    pitch = max(rows, columns) + (1 if max(rows, columns) > 1 else 0)
    levels = grey_levels(filters, scaling, (1, 2, 3))
    pictures = np.full((units, across * pitch, across * pitch), 160, np.uint8)
    for index in range(inputs):
        top, left = (place * pitch for place in divmod(index, across))
        pictures[:, top : top + rows, left : left + columns] = levels[:, index]
    return np.repeat(pictures[..., None], 3, axis=-1)


def enlarged(pictures: NDArray[np.uint8], tile: int) -> NDArray[np.uint8]:
    """Pictures (n, h, w, 3) by whole pixels into the middle of tiles (n, tile, tile, 3)."""
    count, height, width, _ = pictures.shape
    factor = max(1, tile // max(height, width))
    large = pictures.repeat(factor, axis=1).repeat(factor, axis=2)[:, :tile, :tile]
    tiles = np.full((count, tile, tile, 3), 128, np.uint8)
    top, left = (tile - large.shape[1]) // 2, (tile - large.shape[2]) // 2
    tiles[:, top : top + large.shape[1], left : left + large.shape[2]] = large
    return tiles


def _tile_side(pictures: NDArray[np.uint8], least: int = 48) -> int:
    """A tile that holds the pictures enlarged by a whole factor."""
    side = int(max(pictures.shape[1:3]))
    return side * max(1, -(-least // side))


def _sheet(pictures: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """The sheet, its tile and its columns."""
    from engine.sheet import compose_sheet, square_columns

    tile, gap = _tile_side(pictures), 4
    columns = square_columns(len(pictures), max(1, SHEET_SIDE // tile))
    return compose_sheet(enlarged(pictures, tile), tile, columns, gap=gap, background=255), tile + gap, columns


def _draw_all(weights: LayerWeights, units: pd.DataFrame, options: Any, result: Result) -> None:
    """Every filter as one tile: a colour picture, or a mosaic of its input channels."""
    values = weights.values[units["unit"].to_numpy()]
    if weights.values.shape[2:] == (1, 1) and not weights.colours:
        result.arrays["matrix"] = values[:, :, 0, 0]
        result.images["filters"] = np.repeat(grey_levels(values[:, :, 0, 0], options.scaling, (0, 1))[..., None], 3, -1)
        result.panels.append(
            Panel(
                kind="heatmap",
                title="The layer as a matrix",
                help="A 1 × 1 layer only mixes its inputs: a row for each unit, a column for each input channel.",
                array="matrix",
                scale="diverging",
                units="weight",
            )
        )
        return
    pictures = (colour_tiles if weights.colours else mosaic_tiles)(values, options.scaling)
    sheet, tile, columns = _sheet(pictures)
    result.images["filters"] = sheet
    result.tables["units"] = units.assign(tile=np.arange(len(units)))
    result.panels.append(
        Panel(
            kind="gallery",
            title="Filters",
            help=_how_to_read(weights, options.scaling),
            image="filters",
            table="units",
            tile=tile,
            columns=columns,
            caption=("unit", "norm", "orientation"),
        )
    )


def _how_to_read(weights: LayerWeights, scaling: str) -> str:
    scale = {
        "zero": "Middle grey is zero.",
        "filter": "Black and white are each filter's smallest and largest weight.",
        "all": "Black and white are the smallest and largest weight of all filters.",
    }[scaling]
    if weights.colours:
        return f"Each tile is what its unit looks for in the picture's own pixels. {scale}"
    if weights.depthwise:
        return f"Each unit reads one channel alone: one tile each. {scale}"
    return (
        "Each tile holds one small square for every channel of the layer before. These are weights on other units' "
        "maps and not on colours, so little can be read from them by eye: choose a unit to see its effective filter. "
        + scale
    )


def _draw_unit(job: Job, name: str, weights: LayerWeights, result: Result) -> None:
    """One unit: a tile for each of its input channels, strongest first, and its effective filter."""
    import pandas as pd

    options, unit = job.options, int(job.options.unit)
    values = weights.values[unit]
    norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2)))
    order = np.argsort(-norm, kind="stable")
    inputs = [weights.input_of(unit, int(index)) for index in order]
    result.tables["inputs"] = pd.DataFrame({"input": inputs, "norm": norm[order], "tile": np.arange(len(order))})
    levels = grey_levels(values[order][None], "zero" if options.scaling == "zero" else "all", (1, 2, 3))[0]
    sheet, tile, columns = _sheet(np.repeat(levels[..., None], 3, axis=-1))
    if weights.colours:
        picture = colour_tiles(values[None], options.scaling)
        result.images["filters"] = enlarged(picture, _tile_side(picture, 400))[0]
        result.panels.append(
            Panel(
                kind="image",
                title=f"Filter {unit} of {name}",
                help=_how_to_read(weights, options.scaling),
                image="filters",
            )
        )
    else:
        result.images["filters"] = sheet
    result.images["inputs"] = sheet
    result.panels.append(
        Panel(
            kind="gallery",
            title=f"Unit {unit} by input channel",
            help="One tile for each channel that it reads, those with the largest weights first.",
            image="inputs",
            table="inputs",
            tile=tile,
            columns=columns,
            caption=("input", "norm"),
        )
    )
    _add_effective(job, name, unit, result)


def _add_effective(job: Job, name: str, unit: int, result: Result) -> None:
    """The effective filter of a unit, where torch can differentiate the network."""
    if not job.card.gradients:
        job.warn(f"the effective filter needs gradients, and {job.card.name} is an ONNX file")
        return
    effective = effective_filter(job, name, unit)
    result.arrays["effective"] = effective
    picture = colour_tiles(effective[None], "zero")
    result.images["effective"] = enlarged(picture, _tile_side(picture, 400))[0]
    result.panels.append(
        Panel(
            kind="image",
            title=f"Effective filter of unit {unit}",
            help="How each pixel in the unit's receptive field would move it, at the network's mean picture: all "
            "layers up to this one as if they were one filter. Middle grey is zero.",
            image="effective",
        )
    )


def effective_filter(job: Job, name: str, unit: int) -> NDArray[np.float32]:
    """The gradient of a unit's middle position with respect to the input, at the mean picture.

    (C, h, w), cut to the receptive field and in RGB order; the whole frame where every position sees it.
    """
    import torch

    from engine.features import unit_maps
    from models.torch_net import forward_taps

    card = job.card
    layer, (height, width) = card.layer(name), card.preprocessing.size
    module = job.network.module(job.device)
    x = torch.zeros(1, card.preprocessing.channels, height, width, device=job.device, requires_grad=True)
    row, column = layer.grid[0] // 2, layer.grid[1] // 2
    maps = unit_maps(forward_taps(module, x, [name])[name], layer)
    (gradient,) = torch.autograd.grad(maps[0, unit, row, column], x)
    values = gradient[0].cpu().numpy()
    x0, y0, x1, y1 = 0, 0, width, height
    if layer.receptive_field is not None:
        x0, y0, x1, y1 = layer.receptive_field.box(row, column, (height, width))
    values = values[::-1] if card.preprocessing.order == "BGR" else values
    return np.ascontiguousarray(values[:, y0:y1, x0:x1])


def _panels_of_layer(name: str, weights: LayerWeights, options: Any) -> list[Panel]:
    panels = []
    if weights.values.shape[2] > 1 and options.unit is None:
        panels.append(
            Panel(
                kind="scatter",
                title="Orientation and frequency",
                help="Each filter's strongest wave: how its stripes lie, and how fine they are.",
                table="units",
                x="orientation",
                y=("frequency",),
                caption=("norm", "unit"),
            )
        )
    panels.append(
        Panel(
            kind="table",
            title=f"Units of {name}",
            help="Norm, orientation of the stripes in degrees (0 is horizontal), frequency in cycles a pixel, "
            "and which filters are dead or repeat another.",
            table="units",
        )
    )
    return panels


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one for the mean activation, two for the gradient of an effective filter."""
    return 1.0 if options.unit is None else 3.0


METHOD = Method(
    name="filters",
    title="Filters",
    verb="look",
    family="Filters",
    question="What does it look for?",
    summary="The weights of a layer as pictures, and a unit's effective filter (Krizhevsky et al. 2012).",
    options=FiltersOptions,
    run=run,
    work=work,
    photo=False,
    uses_photo=True,
    check=check,
)
