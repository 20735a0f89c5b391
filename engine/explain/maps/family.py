"""The family of maps of one photo: which method draws each, and how to draw it for any class, unit or network copy.

Nothing heavy is imported here, so that method files may read the list.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import NetworkError, OptionsError, UnsupportedError
from fovea.engine.method import Job, Lead, find_method
from fovea.engine.options import UnitKind
from fovea.engine.progress import Progress

if TYPE_CHECKING:
    from torch import nn

    from fovea.engine.explain.backward.scores import Score
    from fovea.models.card import Card
    from fovea.models.graph.cut import TappedGraph

MapName = Literal[
    "gradient",
    "gradient_times_input",
    "smoothgrad",
    "smoothgrad_squared",
    "integrated",
    "guided",
    "deconvnet",
    "gradcam",
    "gradcam++",
    "guided_gradcam",
    "occlusion",
]
"""The maps that can be put to the test; see RECIPES."""


@dataclass(frozen=True)
class Recipe:
    """One map of the family: the `array` that `method` saves with these `options`.

    `lean(card)`: options that draw it in less time, where many maps are drawn. `by_rule`: it is the gradient under
    the rule for ReLUs that the options name, taken for a class as well as for a unit. `known`: what the literature
    found of it in the randomisation test.
    """

    title: str
    method: str
    array: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lean: Callable[[Card], dict[str, Any]] = lambda card: {}
    by_rule: bool = False
    known: str = ""

    @property
    def gradients(self) -> bool:
        """Whether it needs the torch network."""
        return find_method(self.method).gradients

    @property
    def takes_units(self) -> bool:
        """Whether it can explain a unit in place of a class."""
        return bool(find_method(self.method).options.names(UnitKind))

    @property
    def subject(self) -> tuple[str, ...]:
        """The options by which its method names what it explains."""
        return ("target", "layer", "unit", "position") if self.takes_units else ("target",)


def _saliency(title: str, sampling: str, reduction: str, **lean: int) -> Recipe:
    return Recipe(
        title, "saliency", "saliency", {"sampling": sampling, "reduction": reduction}, lambda card: dict(lean)
    )


def _few_windows(card: Card) -> dict[str, int]:
    """Seven windows a side, whatever the size of the input."""
    window = max(1, min(card.preprocessing.size) // 4)
    return {"window": window, "stride": max(1, window // 2)}


EDGES = "it draws the photo's edges (Adebayo 2018, Nie 2018)"


RECIPES: dict[str, Recipe] = {
    "gradient": _saliency("Gradient", "plain", "max_abs"),
    "gradient_times_input": _saliency("Gradient × input", "plain", "grad_times_input"),
    "smoothgrad": _saliency("SmoothGrad", "smoothgrad", "max_abs", samples=10),
    "smoothgrad_squared": _saliency("SmoothGrad, squared", "smoothgrad_squared", "max_abs", samples=10),
    "integrated": _saliency("Integrated gradients", "integrated", "sum", steps=16),
    "guided": Recipe("Guided backprop", "guided", "magnitude", {"rule": "guided"}, by_rule=True, known=EDGES),
    "deconvnet": Recipe("Deconvnet", "guided", "magnitude", {"rule": "deconvnet"}, by_rule=True, known=EDGES),
    "gradcam": Recipe("Grad-CAM", "gradcam", "gradcam", {"variant": "gradcam"}),
    "gradcam++": Recipe("Grad-CAM++", "gradcam", "gradcam", {"variant": "gradcam++"}),
    "guided_gradcam": Recipe("Guided Grad-CAM", "gradcam", "guided_gradcam", {"variant": "gradcam"}, known=EDGES),
    "occlusion": Recipe("Occlusion", "occlusion", "heatmap", lean=_few_windows),
}
"""Every map of the family by name, in the order in which they are shown."""


@dataclass(frozen=True)
class Subject:
    """What is explained: a class by its index (as text), or a unit of a layer at a place (None: all summed)."""

    target: str = ""
    layer: str = ""
    unit: int | None = None
    place: tuple[int, int] | None = None
    words: str = ""

    @property
    def tap(self) -> str:
        """The layer whose output holds the score."""
        from fovea.models.card import OUTPUT

        return self.layer or OUTPUT

    def options(self) -> dict[str, Any]:
        """What a method has to be told to explain it."""
        if not self.layer:
            return {"target": self.target}
        position = "sum" if self.place is None else f"{self.place[0]},{self.place[1]}"
        return {"layer": self.layer, "unit": self.unit, "position": position}


def class_subject(card: Card, index: int) -> Subject:
    """A class by its index. Raises UnsupportedError where the network has no classes."""
    if card.output == "features" or not card.classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    name = card.classes[index] if index < len(card.classes) else str(index)
    return Subject(target=str(index), words=name)


def choose_subject(job: Job, target: str, layer: str, unit: int | None, position: str) -> Subject:
    """The subject that options name on this photo: the top class and the strongest unit where they are left out."""
    card = job.card
    if layer:
        from fovea.engine.explain.backward.scores import unit_score

        score = unit_score(card, _tapped(job, layer), layer, unit, position)
        chosen = int(str(score.summary["unit"]))
        return Subject(layer=layer, unit=chosen, place=score.place, words=f"{layer} unit {chosen}")
    if target:
        return class_subject(card, card.class_index(target))
    from fovea.models.card import OUTPUT

    class_subject(card, 0)
    return class_subject(card, int(_tapped(job, OUTPUT)[0].argmax()))


def _tapped(job: Job, tap: str) -> Any:
    """The photo's own output (1, …) at a tap, as a tensor, from the ONNX graph."""
    import torch

    from fovea.engine.look.probing.probe import Probe

    probe = Probe(job, [tap], lambda editor, tensors: editor.answer(editor.float32(tensors[tap]), "tapped"))
    feed = job.network.graph().input
    return torch.from_numpy(probe.run({feed: job.input}, batched=(feed,))["tapped"])


def usable(card: Card) -> list[str]:
    """The maps that this network allows: an ONNX file has no gradients, some networks no layer of maps."""
    found = []
    for name, recipe in RECIPES.items():
        try:
            verify(card, name, Subject(target="0"), recipe.lean(card))
        except UnsupportedError:
            continue
        found.append(name)
    return found


def verify(card: Card, name: str, subject: Subject, settings: Mapping[str, Any]) -> None:
    """Raise, in one line, where this network does not allow the map or an option of it has a wrong value."""
    recipe = RECIPES[name]
    if recipe.gradients and not card.gradients:
        raise UnsupportedError(f"{recipe.title} needs gradients, and {card.name} is an ONNX file: choose occlusion")
    options = map_options(name, subject, settings)
    if not recipe.by_rule:
        find_method(recipe.method).verify(card, options)


def settings_of(name: str, text: str) -> dict[str, str]:
    """The options of a map's own method that `text` sets: "samples=50, noise=0.1".

    Raises OptionsError for what is no option of that method, or names what is explained.
    """
    recipe = RECIPES[name]
    free = [one for one in find_method(recipe.method).options.model_fields if one not in recipe.subject]
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not value:
            raise OptionsError(f"settings: expected name=value, comma separated, such as samples=50, not {part!r}")
        if key not in free:
            raise OptionsError(f"settings: {recipe.title} has {', '.join(free)}, not {key}")
        found[key] = value
    return found


def map_options(name: str, subject: Subject, settings: Mapping[str, Any]) -> Any:
    """The complete options of a map's method. Raises OptionsError, also where it cannot explain a unit."""
    recipe = RECIPES[name]
    if subject.layer and not recipe.takes_units:
        raise OptionsError(f"{recipe.title} explains a class, not a unit: choose a class, or another map")
    kind = find_method(recipe.method).options
    about = {key: value for key, value in subject.options().items() if key in kind.model_fields}
    return kind.parse({**recipe.options, **settings, **about})


def draw(
    job: Job,
    name: str,
    subject: Subject,
    settings: Mapping[str, Any] | None = None,
    module: nn.Module | None = None,
    told: Callable[[float], None] = lambda fraction: None,
) -> NDArray[np.float32]:
    """The map `name` of the job's photo, float32 (H, W) in the input frame; of several channels the largest |·|.

    `module` stands for the job's network where a changed copy of it is asked; what the method has to say of its
    map is then left unsaid. Raises what the method raises.
    """
    recipe = RECIPES[name]
    method = find_method(recipe.method)

    def progress(fraction: float, message: str, preview: Any = None, curve: Any = None) -> None:
        told(fraction)

    if module is None:
        verify(job.card, name, subject, settings or {})
    own = dataclasses.replace(
        job, options=map_options(name, subject, settings or {}), progress=Progress(progress), warnings=[], ran={}
    )
    if module is not None:
        own.network = _Copy(job.card, module)
    if recipe.by_rule:
        values = _by_rule(own, subject)
    elif module is not None and not method.gradients:
        values = _occluded(own, subject)
    else:
        values = method.run(own).arrays[recipe.array]
    if module is None:
        for line in own.warnings:
            job.warn(line)
    return np.asarray(np.abs(values).max(0) if values.ndim == 3 else values, np.float32)


@dataclass(frozen=True)
class _Copy:
    """A changed copy of a network: its card and its module. It has no ONNX graph."""

    card: Card
    torch_module: nn.Module

    @property
    def name(self) -> str:
        return self.card.name

    def module(self, device: str = "cpu") -> nn.Module:
        return self.torch_module

    def graph(self) -> TappedGraph:
        raise NetworkError(f"a changed copy of {self.name} has no ONNX graph")


def _score(job: Job, subject: Subject, output: Any, score: str = "logit") -> Score:
    from fovea.engine.explain.backward.scores import class_score, unit_score

    if subject.layer:
        return unit_score(job.card, output, subject.layer, subject.unit, subject.options()["position"])
    return class_score(job.card, output, subject.target, score)


def _by_rule(job: Job, subject: Subject) -> NDArray[Any]:
    """The gradient (C, H, W) of the subject's score under the rule of the job's options."""
    import torch

    from fovea.engine.explain.backward.attribution import explain

    x = torch.from_numpy(job.input).to(job.device)
    module = job.network.module(job.device)
    found = explain(module, x, subject.tap, lambda output: _score(job, subject, output), job.options.rule)
    for note in found.notes:
        job.warn(note)
    return np.asarray(found.gradient[0].cpu().numpy())


def _occluded(job: Job, subject: Subject) -> NDArray[np.float32]:
    """The occlusion map (H, W) computed by torch: a changed copy of a network has no ONNX graph."""
    import torch

    from fovea.engine.explain.backward.attribution import batch_for
    from fovea.engine.look.occluding.covers import cover_picture
    from fovea.engine.look.occluding.windows import corners, mean_drop
    from fovea.engine.unit_maps import unit_maps
    from fovea.models.torch_net import forward_taps

    options, card = job.options, job.card
    height, width = card.preprocessing.size
    ys, xs = corners(height, options.window, options.stride), corners(width, options.window, options.stride)
    module = job.network.module(job.device)
    photo = torch.from_numpy(job.input).to(job.device)
    cover = torch.from_numpy(np.ascontiguousarray(cover_picture(job))).to(job.device)

    def watched(pictures: torch.Tensor) -> NDArray[np.float32]:
        output = forward_taps(module, pictures, [subject.tap])[subject.tap]
        if subject.layer:
            values = unit_maps(output, card.layer(subject.layer))[:, subject.unit].amax((1, 2))
        else:
            values = _score(job, subject, output[:1], options.score).of(output)
        return np.asarray(values.float().cpu().numpy())

    places = [(y, x) for y in ys for x in xs]
    scores: list[NDArray[np.float32]] = []
    with torch.inference_mode():
        clean = watched(photo)[0]
        for start in range(0, len(places), batch_for(photo)):
            part = places[start : start + batch_for(photo)]
            pictures = photo.repeat(len(part), 1, 1, 1)
            for picture, (y, x) in zip(pictures, part, strict=True):
                window = (slice(None), slice(y, y + options.window), slice(x, x + options.window))
                picture[window] = cover[0][window]
            scores.append(watched(pictures))
            job.progress(min(1.0, (start + len(part)) / len(places)), "windows")
    drop = np.asarray(clean - np.concatenate(scores).reshape(len(ys), len(xs)), np.float32)
    return mean_drop(drop, ys, xs, options.window, (height, width))


def trust_lead(method: str) -> Lead:
    """What a finished run of a map's method leads to: the same map put to the test."""

    def options(given: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
        def likeness(name: str) -> tuple[bool, ...]:
            return tuple(given.get(key) == value for key, value in RECIPES[name].options.items())

        name = max((name for name in RECIPES if RECIPES[name].method == method), key=likeness)
        recipe = RECIPES[name]
        usual = find_method(method).options().model_dump() | dict(recipe.options)
        changed = {key: value for key, value in given.items() if key not in recipe.subject and value != usual.get(key)}
        asked: dict[str, Any] = {"map": name}
        if changed:
            asked["settings"] = ", ".join(f"{key}={value}" for key, value in changed.items() if value is not None)
        # What the run chose by itself is in its summary: the layer and unit of guided backprop, say.
        if recipe.takes_units and (given.get("layer") or "target" not in summary):
            for key in ("layer", "unit", "position"):
                value = given.get(key) if given.get(key) not in (None, "") else summary.get(key)
                if value not in (None, ""):
                    asked[key] = value
        elif given.get("target"):
            asked["target"] = given["target"]
        return asked

    return Lead("How far to trust this map", "trust", options)
