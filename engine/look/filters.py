"""Filters: the weights of a layer as pictures, and what can and cannot be read from them.

Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional Neural Networks" (2012),
figure 3: first-layer filters are small colour pictures. Further in, a filter reads other units and not pixels,
so its raw tiles say little; there, the gradient of the unit at the mean picture shows its effective filter.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError, UnknownNameError, UnsupportedError
from fovea.engine.look.kernels.weights import LayerWeights, input_layers, layer_weights, same_units, weighted_layers
from fovea.engine.look.mining.mined import MINING, Mined, mined_gallery
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
    TextPanel,
)

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Card

TRACES = 9
"""An effective filter is the mean of so many gradients, at mean pictures with a trace of noise."""
TRACE = 1e-3
"""The noise's standard deviation, as a share of the way from black to white."""
LARGE_TILES = 600
"""So many filters at most are drawn in tiles of 96 pixels, more in smaller ones."""
SHEET_SIDE = 2400
"""A sheet of filters is at most about this wide, in pixels."""
SHEET_PIXELS = 30_000_000
"""Filters as large as the picture itself are drawn smaller where their sheet would have more pixels."""
DEAD = 1e-3
"""A filter whose norm is below this share of the layer's median is called dead."""
SAME = 0.99
"""Two filters whose cosine is above this are called duplicates."""
LIKENESS_LIMIT = 4096
MAP_VALUES = 16_000_000
"""Activation maps are kept with the run up to so many values."""
MINED_PIXELS = 8_000_000
"""The best patches of all filters are kept with the run within so many pixels, best first."""
_FREQUENCIES = 64


class FiltersOptions(Options):
    """Which layer's filters are drawn, and how."""

    layer: str = option("", "layer whose weights are drawn (default: the first)", kind=LayerKind(has="weights"))
    unit: int | None = option(None, "one unit alone: a tile for each of its input channels", kind=UnitKind())
    scaling: Literal["filter", "all", "zero"] = option(
        "zero", "black and white are a filter's own extremes, those of all filters, or zero lies at middle grey"
    )
    order: Literal["index", "norm", "activation", "likeness"] = option(
        "index", "units by index, by norm, by mean activation on the photo, or alike beside alike"
    )
    beside: str = option(
        "",
        "another network whose filters stand beside these, e.g. the same one with @random weights",
        kind=NetworkKind(),
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
    weights = _in_colour_order(layer_weights(job.network, name), card)
    result = Result(arrays={"weights": weights.values})
    maps = _maps(job, name) if job.photo is not None else None
    units = _units_table(name, weights, maps)
    if options.unit is None:
        if options.order == "activation" and maps is None:
            raise OptionsError("order: by activation needs a photo: give --image PATH or --image sample:cat")
        order = _order(options.order, units, weights)
        units = units.iloc[order].reset_index(drop=True)
        result.tables["units"] = units
        _draw_all(job, name, weights, maps, result)
        if options.beside:
            _add_beside(job, name, result)
    else:
        result.tables["units"] = units
        _draw_unit(job, name, weights, result)
    if not weights.colours:
        result.panels.insert(0, _plain_words(weights))
    result.panels += _panels_of_layer(name, weights, options)
    result.preview = "effective" if "effective" in result.images else "filters"
    result.summary = {
        "layer": name,
        "units": len(weights.values),
        "filter": f"{weights.values.shape[2]} × {weights.values.shape[3]} of {weights.values.shape[1]}",
        "dead": int(units["dead"].sum()),
        "duplicates": int((units["duplicate_of"] >= 0).sum()),
    }
    return result


# --- numbers


def _in_colour_order(weights: LayerWeights, card: Card) -> LayerWeights:
    """Weights on the picture with red first."""
    if card.preprocessing.order == "BGR" and weights.on_picture and weights.groups == 1:
        return LayerWeights(np.ascontiguousarray(weights.values[:, ::-1]), 1, True)
    return weights


def _units_table(name: str, weights: LayerWeights, maps: NDArray[np.float32] | None) -> pd.DataFrame:
    import pandas as pd

    values = weights.values
    norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2, 3)))
    orientation, frequency = stripes(values)
    table = pd.DataFrame(
        {
            "layer": name,
            "unit": np.arange(len(values)),
            "norm": norm,
            "orientation": orientation,
            "frequency": frequency,
            "dead": norm <= DEAD * np.median(norm),
            "duplicate_of": duplicates(values),
        }
    )
    table["remarks"] = [
        "dead" if dead else (f"repeats {other}" if other >= 0 else "")
        for dead, other in zip(table["dead"], table["duplicate_of"], strict=True)
    ]
    if maps is not None:
        table["activation"] = maps.mean(axis=(1, 2), dtype=np.float64)
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
    frequencies = max(_FREQUENCIES, rows, columns)
    power = np.zeros((count, frequencies, frequencies // 2 + 1))
    for channel in range(filters.shape[1]):
        power += np.abs(np.fft.rfft2(centred[:, channel], s=(frequencies, frequencies))) ** 2
    best = power.reshape(count, -1).argmax(axis=1)
    y = np.fft.fftfreq(frequencies)[best // power.shape[2]]
    x = np.fft.rfftfreq(frequencies)[best % power.shape[2]]
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


def _maps(job: Job, name: str) -> NDArray[np.float32]:
    """The units' activation maps on the photo, (units, rows, columns)."""
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    layer = job.card.layer(name)

    def build(editor: reducers.Editor, tensors: Any) -> None:
        editor.answer(reducers.as_maps(editor, tensors[name], layer), "maps")

    feed = job.network.graph().input
    return np.asarray(Probe(job, [name], build).run({feed: job.input}, batched=(feed,))["maps"][0], np.float32)


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
    from fovea.engine.panels.sheet import Sheet

    units, inputs, rows, columns = filters.shape
    across = int(np.ceil(np.sqrt(inputs)))
    side = max(rows, columns)
    sheet = Sheet(side, across, 1 if side > 1 else 0)
    levels = grey_levels(filters, scaling, (1, 2, 3))
    whole = sheet.size(across * across)[0] - sheet.gap
    pictures = np.full((units, whole, whole), 160, np.uint8)
    for index in range(inputs):
        top, left = sheet.place(index)
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


def _sheet(pictures: NDArray[np.uint8], gap: int = 0) -> tuple[NDArray[np.uint8], int, int]:
    """The sheet, its tile and its columns; `gap` pixels of white between the tiles."""
    from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

    most = max(24, math.isqrt(SHEET_PIXELS // max(1, len(pictures))))
    if max(pictures.shape[1:3]) > most:
        pictures = np.stack([fit_tile(picture, most) for picture in pictures])
    tile = _tile_side(pictures, 96 if len(pictures) <= LARGE_TILES else 48)
    columns = square_columns(len(pictures), max(1, SHEET_SIDE // tile))
    return Sheet(tile, columns, gap).compose(enlarged(pictures, tile), background=255), tile + gap, columns


def _draw_all(job: Job, name: str, weights: LayerWeights, maps: NDArray[np.float32] | None, result: Result) -> None:
    """Every filter as one tile: a colour picture, or a mosaic of its input channels; a 1 × 1 layer as its matrix."""
    options, units = job.options, result.tables["units"]
    values = weights.values[units["unit"].to_numpy()]
    if values.shape[2:] == (1, 1) and not weights.colours:
        matrix = values[:, :, 0, 0]
        result.arrays["matrix"] = matrix
        result.images["filters"] = np.repeat(grey_levels(matrix, options.scaling, (0, 1))[..., None], 3, -1)
        result.panels.append(
            HeatmapPanel(
                title="The layer as a matrix",
                help="A 1 × 1 layer only mixes its inputs: a row for each unit, a column for each input channel.",
                array="matrix",
                scale="diverging",
                units="weight",
            )
        )
        return
    opens = _add_maps(job, name, maps, result) + _add_mined(job, name, result)
    pictures = _filter_pictures(weights, units["unit"].to_numpy(), options.scaling)
    sheet, tile, columns = _sheet(pictures)
    result.images |= {"filters": _sheet(pictures, gap=4)[0], "tiles": sheet}
    result.tables["units"] = units.assign(tile=np.arange(len(units)))
    more = " Click one to see it large" + (", with what it answers to the photo." if job.photo is not None else ".")
    result.panels.append(
        GalleryPanel(
            title="Filters",
            help=_how_to_read(weights, options.scaling) + more,
            image="tiles",
            table="units",
            tile=tile,
            columns=columns,
            caption=("unit", "remarks", "norm", "orientation", "frequency"),
            key="unit",
            opens=opens,
        )
    )


def _filter_pictures(weights: LayerWeights, order: NDArray[np.int64], scaling: str) -> NDArray[np.uint8]:
    """The filters in that order as pictures (units, rows, columns, 3)."""
    if weights.colours:
        return colour_tiles(weights.pictures[order], scaling)
    return mosaic_tiles(weights.values[order], scaling)


def _add_maps(job: Job, name: str, maps: NDArray[np.float32] | None, result: Result) -> tuple[Panel, ...]:
    """Array `activations` and its panel: what each filter answers to the photo."""
    from fovea.engine.look.activity.pairs import cells
    from fovea.engine.panels import Cells

    layer = job.card.layer(name)
    if maps is None or not layer.spatial or maps.size > MAP_VALUES:
        return ()
    (ys, height), (xs, width) = cells(layer, job.card.preprocessing.size)
    result.arrays |= {"activations": maps, "ys": ys, "xs": xs}
    return (
        ChannelsPanel(
            title="What it answers to the photo",
            help=f"The unit's map in {name}, over the photo.",
            array="activations",
            image="photo",
            units="activation",
            scale="diverging" if (maps < 0).any() else "sequential",
            cells=Cells(
                ys="ys",
                xs="xs",
                height=max(1, round(height)),
                width=max(1, round(width)),
                values="activations",
                label="activation",
            ),
        ),
    )


# --- what was mined


def _add_mined(job: Job, name: str, result: Result) -> tuple[Panel, ...]:
    """Image `mined.jpg`, table `mined` and their panel: the best patches of each filter, if a run has mined them."""
    from fovea.engine.panels.sheet import Sheet, square_columns

    found = mined_gallery(job, same_units(job.network, name))
    if found is None:
        return (_how_to_mine(job, f"What excites it is not known yet: mine {name}.", name),)
    mined, panel = found
    units = job.card.layer(name).units
    most = max(1, MINED_PIXELS // max(1, units * panel.tile**2))
    table, tiles = mined.pictures(panel, min(9, most))
    result.tables["mined"] = table.assign(tile=np.arange(len(table))).drop(columns=["layer"]).reset_index(drop=True)
    columns = square_columns(len(table), 64)
    result.images["mined.jpg"] = Sheet(panel.tile, columns).compose(tiles[int(tile)] for tile in table["tile"])
    return (
        GalleryPanel(
            title="What excites it most",
            help=f"Its best patches of {mined.run.record.subject}, mined at {panel.where['layer']}.",
            image="mined.jpg",
            table="mined",
            tile=panel.tile,
            columns=columns,
            group=("unit",),
            caption=tuple(name for name in ("score", "label", "image") if name in table),
        ),
    )


def _how_to_mine(job: Job, why: str, layer: str) -> Panel:
    """A line that says how to get what is missing."""
    command = f"python -m engine {MINING} --network {job.card.name} --layers {layer} --dataset NAME"
    return TextPanel(
        title="",
        help=f"{why} Open Patches, choose the layer {layer} and your images (or: {command}), then run this again.",
    )


# --- another network beside it


def _add_beside(job: Job, name: str, result: Result) -> None:
    """The same layer of another network, or its first one where it has no such layer."""
    from fovea.models.zoo import load

    options = job.options
    job.progress(0.6, f"reading {options.beside}")
    other = load(options.beside)
    try:
        layer = other.card.layer(name).name
        weights = layer_weights(other, layer)
    except (UnknownNameError, UnsupportedError):
        layer = _layer_name(other.card, options.model_copy(update={"layer": ""}))
        weights = layer_weights(other, layer)
    weights = _in_colour_order(weights, other.card)
    units = _units_table(layer, weights, None)
    order = _order("index" if options.order == "activation" else options.order, units, weights)
    units = units.iloc[order].reset_index(drop=True).assign(tile=np.arange(len(units)))
    title = f"{layer} of {options.beside}"
    if weights.values.shape[2:] == (1, 1) and not weights.colours:
        result.arrays["matrix_beside"] = weights.values[order, :, 0, 0]
        matrix = HeatmapPanel(title=title, array="matrix_beside", scale="diverging", units="weight")
        result.panels.append(matrix.model_copy(update={"beside": True}))
        return
    sheet, tile, columns = _sheet(_filter_pictures(weights, order, options.scaling))
    result.images["beside"], result.tables["beside"] = sheet, units
    words = "Its weights are random: what looks like this was not learned." if other.card.random else ""
    result.panels.append(
        GalleryPanel(
            title=title,
            help=words or _how_to_read(weights, options.scaling),
            image="beside",
            table="beside",
            tile=tile,
            columns=columns,
            caption=("unit", "remarks", "norm", "orientation", "frequency"),
            key="unit",
            beside=True,
        )
    )


# --- in words


def _plain_words(weights: LayerWeights) -> Panel:
    """Why the raw weights of a middle layer say little."""
    shape = f"{weights.values.shape[2]} × {weights.values.shape[3]}"
    if weights.depthwise:
        text = (
            f"Each unit here reads one channel of the layer before, through {shape} weights. A tile shows how it looks "
            "at that channel's map, not at colours; what the channel itself stands for, the tile cannot tell."
        )
    else:
        text = (
            "In the first layer a filter meets the pixels' own colours, so it can be drawn as a small picture. Here "
            f"each unit reads {weights.values.shape[1]} channels of the layer before, each through {shape} weights: "
            f"that is {weights.values.shape[1]} grey tiles and not one picture. What a tile means depends on what its "
            "channel stands for, and the same weights behind another channel would mean something else. That is why "
            "raw filters beyond the first layer are hard to read. Choose a unit to see its strongest inputs, each "
            "beside the patch that excites that input most, and its effective filter in colour."
        )
    return TextPanel(title="Why this is hard to read", help=text)


def _how_to_read(weights: LayerWeights, scaling: str) -> str:
    scale = {
        "zero": "Middle grey is zero.",
        "filter": "Black and white are each filter's smallest and largest weight.",
        "all": "Black and white are the smallest and largest weight of all filters.",
    }[scaling]
    if weights.colours:
        apart = " Each unit reads some of the colours alone; the others are grey." if weights.groups > 1 else ""
        return f"Each tile is what its unit looks for in the picture's own pixels.{apart} {scale}"
    if weights.depthwise:
        return f"Each unit reads one channel alone: one tile each. {scale}"
    return f"Each tile holds one small square for every channel of the layer before. {scale}"


def _draw_unit(job: Job, name: str, weights: LayerWeights, result: Result) -> None:
    """One unit: its picture or its effective filter, and a tile for each of its input channels, strongest first."""
    import pandas as pd

    options, unit = job.options, int(job.options.unit)
    values = weights.values[unit]
    if weights.colours:
        picture = colour_tiles(weights.pictures[unit][None], options.scaling)
        result.images["filters"] = enlarged(picture, _tile_side(picture, 400))[0]
        title, words = f"Filter {unit} of {name}", _how_to_read(weights, options.scaling)
        result.panels.append(ImagePanel(title=title, help=words, image="filters"))
        # (through one layer alone the effective filter is the filter)
        result.arrays["effective"] = weights.pictures[unit]
    else:
        _add_effective(job, name, unit, result)
    norm = np.sqrt((values.astype(np.float64) ** 2).sum(axis=(1, 2)))
    order = np.argsort(-norm, kind="stable")
    inputs = [weights.input_of(unit, int(index)) for index in order]
    result.tables["inputs"] = pd.DataFrame({"input": inputs, "norm": norm[order], "tile": np.arange(len(order))})
    levels = grey_levels(values[order][None], "zero" if options.scaling == "zero" else "all", (1, 2, 3))[0]
    pictures = np.repeat(levels[..., None], 3, axis=-1)
    found = None if weights.on_picture else mined_gallery(job, input_layers(job.network, name))
    if found is None:
        sheet, tile, columns = _sheet(pictures)
        table, group = "inputs", tuple[str, ...]()
    else:
        sheet, tile, columns = _inputs_beside_patches(*found, pictures, result)
        table, group = "inputs_shown", ("input",)
    result.images["inputs"] = sheet
    result.images.setdefault("filters", sheet)
    beside = f", each beside the patch that excites that channel most ({found[0].run.record.subject})" if found else ""
    result.panels.append(
        GalleryPanel(
            title=f"Unit {unit} by input channel",
            help=f"One tile for each channel that it reads, those with the largest weights first{beside}.",
            image="inputs",
            table=table,
            tile=tile,
            columns=columns,
            group=group,
            caption=("weight",) if group else ("input", "norm"),
        )
    )
    if found is None and not weights.on_picture:
        _tell_how_to_mine_inputs(job, name, result)


def _inputs_beside_patches(
    mined: Mined, panel: GalleryPanel, pictures: NDArray[np.uint8], result: Result
) -> tuple[NDArray[np.uint8], int, int]:
    """Table `inputs_shown`, two rows an input: its weights, and its best patch. Returns the sheet, tile and columns."""
    from fovea.engine.panels.sheet import Sheet, fit_tile

    inputs = result.tables["inputs"]
    best, tiles = mined.pictures(panel, 1)
    patch_of = dict(zip(best["unit"].astype(int), best["tile"].astype(int), strict=True))
    side = _tile_side(pictures, panel.tile)
    drawn: list[NDArray[np.uint8]] = []
    rows = []
    for place, channel in enumerate(inputs["input"].astype(int)):
        text = f"norm {inputs['norm'][place]:.3g}"
        rows.append((channel, "weights", text, len(drawn)))
        drawn.append(enlarged(pictures[place][None], side)[0])
        if channel in patch_of:
            rows.append((channel, "best patch", text, len(drawn)))
            drawn.append(fit_tile(tiles[patch_of[channel]], side))
    import pandas as pd

    result.tables["inputs_shown"] = pd.DataFrame(rows, columns=["input", "shows", "weight", "tile"])
    columns = 2 * max(1, round(len(inputs) ** 0.5))
    return Sheet(side, columns).compose(drawn), side, columns


def _tell_how_to_mine_inputs(job: Job, name: str, result: Result) -> None:
    near = input_layers(job.network, name)
    if near:
        result.panels.append(_how_to_mine(job, "What each input channel stands for is not known yet.", near[0]))


def _add_effective(job: Job, name: str, unit: int, result: Result) -> None:
    """The effective filter of a unit, where torch can differentiate the network."""
    if not job.card.gradients:
        job.warn(f"the effective filter needs gradients, and {job.card.name} is an ONNX file")
        return
    effective = effective_filter(job, name, unit)
    result.arrays["effective"] = effective
    if not effective.any():
        job.warn("the effective filter is zero: at the mean picture every way to this unit goes through silent units")
        return
    picture = colour_tiles(effective[None], "zero")
    result.images["effective"] = enlarged(picture, _tile_side(picture, 400))[0]
    result.panels.append(
        ImagePanel(
            title=f"Effective filter of unit {unit}",
            help="How each pixel in the unit's receptive field would move it, at the network's mean picture: all "
            "layers up to this one as if they were one filter. Middle grey is zero.",
            image="effective",
        )
    )


def mean_picture(card: Card) -> NDArray[np.float32]:
    """The network's mean colour as its input, (1, C, 1, 1); middle grey where the preprocessing subtracts no mean."""
    low, high = card.preprocessing.value_limits()
    inside = (low < 0) & (high > 0)
    return np.where(inside, 0.0, (low + high) / 2).astype(np.float32).reshape(1, -1, 1, 1)


def effective_filter(job: Job, name: str, unit: int) -> NDArray[np.float32]:
    """The gradient of a unit's middle position with respect to the input, at the mean picture.

    (C, h, w), cut to the receptive field and in RGB order; the whole frame where every position sees it. A max
    pooling finds all places of an even picture alike, and its gradient would take the first: so it is the mean over
    TRACES pictures with a trace of noise.
    """
    import torch

    from fovea.engine.unit_maps import unit_maps
    from fovea.models.torch_net import forward_taps

    card = job.card
    layer, (height, width) = card.layer(name), card.preprocessing.size
    module = job.network.module(job.device)
    row, column = layer.grid[0] // 2, layer.grid[1] // 2
    low, high = card.preprocessing.value_limits()
    rng = np.random.default_rng(job.seed)
    values = np.zeros((card.preprocessing.channels, height, width), np.float32)
    for trace in range(TRACES):
        job.progress(0.3 + 0.6 * trace / TRACES, "looking through the layers before")
        noise = rng.standard_normal((1, *values.shape), np.float32) * (TRACE * (high - low)).reshape(1, -1, 1, 1)
        x = torch.from_numpy(mean_picture(card) + noise.astype(np.float32)).to(job.device).requires_grad_()
        maps = unit_maps(forward_taps(module, x, [name])[name], layer)
        (gradient,) = torch.autograd.grad(maps[0, unit, row, column], x)
        values += gradient[0].cpu().numpy() / TRACES
    x0, y0, x1, y1 = 0, 0, width, height
    if layer.receptive_field is not None:
        x0, y0, x1, y1 = layer.receptive_field.box(row, column, (height, width))
    values = values[::-1] if card.preprocessing.order == "BGR" else values
    return np.ascontiguousarray(values[:, y0:y1, x0:x1])


def _panels_of_layer(name: str, weights: LayerWeights, options: Any) -> list[Panel]:
    panels: list[Panel] = []
    if weights.values.shape[2] > 1 and options.unit is None:
        panels.append(
            ScatterPanel(
                title="Orientation and frequency",
                help="Each filter's strongest wave: how its stripes lie (degrees, 0 is horizontal), and how fine they "
                "are (cycles a pixel).",
                table="units",
                x="orientation",
                y=("frequency",),
                caption=("norm", "unit"),
            )
        )
    panels.append(
        TablePanel(
            title=f"Units of {name}",
            help="Norm, orientation of the stripes in degrees (0 is horizontal), frequency in cycles a pixel, "
            "and which filters are dead (nearly no weight) or repeat another.",
            table="units",
        )
    )
    return panels


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one for the activations, three for each gradient of an effective filter."""
    return 1.0 if options.unit is None else 1.0 + 3.0 * TRACES


METHOD = Method(
    name="filters",
    title="Filters",
    verb="look",
    family="Filters",
    question="What does it look for?",
    summary="The weights of a layer as pictures, and a unit's effective filter (Krizhevsky et al. 2012).",
    options=FiltersOptions,
    compute=run,
    work=work,
    photo=False,
    uses_photo=True,
    check=check,
    reads=(MINING,),
    version=2,
)
