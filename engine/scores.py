"""The number that is explained, a class's logit or probability or a unit of any layer at a position, and how to ask it.

Shared by the methods that ask the torch network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fovea.engine.errors import OptionsError, UnsupportedError, not_finite
from fovea.engine.options import position_of
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import OUTPUT
from fovea.models.torch_net import forward_taps

if TYPE_CHECKING:
    from fovea.engine.method import Job
    from fovea.models.card import Card, Layer


@dataclass(frozen=True)
class Score:
    """`tap` is the layer that `of(output)` reads; it turns the tap's output (N, …) into scores (N,).

    `saturates`: it is a probability, flat near 1. `words` names it for people ("logit of tabby", "conv1 unit 7 at
    3,5"), `summary` for the record. `unit` is its number in the layer, None for a class; `position` the (row, column)
    of the unit's map, None for all of it or for a class.
    """

    tap: str
    of: Callable[[Tensor], Tensor]
    words: str
    summary: dict[str, Any]
    saturates: bool = False
    unit: int | None = None
    position: tuple[int, int] | None = None


def _position_on(maps: Tensor, text: str, layer: Layer) -> tuple[int, int] | None:
    """The (row, column) that a position's text names on a unit's map (rows, columns); None is all of it.

    Raises OptionsError if the map has no such position.
    """
    rows, columns = maps.shape
    position = position_of(text)
    if position == "sum":
        return None
    if position == "centre":
        return rows // 2, columns // 2
    if position == "max":
        row, column = divmod(int(maps.argmax()), columns)
        return row, column
    if position[0] >= rows or position[1] >= columns:
        raise OptionsError(
            f"position {text} is outside layer {layer.name}, whose maps have {rows} rows and {columns} columns"
        )
    return position


def demand_finite(output: Tensor, tap: str) -> None:
    """Raises NetworkError where values of a tap are NaN or infinite (minus infinity masks: it is let through)."""
    if bool((output.isnan() | output.isposinf()).any()):
        raise not_finite(tap)


def unit_score(card: Card, features: Tensor, layer_name: str, unit: int | None, position: str) -> Score:
    """The value of a layer's unit, chosen on the photo's own `features` (1, …) of that layer.

    Without `unit` it is the one that fires most. Raises UnknownNameError, OptionsError, UnsupportedError.
    """
    layer = card.layer(layer_name)
    demand_finite(features, layer_name)
    maps = unit_maps(features, layer)[0]
    chosen = int(maps.flatten(1).amax(1).argmax()) if unit is None else card.unit(layer_name, unit)
    at = _position_on(maps[chosen], position, layer)

    def of(output: Tensor) -> Tensor:
        values = unit_maps(output, layer)[:, chosen]
        return values.sum((1, 2)) if at is None else values[:, at[0], at[1]]

    where = "summed" if at is None else f"at {at[0]},{at[1]}"
    summary = {"layer": layer_name, "unit": chosen, "position": where.removeprefix("at ")}
    return Score(layer_name, of, f"{layer_name} unit {chosen} {where}", summary, unit=chosen, position=at)


def class_score(card: Card, output: Tensor, target: str, score: str) -> Score:
    """The logit or probability of a class, by default the top one of the photo's own `output` (1, classes).

    Raises UnknownNameError, UnsupportedError where the network has no classes.
    """
    if not card.has_classes or output.ndim != 2:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    demand_finite(output, OUTPUT)
    chosen = int(output[0].argmax()) if target == "" else card.class_index(target)
    name = card.classes[chosen] if chosen < len(card.classes) else str(chosen)
    as_it_is = score == "logit"

    def of(out: Tensor) -> Tensor:
        return (out if as_it_is else card.meaning.torch_probabilities(out))[:, chosen]

    what = "probability" if score == "probability" or not card.meaning.knows_logits else "logit"
    return Score(OUTPUT, of, f"{what} of {name}", {"target": name}, saturates=what == "probability")


def probabilities(card: Card, output: Tensor) -> Tensor:
    """The class probabilities (N, classes) of a network's `output`."""
    return card.meaning.torch_probabilities(output)


def choose_score(
    job: Job[Any], output: Tensor, target: str, layer: str, unit: int | None, position: str, score: str
) -> Score:
    """The score that a method's options name; `output` (1, …) is the photo's own at `layer`, or of the network."""
    if layer:
        return unit_score(job.card, output, layer, unit, position)
    chosen = class_score(job.card, output, target, score)
    if not job.card.meaning.knows_logits and score == "logit":
        job.warn(
            f"{job.card.name} returns probabilities, so this is the gradient of the probability and not of a logit"
        )
    return chosen


def choose_at(module: nn.Module, x: Tensor, tap: str, choose: Callable[[Tensor], Score]) -> tuple[Score, Tensor]:
    """The score that `choose(output of tap)` picks and its values (N,) at `x`, by a forward pass alone."""
    with torch.no_grad():
        output = forward_taps(module, x, [tap])[tap]
        score = choose(output)
        return score, score.of(output)


def batch_for(x: Tensor) -> int:
    """How many samples of this input (1, C, H, W) go through the network at once: eight at 224 x 224 pixels."""
    return max(1, 8 * 224 * 224 // (x.shape[-1] * x.shape[-2]))
