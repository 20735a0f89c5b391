"""Which class or unit of a photo is explained: the one that options name, or the photo's own strongest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fovea.engine.errors import UnsupportedError
from fovea.engine.maps import ClassOrUnit
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.engine.method import Job
    from fovea.models.card import Card


def class_of(card: Card, index: int) -> ClassOrUnit:
    """A class by its index. Raises UnsupportedError where the network has no classes."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    name = card.classes[index] if index < len(card.classes) else str(index)
    return ClassOrUnit(target=card.class_number(index), words=name)


def top_class(job: Job[Any]) -> ClassOrUnit:
    """The class that the network finds most likely for the photo. Raises UnsupportedError where there are none."""
    class_of(job.card, 0)
    return class_of(job.card, int(_photo_output(job, OUTPUT)[0].argmax()))


def named_or_strongest(job: Job[Any], target: str, layer: str, unit: int | None, position: str) -> ClassOrUnit:
    """What options name on this photo: the top class and the strongest unit where they are left out."""
    card = job.card
    if layer:
        from fovea.engine.scores import unit_score

        score = unit_score(card, _photo_output(job, layer), layer, unit, position)
        return ClassOrUnit(layer=layer, unit=score.unit, position=score.position, words=f"{layer} unit {score.unit}")
    return class_of(card, card.class_index(target)) if target else top_class(job)


def _photo_output(job: Job[Any], tap: str) -> Tensor:
    """The photo's own output (1, …) at a tap, from the ONNX graph."""
    import torch

    from fovea.engine.look.probing.probe import Probe

    probe = Probe(job, [tap], lambda editor, tensors: editor.answer(editor.float32(tensors[tap]), "tapped"))
    feed = job.network.graph().input
    return torch.from_numpy(probe.run({feed: job.input}, batched=(feed,))["tapped"])
