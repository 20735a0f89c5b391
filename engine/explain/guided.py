"""Guided backpropagation: what of the photo makes a unit fire, with the deconvnet's rule and the gradient beside it.

Springenberg et al. 2015, "Striving for Simplicity", section 3.4; Zeiler and Fergus 2014, section 2.1 for the deconvnet.
Departure: the deconvnet's pooling switches are those of the forward pass, as in any backward pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.errors import UnsupportedError
from engine.explain.choices import POSITION_HELP, check_class_or_unit
from engine.explain.maps import trust_lead
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from engine.explain.rules import Rule
    from engine.explain.scores import Score
    from models.card import Card, Layer

RULES: tuple[Rule, ...] = ("gradient", "deconvnet", "guided")
TILE = 128
"""Side of a tile in the galleries, in pixels."""


class GuidedOptions(Options):
    """What guided backpropagation can be told."""

    layer: str = option(
        "", "Layer of the unit; empty: the deepest whose units see at most half of the photo", kind="layer"
    )
    unit: int | None = option(None, "Unit of that layer; empty: the one that fires most", kind="unit", ge=0)
    position: str = option("max", POSITION_HELP, kind="position")
    rule: Literal["guided", "deconvnet", "gradient"] = option(
        "guided", "What a ReLU does on the way back: guided (Springenberg 2015), deconvnet (Zeiler 2014), gradient"
    )
    units: int = option(9, "How many of the layer's strongest units are shown beside it", ge=0, le=64)


def _layer_name(card: Card, options: GuidedOptions) -> str:
    """The chosen layer, or the deepest whose units see at most half of the frame: those have parts to show."""
    spatial = card.spatial_layers()
    if options.layer or not spatial:
        return options.layer
    half = [side / 2 for side in card.preprocessing.size]
    fields = [(layer.name, layer.receptive_field) for layer in spatial]
    local = [name for name, f in fields if f and not f.whole and f.size[0] <= half[0] and f.size[1] <= half[1]]
    return local[-1] if local else spatial[-1].name


def check(card: Card, options: GuidedOptions) -> None:
    """Raise in one line where the options do not go together or the network has no layer with maps."""
    name = _layer_name(card, options)
    if not name:
        raise UnsupportedError(f"{card.name} has no layer with maps: choose a layer and a unit")
    check_class_or_unit("", name, options.unit, options.position)
    layer = card.layer(name)
    if layer.axes == "none":
        raise UnsupportedError(f"layer {name} has no units: its output has shape {layer.shape}; choose another layer")
    if options.unit is not None:
        card.unit(name, options.unit)


def _chosen_score(job: Job, output: Tensor, layer: str) -> Score:
    from engine.explain.scores import unit_score

    return unit_score(job.card, output, layer, job.options.unit, job.options.position)


def _rules_side_by_side(module: nn.Module, x: Tensor, score: Score, known: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """The gradient (C, H, W) under each rule; `known` are already computed."""
    from engine.explain.attribution import explain

    def values(rule: Rule) -> NDArray[Any]:
        found: NDArray[Any] = explain(module, x, score.tap, lambda _: score, rule).gradient[0].cpu().numpy()
        return found

    return {rule: known[rule] if rule in known else values(rule) for rule in RULES}


def strongest_units(
    job: Job, module: nn.Module, x: Tensor, output: Tensor, layer: Layer, count: int
) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The `count` units that fire most on the photo, each at its maximum, and their guided gradients.

    Columns unit, activation, row, column; gradients (count, C, H, W), taken in one pass per batch.
    """
    import numpy as np
    import pandas as pd
    import torch

    from engine.explain.attribution import batch_for, explain
    from engine.explain.scores import Score
    from engine.features import unit_maps

    maps = unit_maps(output, layer)[0]
    peaks, places = maps.flatten(1).max(1)
    units = torch.argsort(peaks, descending=True, stable=True)[: min(count, len(peaks))]
    units = units[peaks[units] > 0] if bool((peaks > 0).any()) else units
    gradients: list[NDArray[Any]] = []
    for start in range(0, len(units), batch_for(x)):
        part = units[start : start + batch_for(x)]

        def of(out: Tensor, part: Tensor = part) -> Tensor:
            fired = unit_maps(out, layer).flatten(2)
            return fired[torch.arange(len(part), device=part.device), part, places[part]]

        score = Score(layer.name, of, f"{layer.name} units", {})
        repeated = x.expand(len(part), -1, -1, -1)
        found = explain(module, repeated, layer.name, lambda _, score=score: score, job.options.rule)  # type: ignore[misc]
        gradients.append(found.gradient.cpu().numpy())
        job.progress(0.4 + 0.6 * (start + len(part)) / len(units), "strongest units")
    columns = maps.shape[2]
    table = pd.DataFrame(
        {
            "unit": units.tolist(),
            "activation": [float(peaks[u]) for u in units],
            "row": [int(places[u]) // columns for u in units],
            "column": [int(places[u]) % columns for u in units],
        }
    )
    return table, np.concatenate(gradients) if gradients else np.zeros((0, *x.shape[1:]), np.float32)


def _pairs_sheet(job: Job, table: pd.DataFrame, gradients: NDArray[Any], layer: Layer) -> tuple[Any, pd.DataFrame]:
    """A sheet of pairs (patch, what in it excites the unit) and its table, two rows for each unit."""
    import pandas as pd

    from engine.explain.pictures import as_colour, crop_tile, seen_box, signed_picture
    from engine.sheet import compose_sheet

    tiles: list[NDArray[np.uint8]] = []
    rows: list[dict[str, Any]] = []
    photo = as_colour(job.frame)
    for row, gradient in zip(table.itertuples(index=False), gradients, strict=True):
        box = seen_box(layer, (int(row.row), int(row.column)), (photo.shape[0], photo.shape[1]))
        x0, y0, x1, y1 = box
        inside = gradient[:, y0:y1, x0:x1]
        tiles.append(crop_tile(photo, box, TILE))
        tiles.append(crop_tile(signed_picture(inside), (0, 0, x1 - x0, y1 - y0), TILE))
        rows.append({"unit": row.unit, "shows": f"{row.activation:.3g}"})
        rows.append({"unit": row.unit, "shows": job.options.rule})
    return compose_sheet(tiles, TILE, 6), pd.DataFrame(rows)


def guided(job: Job) -> Result:
    """Array `guided` (C, H, W): the whole frame's gradient under the rule, of the unit at its position."""
    import numpy as np
    import pandas as pd
    import torch

    from engine.explain.attribution import explain
    from engine.explain.pictures import as_colour, crop_tile, seen_box, signed_picture
    from engine.sheet import compose_sheet

    options, card = job.options, job.card
    module = job.network.module(job.device)
    layer = card.layer(_layer_name(card, options))
    x = torch.from_numpy(job.input).to(job.device)
    job.progress(0.0, "forward and backward")
    explained = explain(module, x, layer.name, lambda output: _chosen_score(job, output, layer.name), options.rule)
    for note in explained.notes:
        job.warn(note)
    score, value = explained.score, float(explained.values[0])
    values = explained.gradient[0].cpu().numpy()
    if not values.any():
        job.warn(f"nothing comes back: {score.words} is {value:.3g} on this photo (a unit that does not fire)")
    rules = _rules_side_by_side(module, x, score, {options.rule: values})
    job.progress(0.4, "the other rules")
    table, gradients = strongest_units(job, module, x, explained.output, layer, options.units)
    job.record(provider="torch", precision="fp32")

    photo = as_colour(job.frame)
    place = score.place
    box = seen_box(layer, place, (photo.shape[0], photo.shape[1]))
    x0, y0, x1, y1 = box
    tiles = [crop_tile(photo, box, 2 * TILE)]
    for rule in RULES:
        tiles.append(crop_tile(signed_picture(rules[rule][:, y0:y1, x0:x1]), (0, 0, x1 - x0, y1 - y0), 2 * TILE))
    images: dict[str, Any] = {
        "guided": signed_picture(values),
        "rules": compose_sheet(tiles, 2 * TILE, 4),
    }
    tables = {"rules": pd.DataFrame({"shows": ["photo", *RULES]})}
    panels = [
        Panel(
            kind="image",
            title=f"What makes {score.words} fire",
            help=f"Grey is no influence; colours raise or lower the unit ({options.rule} rule).",
            image="guided",
        ),
        Panel(
            kind="gallery",
            title="The three rules",
            help="The same unit, cropped to what it can see. Guided is the cleanest picture, and the least faithful: "
            "it changes little with the class or with the top layers' weights (Adebayo et al. 2018).",
            image="rules",
            table="rules",
            tile=2 * TILE,
            columns=4,
            caption=("shows",),
        ),
        Panel(
            kind="overlay",
            title="Where it acts",
            help="The largest |·| of the channels over the photo.",
            image="photo",
            array="magnitude",
            units=f"change of {score.words} per unit of input",
        ),
    ]
    if len(table):
        images["strongest"], tables["strongest"] = _pairs_sheet(job, table, gradients, layer)
        tables["units"] = table
        panels.insert(
            1,
            Panel(
                kind="gallery",
                title=f"The strongest units of {layer.name} on this photo",
                help="Each patch of the photo beside what in it excites the unit.",
                image="strongest",
                table="strongest",
                tile=TILE,
                columns=6,
                group=("unit",),
                caption=("shows",),
            ),
        )
    return Result(
        arrays={"guided": values, "magnitude": np.abs(values).max(0), **{f"rule_{k}": v for k, v in rules.items()}},
        tables=tables,
        images=images,
        panels=panels,
        summary={**score.summary, "activation": value, "rule": options.rule},
        preview="guided",
    )


def work(card: Card, options: GuidedOptions, images: int) -> float:
    """Forward passes: three for a forward and a backward."""
    return 3.0 * (3 + options.units)


METHOD = Method(
    name="guided",
    title="Guided backpropagation",
    verb="explain",
    family="Intermediate features",
    question="What in the photo makes a unit fire?",
    summary="A backward pass that keeps only what excites: the deconvnet's and guided rules (Springenberg 2015).",
    options=GuidedOptions,
    run=guided,
    work=work,
    gradients=True,
    check=check,
    leads=(trust_lead("guided"),),
)
