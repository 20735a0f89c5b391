"""The number whose gradient is taken: a class's logit or probability, or a unit of any layer at a position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.card import Card, Layer


@dataclass(frozen=True)
class Score:
    """`tap` is the layer that `of(output)` reads; it turns the tap's output (N, …) into scores (N,).

    `saturates`: it is a probability, flat near 1. `words` names it for people ("logit of tabby", "conv1 unit 7 at
    3,5"), `summary` for the record. `place`: the (row, column) of a unit's map, None for all or for a class.
    """

    tap: str
    of: Callable[[Tensor], Tensor]
    words: str
    summary: dict[str, object]
    saturates: bool = False
    place: tuple[int, int] | None = None


def place_of(text: str, fired: Tensor, layer: Layer) -> tuple[int, int] | None:
    """The (row, column) that a position text names on a unit's map `fired` (rows, columns); None is all of them.

    Raises OptionsError if the map has no such place.
    """
    rows, columns = fired.shape
    if text == "sum":
        return None
    if text == "centre":
        return rows // 2, columns // 2
    if text == "max":
        row, column = divmod(int(fired.argmax()), columns)
        return row, column
    row, column = (int(part) for part in text.split(","))
    if row >= rows or column >= columns:
        raise OptionsError(
            f"position {text} is outside layer {layer.name}, whose maps have {rows} rows and {columns} columns"
        )
    return row, column


def unit_score(card: Card, features: Tensor, layer_name: str, unit: int | None, position: str) -> Score:
    """The value of a layer's unit, chosen on the photo's own `features` (1, …) of that layer.

    Without `unit` it is the one that fires most. Raises UnknownNameError, OptionsError, UnsupportedError.
    """
    layer = card.layer(layer_name)
    maps = unit_maps(features, layer)[0]
    chosen = int(maps.flatten(1).amax(1).argmax()) if unit is None else card.unit(layer_name, unit)
    place = place_of(position, maps[chosen], layer)

    def of(output: Tensor) -> Tensor:
        fired = unit_maps(output, layer)[:, chosen]
        return fired.sum((1, 2)) if place is None else fired[:, place[0], place[1]]

    where = "summed" if place is None else f"at {place[0]},{place[1]}"
    summary: dict[str, object] = {"layer": layer_name, "unit": chosen, "position": where.removeprefix("at ")}
    return Score(layer_name, of, f"{layer_name} unit {chosen} {where}", summary, place=place)


def class_score(card: Card, output: Tensor, target: str, score: str) -> Score:
    """The logit or probability of a class, by default the top one of the photo's own `output` (1, classes).

    Raises UnknownNameError, UnsupportedError where the network has no classes.
    """
    if card.output == "features" or output.ndim != 2:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    chosen = int(output[0].argmax()) if target == "" else card.class_index(target)
    name = card.classes[chosen] if chosen < len(card.classes) else str(chosen)
    as_is = score == "logit" or card.output == "probabilities"

    def of(out: Tensor) -> Tensor:
        return out[:, chosen] if as_is else torch.softmax(out, 1)[:, chosen]

    what = "probability" if score == "probability" or card.output == "probabilities" else "logit"
    return Score(OUTPUT, of, f"{what} of {name}", {"target": name}, saturates=what == "probability")


def probabilities(card: Card, output: Tensor) -> Tensor:
    """The class probabilities (N, classes) of a network's `output`."""
    return output if card.output == "probabilities" else torch.softmax(output.float(), 1)


def choose_score(
    job: Job, output: Tensor, target: str, layer: str, unit: int | None, position: str, score: str
) -> Score:
    """The score that a method's options name; `output` (1, …) is the photo's own at `layer`, or of the network."""
    if layer:
        return unit_score(job.card, output, layer, unit, position)
    chosen = class_score(job.card, output, target, score)
    if job.card.output == "probabilities" and score == "logit":
        job.warn(f"{job.card.name} returns probabilities: this is the gradient of the probability, not of a logit")
    return chosen
