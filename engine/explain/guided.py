"""Guided backpropagation: what of a photo makes a unit fire, with the deconvnet's rule and the gradient beside it.

Springenberg et al. 2015, "Striving for Simplicity", section 3.4 and figures 2 and 3; Zeiler and Fergus 2014, section
2.1 for the deconvnet. Departure: the deconvnet's pooling switches are those of the forward pass, as in any backward
pass.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.maps import ClassOrUnit, Map
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import (
    POSITION_HELP,
    CommaList,
    DatasetKind,
    LayerKind,
    Options,
    PositionKind,
    UnitKind,
    option,
)
from fovea.engine.panels import GalleryPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fovea.engine.explain.backward.firing_units import Firing
    from fovea.engine.explain.backward.rules import Rule
    from fovea.engine.scores import Score
    from fovea.models.card import Card, Layer

RULES: tuple[Rule, ...] = ("gradient", "deconvnet", "guided")
TILE = 128
"""Side of a tile in the figures, in pixels."""


class GuidedOptions(Options):
    """What guided backpropagation can be told."""

    layer: str = option(
        "",
        "The layer of the unit. Left empty, it is the deepest layer whose units see at most half of the photo, since "
        "those have parts of it to show.",
        kind=LayerKind(),
        empty="the deepest that sees half of the photo",
    )
    unit: int | None = option(
        None,
        "The unit of that layer. Left empty, it is the one that fires most on the photo.",
        kind=UnitKind(),
        empty="the one that fires most",
        ge=0,
    )
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    rule: Literal["guided", "deconvnet", "gradient"] = option(
        "guided",
        "What a ReLU lets through on the way back: only what raises the unit, by ReLUs that were open (guided, "
        "Springenberg 2015); only what raises it (deconvnet, Zeiler 2014); or the plain gradient.",
    )
    units: int = option(9, "How many of the layer's strongest units are shown beside the chosen one.", ge=0, le=64)
    dataset: str = option(
        "",
        "A data set whose best patches for units of this layer are shown, each beside what in it excites the unit. "
        "Maximally activating patches must have been found over it before.",
        kind=DatasetKind(),
        empty="none",
    )
    rows: CommaList = option(
        "",
        "The units in the figure of best patches, such as 3,17,40. Left empty, they are the chosen unit and the "
        "photo's strongest.",
        empty="the chosen unit and the strongest",
    )
    patches: int = option(5, "How many best patches the figure shows for each unit.", ge=1, le=25)


def _local_layer(card: Card, among: Collection[str] = ()) -> str:
    """The deepest layer whose units see at most half of the frame: those have parts to show; "" if none has maps."""
    spatial = [layer for layer in card.reached_layers() if not among or layer.name in among]
    if not spatial:
        return ""
    half = [side / 2 for side in card.preprocessing.size]
    fields = [(layer.name, layer.receptive_field) for layer in spatial]
    local = [name for name, f in fields if f and not f.whole and f.size[0] <= half[0] and f.size[1] <= half[1]]
    return local[-1] if local else spatial[-1].name


def _row_units(options: GuidedOptions) -> list[int]:
    """The units of the option `rows`. Raises OptionsError."""
    try:
        return [int(part) for part in options.rows]
    except ValueError:
        raise OptionsError(f"rows must be units with commas such as 3,17,40, not {','.join(options.rows)!r}") from None


def check(card: Card, options: GuidedOptions) -> None:
    """Raise in one line where the options do not go together or the network has no layer with maps."""
    name = options.layer or _local_layer(card)
    if not name:
        raise UnsupportedError(f"{card.name} has no layer with maps: choose a layer and a unit")
    layer = card.layer(name)
    if layer.axes == "none":
        raise UnsupportedError(f"layer {name} has no units: its output has shape {layer.shape}; choose another layer")
    if options.rows and not options.dataset:
        raise OptionsError(f"rows {','.join(options.rows)} of which data set's patches? choose a dataset as well")
    if options.unit is not None and (options.layer or not options.dataset):
        card.unit(name, options.unit)
    for unit in _row_units(options):
        if options.layer:
            card.unit(name, unit)


@dataclass(frozen=True)
class BestPatches:
    """The best patches of some units: a `table` as mining has it, and the `figure` of all."""

    table: pd.DataFrame
    figure: NDArray[np.uint8]


@dataclass(frozen=True)
class Findings:
    """The `layer`, the unit's `score` and its `activation`; its gradient (C, H, W) under each rule, by name, `rules`.

    `notes`: what the chosen rule has to say. `strongest`: the units that fire most on the photo, each with a tile of
    what excites it. `best`: a data set's best patches, where one was asked for.
    """

    layer: Layer
    score: Score
    activation: float
    rules: dict[Rule, NDArray[Any]]
    notes: tuple[str, ...]
    strongest: list[tuple[Firing, NDArray[np.uint8]]]
    best: BestPatches | None


def compute(job: Job[GuidedOptions]) -> Findings:
    """The gradient of the unit with respect to the normalised input, under each rule for the ReLUs."""
    import torch

    from fovea.engine.explain.backward.attribution import explain
    from fovea.engine.look.mining.mined import best_patches, mined_layers, mined_over
    from fovea.engine.scores import unit_score

    options, card = job.options, job.card
    dataset = job.dataset(options.dataset) if options.dataset else None
    mined = mined_over(job, dataset) if dataset else []
    layer = card.layer(options.layer or _local_layer(card, mined_layers(mined)))
    patches = best_patches(mined, options.dataset, layer, options.patches) if dataset else None
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
    score = explained.score
    rules = {
        rule: (explained if rule == options.rule else explain(module, x, score.tap, lambda _: score, rule))
        for rule in RULES
    }
    gradients = {rule: backward.gradient[0].cpu().numpy() for rule, backward in rules.items()}
    strongest = _strongest(job, module, x, explained.output, layer)
    best = None
    if patches is not None:
        assert score.unit is not None, "the score is a unit's"
        shown = [score.unit, *(firing.unit for firing, _ in strongest)]
        units = _row_units(options) or list(dict.fromkeys(shown))[: max(1, options.units)]
        best = _best_patches(job, module, layer, patches, [card.unit(layer.name, unit) for unit in units])
    job.record(provider="torch", precision="fp32")
    return Findings(layer, score, float(explained.values[0]), gradients, explained.notes, strongest, best)


def _strongest(
    job: Job[GuidedOptions], module: nn.Module, x: Tensor, output: Tensor, layer: Layer
) -> list[tuple[Firing, NDArray[np.uint8]]]:
    """The units that fire most on the photo, each with a tile of what excites it."""
    from fovea.engine.explain.backward.firing_units import gradients_at, in_parts, strongest_firings
    from fovea.engine.explain.maps.pictures import crop_signed, seen_box
    from fovea.engine.scores import batch_for

    firings = strongest_firings(output, layer, job.options.units)
    progress = job.progress.span(0.2, 0.4 if job.options.dataset else 1.0)
    strongest: list[tuple[Firing, NDArray[np.uint8]]] = []
    for part in in_parts(firings, batch_for(x)):
        gradients = gradients_at(module, x.expand(len(part), -1, -1, -1), layer, part, job.options.rule)
        for firing, gradient in zip(part, gradients.cpu().numpy(), strict=True):
            box = seen_box(layer, (firing.row, firing.column), gradient.shape[1:])
            strongest.append((firing, crop_signed(gradient, box, TILE)))
        progress(len(strongest) / len(firings), "strongest units")
    return strongest


def _best_patches(
    job: Job[GuidedOptions], module: nn.Module, layer: Layer, patches: pd.DataFrame, units: list[int]
) -> BestPatches:
    """The lecture's figure: a row for each unit, its best patches of the data set, each beside what excites it."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import labelled_grid

    table = pd.concat([patches[patches["unit"] == unit] for unit in units], ignore_index=True)
    progress = job.progress.span(0.4, 1.0)
    names: list[str] = []
    rows: list[list[NDArray[np.uint8]]] = []
    figure: NDArray[np.uint8] | None = None
    for done, unit in enumerate(units):
        progress(done / len(units), f"best patches of unit {unit}", figure)
        own = table[table["unit"] == unit]
        largest = float(own["score"].max())
        names.append(f"unit {unit}\n{f'{largest:,.0f}' if largest >= 1000 else f'{largest:.3g}'}")
        rows.append(_pairs(job, module, layer, own))
        figure = labelled_grid(rows, names, together=2)
    assert figure is not None, "there is always a unit"
    return BestPatches(table, figure)


def _pairs(job: Job[GuidedOptions], module: nn.Module, layer: Layer, table: pd.DataFrame) -> list[NDArray[np.uint8]]:
    """For each patch of one unit two tiles: the patch, and what in it excites the unit."""
    import numpy as np
    import torch

    from fovea.engine.explain.backward.firing_units import Firing, gradients_at, in_parts
    from fovea.engine.explain.maps.pictures import as_colour, crop_signed, crop_tile, seen_box
    from fovea.engine.scores import batch_for

    dataset = job.dataset(job.options.dataset)
    index = {key: number for number, key in enumerate(dataset.keys)}
    images = iter([str(key) for key in table["image"]])
    firings = [Firing(int(row.unit), int(row.y), int(row.x), float(row.score)) for row in table.itertuples(index=False)]
    tiles: list[NDArray[np.uint8]] = []
    for part in in_parts(firings, batch_for(torch.from_numpy(job.input))):
        frames = [job.card.preprocessing.frame(dataset.photo(index[next(images)])) for _ in part]
        inputs = torch.from_numpy(job.card.preprocessing.normalise(np.stack(frames))).to(job.device)
        gradients = gradients_at(module, inputs, layer, part, job.options.rule).cpu().numpy()
        for frame, firing, gradient in zip(frames, part, gradients, strict=True):
            box = seen_box(layer, (firing.row, firing.column), gradient.shape[1:])
            tiles += [crop_tile(as_colour(frame), box, TILE), crop_signed(gradient, box, TILE)]
    return tiles


def report(job: Job[GuidedOptions], findings: Findings) -> Result:
    """Array `guided` (C, H, W): the whole frame's gradient under the rule, of the unit at its position."""
    import numpy as np

    from fovea.engine.explain.maps.pictures import signed_picture

    score, rule = findings.score, job.options.rule
    guided = findings.rules[rule]
    for note in findings.notes:
        job.warn(note)
    if not guided.any():
        job.warn(
            f"no gradient comes back: {score.words} is {findings.activation:.3g} on this photo, as for a unit that "
            f"does not fire"
        )
    by_rule = {f"rule_{name}": values for name, values in findings.rules.items()}
    result = Result(
        arrays={"guided": guided, "magnitude": np.abs(guided).max(0), **by_rule},
        images={"guided": signed_picture(guided)},
        summary={**score.summary, "activation": findings.activation, "rule": rule},
        preview="guided",
    )
    _add_rules(job, result, findings)
    if findings.best is not None:
        _add_best_patches(job, result, findings.layer, findings.best)
    if findings.strongest:
        _add_strongest(job, result, findings)
    return result


def _add_best_patches(job: Job[GuidedOptions], result: Result, layer: Layer, best: BestPatches) -> None:
    dataset = job.dataset(job.options.dataset).name
    result.images["best_patches"] = best.figure
    result.tables["best_patches"] = best.table
    result.preview = "best_patches"
    result.panels.insert(
        0,
        ImagePanel(
            title=f"What excites units of {layer.name} in their best patches of {dataset}",
            help="Each row is a unit: its best patches, the strongest first, each beside what in it excites the unit "
            f"({job.options.rule} rule, each on its own scale). Under the unit's number stands its largest activation.",
            image="best_patches",
        ),
    )


def _add_rules(job: Job[GuidedOptions], result: Result, findings: Findings) -> None:
    """The three rules in one row, the whole picture, and where it acts."""
    from fovea.engine.explain.maps.pictures import as_colour, crop_signed, crop_tile, labelled_grid, seen_box

    photo = as_colour(job.frame)
    box = seen_box(findings.layer, findings.score.position, (photo.shape[0], photo.shape[1]))
    tiles = [crop_tile(photo, box, 2 * TILE), *(crop_signed(findings.rules[rule], box, 2 * TILE) for rule in RULES)]
    result.images["rules"] = labelled_grid([tiles], column_names=["what it sees", *RULES])
    result.panels += [
        ImagePanel(
            title=f"What makes {findings.score.words} fire",
            help="What the unit sees, and what in it raises or lowers the unit under each rule, each on its own scale; "
            "grey is no influence. Guided is the cleanest picture and the least faithful: it changes little with the "
            "class or the top layers' weights (Adebayo et al. 2018).",
            image="rules",
        ),
        ImagePanel(
            title="In the whole photo",
            help=f"The same gradient at its place in the whole photo ({job.options.rule} rule).",
            image="guided",
        ),
        OverlayPanel(
            title="Where it acts",
            help="For each pixel the largest absolute value of its colour channels, over the photo.",
            image="photo",
            array="magnitude",
            units="change per unit of input",
            beside=True,
        ),
    ]


def _add_strongest(job: Job[GuidedOptions], result: Result, findings: Findings) -> None:
    """A gallery of pairs: the part of the photo that each strong unit sees, and what in it excites the unit."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour, crop_tile, seen_box
    from fovea.engine.panels.sheet import Sheet

    photo = as_colour(job.frame)
    tiles: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    for firing, excites in findings.strongest:
        box = seen_box(findings.layer, (firing.row, firing.column), (photo.shape[0], photo.shape[1]))
        tiles += [crop_tile(photo, box, TILE), excites]
        rows.append({"unit": firing.unit, "shows": f"{firing.activation:.3g}"})
        rows.append({"unit": firing.unit, "shows": job.options.rule})
    result.images["strongest"] = Sheet(TILE, 6).compose(tiles)
    result.tables["strongest"] = pd.DataFrame(rows)
    result.tables["units"] = pd.DataFrame([vars(firing) for firing, _ in findings.strongest])
    result.panels.append(
        GalleryPanel(
            title=f"The strongest units of {findings.layer.name} on this photo",
            help="The part of the photo that each unit sees, beside what in it excites the unit.",
            image="strongest",
            table="strongest",
            tile=TILE,
            columns=6,
            group=("unit",),
            caption=("shows",),
        )
    )


def work(card: Card, options: GuidedOptions, images: int) -> float:
    """Forward passes: three for a forward and a backward."""
    rows = len(options.rows) or max(1, options.units)
    return 3.0 * (3 + options.units + (rows * options.patches if options.dataset else 0))


def draw(job: Job[GuidedOptions], explained: ClassOrUnit) -> NDArray[Any]:
    """The map (C, H, W) alone, of a class as well as of a unit: the gradient of its score under the rule."""
    import torch

    from fovea.engine.explain.backward.attribution import explain
    from fovea.engine.scores import class_score, unit_score

    def choose(output: Tensor) -> Score:
        if explained.layer:
            return unit_score(job.card, output, explained.layer, explained.unit, explained.position_text)
        return class_score(job.card, output, explained.target, "logit")

    x = torch.from_numpy(job.input).to(job.device)
    backward = explain(job.network.module(job.device), x, explained.tap, choose, job.options.rule)
    for note in backward.notes:
        job.warn(note)
    return backward.gradient[0].cpu().numpy()


def _map(name: str, title: str) -> Map:
    edges = "it draws the photo's edges (Adebayo 2018, Nie 2018)"
    return Map(name, title, "magnitude", {"rule": name}, order=20, known=edges, draw=draw)


METHOD = Method(
    name="guided",
    title="Guided backpropagation",
    verb="explain",
    family="Guided backprop",
    question="What in the photo makes a unit fire?",
    summary="Goes back from a unit to the photo and keeps only what excites it (Springenberg et al. 2015).",
    options=GuidedOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=2,
    check=check,
    maps=(_map("guided", "Guided backprop"), _map("deconvnet", "Deconvnet")),
)
