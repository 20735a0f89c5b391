"""Guided backpropagation: what of a photo makes a unit fire, with the deconvnet's rule and the gradient beside it.

Springenberg et al. 2015, "Striving for Simplicity", section 3.4 and figures 2 and 3; Zeiler and Fergus 2014, section
2.1 for the deconvnet. Departure: the deconvnet's pooling switches are those of the forward pass, as in any backward
pass.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.explain.backward.choices import POSITION_HELP, check_class_or_unit
from fovea.engine.explain.maps.family import trust_lead
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import DatasetKind, LayerKind, Options, PositionKind, UnitKind, option, parts_of
from fovea.engine.panels import GalleryPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fovea.engine.explain.backward.places import Place
    from fovea.engine.explain.backward.rules import Rule
    from fovea.engine.explain.backward.scores import Score
    from fovea.models.card import Card, Layer

RULES: tuple[Rule, ...] = ("gradient", "deconvnet", "guided")
TILE = 128
"""Side of a tile in the figures, in pixels."""


class GuidedOptions(Options):
    """What guided backpropagation can be told."""

    layer: str = option(
        "", "Layer of the unit; empty: the deepest whose units see at most half of the photo", kind=LayerKind()
    )
    unit: int | None = option(None, "Unit of that layer; empty: the one that fires most", kind=UnitKind(), ge=0)
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    rule: Literal["guided", "deconvnet", "gradient"] = option(
        "guided", "What a ReLU does on the way back: guided (Springenberg 2015), deconvnet (Zeiler 2014), gradient"
    )
    units: int = option(9, "How many of the layer's strongest units are shown beside it", ge=0, le=64)
    dataset: str = option(
        "",
        "Data set over which the layer has been mined: the units' best patches, and what excites them",
        kind=DatasetKind(),
    )
    rows: str = option(
        "", "Units in the figure of best patches, such as 3,17,40; empty: this unit and the photo's strongest"
    )
    patches: int = option(5, "Best patches for each unit in that figure", ge=1, le=25)


def _local_layer(card: Card, among: Collection[str] = ()) -> str:
    """The deepest layer whose units see at most half of the frame: those have parts to show; "" if none has maps."""
    spatial = [layer for layer in card.spatial_layers() if not among or layer.name in among]
    if not spatial:
        return ""
    half = [side / 2 for side in card.preprocessing.size]
    fields = [(layer.name, layer.receptive_field) for layer in spatial]
    local = [name for name, f in fields if f and not f.whole and f.size[0] <= half[0] and f.size[1] <= half[1]]
    return local[-1] if local else spatial[-1].name


def _row_units(text: str) -> list[int]:
    """The units of a comma list. Raises OptionsError."""
    try:
        return [int(part) for part in parts_of(text)]
    except ValueError:
        raise OptionsError(f"rows: expected units with commas such as 3,17,40, not {text!r}") from None


def check(card: Card, options: GuidedOptions) -> None:
    """Raise in one line where the options do not go together or the network has no layer with maps."""
    name = options.layer or _local_layer(card)
    if not name:
        raise UnsupportedError(f"{card.name} has no layer with maps: choose a layer and a unit")
    check_class_or_unit("", name, options.unit, options.position)
    layer = card.layer(name)
    if layer.axes == "none":
        raise UnsupportedError(f"layer {name} has no units: its output has shape {layer.shape}; choose another layer")
    if options.rows and not options.dataset:
        raise OptionsError(f"rows {options.rows} of which data set's patches? choose a dataset as well")
    if options.unit is not None and (options.layer or not options.dataset):
        card.unit(name, options.unit)
    for unit in _row_units(options.rows):
        if options.layer:
            card.unit(name, unit)


def guided(job: Job) -> Result:
    """Array `guided` (C, H, W): the whole frame's gradient under the rule, of the unit at its position."""
    import numpy as np
    import torch

    from fovea.engine.explain.backward.attribution import explain
    from fovea.engine.explain.backward.scores import unit_score
    from fovea.engine.explain.maps.pictures import signed_picture
    from fovea.engine.look.mining.mined import best_patches, mined_layers, mined_over

    options, card = job.options, job.card
    dataset = job.dataset(options.dataset) if options.dataset else None
    mined = mined_over(job, dataset) if dataset else []
    layer = card.layer(options.layer or _local_layer(card, mined_layers(mined)))
    best = best_patches(mined, options.dataset, layer, options.patches) if dataset else None
    module = job.network.module(job.device)
    x = torch.from_numpy(job.input).to(job.device)
    job.progress(0.0, "forward and backward")
    explained = explain(
        module,
        x,
        layer.name,
        lambda output: unit_score(card, output, layer.name, options.unit, options.position),
        options.rule,
    )
    score, value = explained.score, float(explained.values[0])
    for note in explained.notes:
        job.warn(note)
    values = explained.gradient[0].cpu().numpy()
    if not values.any():
        job.warn(f"nothing comes back: {score.words} is {value:.3g} on this photo (a unit that does not fire)")
    rules = _rules_side_by_side(module, x, score, {options.rule: values})
    result = Result(
        arrays={"guided": values, "magnitude": np.abs(values).max(0), **{f"rule_{k}": v for k, v in rules.items()}},
        images={"guided": signed_picture(values)},
        summary={**score.summary, "activation": value, "rule": options.rule},
        preview="guided",
    )
    _add_rules(job, result, layer, score, rules)
    strongest = _strongest(job, module, x, explained.output, layer)
    if best is not None:
        chosen = int(str(score.summary["unit"]))
        units = _row_units(options.rows) or list(dict.fromkeys([chosen, *strongest]))[: max(1, options.units)]
        _add_best_patches(job, module, result, best, layer, [card.unit(layer.name, unit) for unit in units])
    if strongest:
        _add_strongest(job, result, layer, strongest)
    job.record(provider="torch", precision="fp32")
    return result


def _rules_side_by_side(module: nn.Module, x: Tensor, score: Score, known: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The gradient (C, H, W) under each rule; `known` are already computed."""
    from fovea.engine.explain.backward.attribution import explain

    def values(rule: Rule) -> NDArray[Any]:
        found: NDArray[Any] = explain(module, x, score.tap, lambda _: score, rule).gradient[0].cpu().numpy()
        return found

    return {rule: known[rule] if rule in known else values(rule) for rule in RULES}


def _add_rules(job: Job, result: Result, layer: Layer, score: Score, rules: dict[str, NDArray[Any]]) -> None:
    """The whole picture, the three rules in one row, and where it acts."""
    from fovea.engine.explain.maps.pictures import as_colour, crop_signed, crop_tile, labelled_grid, seen_box

    photo = as_colour(job.frame)
    box = seen_box(layer, score.place, (photo.shape[0], photo.shape[1]))
    tiles = [crop_tile(photo, box, 2 * TILE), *(crop_signed(rules[rule], box, 2 * TILE) for rule in RULES)]
    result.images["rules"] = labelled_grid([tiles], column_names=["what it sees", *RULES])
    result.panels += [
        ImagePanel(
            title=f"What makes {score.words} fire",
            help="What the unit sees, and what in it raises or lowers the unit under each rule, each on its own scale; "
            "grey is no influence. Guided is the cleanest picture and the least faithful: it changes little with the "
            "class or the top layers' weights (Adebayo et al. 2018).",
            image="rules",
        ),
        ImagePanel(
            title="In the whole photo",
            help=f"The same at its place ({job.options.rule} rule).",
            image="guided",
        ),
        OverlayPanel(
            title="Where it acts",
            help="The largest |·| of the channels over the photo.",
            image="photo",
            array="magnitude",
            units="change per unit of input",
            beside=True,
        ),
    ]


def _strongest(
    job: Job, module: nn.Module, x: Tensor, output: Tensor, layer: Layer
) -> dict[int, tuple[Place, NDArray[np.uint8]]]:
    """The units that fire most on the photo: each one's place, and a tile of what excites it."""
    from fovea.engine.explain.backward.attribution import batch_for
    from fovea.engine.explain.backward.places import gradients_at, in_parts, strongest_places
    from fovea.engine.explain.maps.pictures import crop_signed, seen_box

    places = strongest_places(output, layer, job.options.units)
    found: dict[int, tuple[Place, NDArray[np.uint8]]] = {}
    for part in in_parts(places, batch_for(x)):
        gradients = gradients_at(module, x.expand(len(part), -1, -1, -1), layer, part, job.options.rule)
        for place, gradient in zip(part, gradients.cpu().numpy(), strict=True):
            box = seen_box(layer, (place.row, place.column), gradient.shape[1:])
            found[place.unit] = (place, crop_signed(gradient, box, TILE))
        job.progress(0.2 + (0.2 if job.options.dataset else 0.8) * len(found) / len(places), "strongest units")
    return found


def _add_strongest(
    job: Job, result: Result, layer: Layer, strongest: dict[int, tuple[Place, NDArray[np.uint8]]]
) -> None:
    """A gallery of pairs: the part of the photo that each strong unit sees, and what in it excites the unit."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour, crop_tile, seen_box
    from fovea.engine.panels.sheet import Sheet

    photo = as_colour(job.frame)
    tiles: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    for place, excites in strongest.values():
        box = seen_box(layer, (place.row, place.column), (photo.shape[0], photo.shape[1]))
        tiles += [crop_tile(photo, box, TILE), excites]
        rows.append({"unit": place.unit, "shows": f"{place.activation:.3g}"})
        rows.append({"unit": place.unit, "shows": job.options.rule})
    result.images["strongest"] = Sheet(TILE, 6).compose(tiles)
    result.tables["strongest"] = pd.DataFrame(rows)
    result.tables["units"] = pd.DataFrame([vars(place) for place, _ in strongest.values()])
    result.panels.append(
        GalleryPanel(
            title=f"The strongest units of {layer.name} on this photo",
            help="The part of the photo that each unit sees, beside what in it excites the unit.",
            image="strongest",
            table="strongest",
            tile=TILE,
            columns=6,
            group=("unit",),
            caption=("shows",),
        )
    )


def _add_best_patches(
    job: Job, module: nn.Module, result: Result, best: pd.DataFrame, layer: Layer, units: list[int]
) -> None:
    """The lecture's figure: a row for each unit, its best patches of the data set, each beside what excites it."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import labelled_grid

    dataset = job.dataset(job.options.dataset)
    table = pd.concat([best[best["unit"] == unit] for unit in units], ignore_index=True)
    largest = [float(table["score"][table["unit"] == unit].max()) for unit in units]
    names = [
        f"unit {unit}\n{f'{one:,.0f}' if one >= 1000 else f'{one:.3g}'}"
        for unit, one in zip(units, largest, strict=True)
    ]
    rows: list[list[NDArray[np.uint8]]] = []
    figure = None
    for done, unit in enumerate(units):
        job.progress(0.4 + 0.6 * done / len(units), f"best patches of unit {unit}", preview=figure)
        rows.append(_pairs(job, module, layer, table[table["unit"] == unit]))
        figure = labelled_grid(rows, names[: len(rows)], together=2)
    assert figure is not None, "there is always a unit"
    result.images["best_patches"] = figure
    result.tables["best_patches"] = table
    result.preview = "best_patches"
    result.panels.insert(
        0,
        ImagePanel(
            title=f"What excites units of {layer.name} in their best patches of {dataset.name}",
            help="A row for each unit: its best patches, the strongest first, each beside what in it excites the unit "
            f"({job.options.rule} rule, each on its own scale). Under the unit's number its largest activation.",
            image="best_patches",
        ),
    )


def _pairs(job: Job, module: nn.Module, layer: Layer, table: pd.DataFrame) -> list[NDArray[np.uint8]]:
    """For each patch of one unit two tiles: the patch, and what in it excites the unit."""
    import numpy as np
    import torch

    from fovea.engine.explain.backward.attribution import batch_for
    from fovea.engine.explain.backward.places import Place, gradients_at, in_parts
    from fovea.engine.explain.maps.pictures import as_colour, crop_signed, crop_tile, seen_box

    dataset = job.dataset(job.options.dataset)
    index = {key: place for place, key in enumerate(dataset.keys)}
    images = iter([str(key) for key in table["image"]])
    places = [Place(int(row.unit), int(row.y), int(row.x), float(row.score)) for row in table.itertuples(index=False)]
    tiles: list[NDArray[np.uint8]] = []
    for part in in_parts(places, batch_for(torch.from_numpy(job.input))):
        frames = [job.card.preprocessing.frame(dataset.photo(index[next(images)])) for _ in part]
        inputs = torch.from_numpy(job.card.preprocessing.normalise(np.stack(frames))).to(job.device)
        gradients = gradients_at(module, inputs, layer, part, job.options.rule).cpu().numpy()
        for frame, place, gradient in zip(frames, part, gradients, strict=True):
            box = seen_box(layer, (place.row, place.column), gradient.shape[1:])
            tiles += [crop_tile(as_colour(frame), box, TILE), crop_signed(gradient, box, TILE)]
    return tiles


def work(card: Card, options: GuidedOptions, images: int) -> float:
    """Forward passes: three for a forward and a backward."""
    rows = len(parts_of(options.rows)) or max(1, options.units)
    return 3.0 * (3 + options.units + (rows * options.patches if options.dataset else 0))


METHOD = Method(
    name="guided",
    title="Guided backpropagation",
    verb="explain",
    family="Guided backprop",
    question="What in the photo makes a unit fire?",
    summary="A backward pass that keeps only what excites: the deconvnet's and guided rules (Springenberg 2015).",
    options=GuidedOptions,
    compute=guided,
    work=work,
    gradients=True,
    version=2,
    check=check,
    leads=(trust_lead("guided"),),
)
