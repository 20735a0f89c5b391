"""What an ascent excites: a unit, a class, a direction, two at once, or several side by side, each with its loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fovea.engine.errors import OptionsError
from fovea.engine.make.excite.unit_lists import numbers_of, unit_and_layer, unit_position, weights_of
from fovea.engine.make.judge.verdict import probabilities_of
from fovea.engine.make.optimise.canvas import Normalise, to_picture
from fovea.engine.make.optimise.layers import layer_at
from fovea.engine.make.optimise.losses import ClassScore, Direction, Joint, Loss, UnitActivation
from fovea.engine.make.optimise.picture_size import features_of
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.engine.make.excite.options import AscentOptions
    from fovea.engine.method import Job
    from fovea.models.card import Card, Layer


@dataclass(frozen=True)
class Objective:
    """One thing to excite: its name for people, the quantity to raise, and what a summary says of it.

    `layer` is where it lies (None for a class), `unit` its number there (None for what is no single unit).
    """

    name: str
    loss: Loss
    about: dict[str, Any] = field(default_factory=dict)
    layer: Layer | None = None
    unit: int | None = None
    target: int | None = None


def class_name(card: Card, target: int) -> str:
    """The name of a class, its number where it has none."""
    return card.classes[target] if target < len(card.classes) else str(target)


def unit_objective(job: Job[AscentOptions], layer: Layer, unit: int) -> Objective:
    """One unit of a layer."""
    about = {"layer": layer.name, "unit": unit, "position": job.options.position}
    loss = UnitActivation(layer, unit, unit_position(job.options.position))
    return Objective(f"{layer.name} unit {unit}", loss, about, layer, unit)


def class_objective(job: Job[AscentOptions], target: int) -> Objective:
    """One class of the output."""
    card = job.card
    name = class_name(card, target)
    loss = ClassScore(target, job.options.score, card.meaning)
    return Objective(name, loss, {"target": name}, target=target)


def _chosen_class(job: Job[AscentOptions]) -> int:
    """The class that was named, else the photo's best, else the first."""
    if job.options.target:
        return job.card.class_index(job.options.target)
    return int(probabilities_of(job, job.frame).argmax()) if job.photo is not None else 0


def _photo_direction(job: Job[AscentOptions], layer: Layer) -> Tensor:
    """The unit vector from the mean colour's features to the photo's, both averaged over positions, (units,)."""
    picture = to_picture(job.frame, job.device)
    mean = Normalise(job.card.preprocessing, job.device).inverse(torch.zeros_like(picture))
    features = unit_maps(features_of(job, torch.cat([picture, mean]), [layer.name])[layer.name], layer).mean((2, 3))
    vector: Tensor = features[0] - features[1]
    length: Tensor = vector.norm().clamp_min(1e-12)
    return vector.div(length)


def _direction_objective(job: Job[AscentOptions], layer: Layer, text: str) -> Objective:
    if text == "photo":
        if job.photo is None:
            raise OptionsError(
                "direction is photo, and there is none: give --image PATH, or write pairs such as 3:1,17:-0.5"
            )
        vector = _photo_direction(job, layer)
    else:
        vector = torch.zeros(layer.units, device=job.device)
        for unit, weight in weights_of(job.card, layer, text):
            vector[unit] = weight
    about = {"layer": layer.name, "direction": text}
    return Objective(f"{layer.name} direction {text}", Direction(layer, vector), about, layer)


def objectives_of(job: Job[AscentOptions]) -> list[Objective]:
    """What the options ask for, one for each picture: the first, their joint, the second for a joint of two."""
    options, card = job.options, job.card
    layer = card.layer(options.layer) if options.layer else None
    if options.direction and layer is not None:
        return [_direction_objective(job, layer, options.direction)]
    if options.units:
        numbers = numbers_of(card, layer, options.units)
        return [class_objective(job, n) if layer is None else unit_objective(job, layer, n) for n in numbers]
    first = class_objective(job, _chosen_class(job)) if layer is None else unit_objective(job, layer, options.unit or 0)
    if options.joint:
        other, number = unit_and_layer(card, layer, options.joint)
        second = class_objective(job, number) if other is None else unit_objective(job, other, number)
        both = Objective(f"{first.name} + {second.name}", Joint((first.loss, second.loss)), {"joint": second.name})
        return [first, both, second]
    return [first] * options.diversity


def likeness_layer(card: Card, objective: Objective) -> Layer:
    """The layer in whose features pictures of one objective shall differ: its own if that has maps, else a deep one."""
    if objective.layer is not None and objective.layer.spatial:
        return objective.layer
    return layer_at(card, 0.75)


def activation_scale(job: Job[AscentOptions], objective: Objective, start: Tensor) -> float:
    """The root mean square of what the objective's layer says of the first picture: the scale of its activations."""
    tap = OUTPUT if objective.layer is None else objective.layer.name
    features = features_of(job, start[:1], [tap])[tap]
    return max(float(features.square().mean().sqrt()), 1e-6)
