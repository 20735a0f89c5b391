"""Gradient ascent: a picture that excites a class, a unit, a direction, or several of them.

Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2 (class logit, zero picture, L2 term); Yosinski et
al. 2015, section 3 and table 1 (decay, blur, clipping); Olah et al. 2017 and Lucid (Fourier canvas, transforms, Adam,
diversity, joint optimisation). Departures: L2 and total variation are terms of the loss, so that the curve shows
them; the weight of diversity and the steps of Yosinski's presets are in units of the layer's own scale, so that one
default serves every layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.look.mining.mined import MINING
from fovea.engine.make.excite.options import AscentOptions
from fovea.engine.make.excite.presets import COMPARED, AscentSettings, settings_of
from fovea.engine.make.excite.unit_lists import numbers_of, unit_and_layer, unit_position, weights_of
from fovea.engine.method import Job, Method, Result
from fovea.engine.options.unit import check_class_or_unit

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from fovea.engine.make.excite.objectives import Objective
    from fovea.engine.make.judge.verdict import SecondOpinion
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import Canvas
    from fovea.engine.make.optimise.growth import Iterate
    from fovea.engine.make.optimise.loop import Made
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.make.optimise.optimisers import Optimiser
    from fovea.engine.make.optimise.projection import Projection
    from fovea.engine.make.optimise.transforms import Transform
    from fovea.models.card import Card


@dataclass
class AscentFindings:
    """For each of `presets` what was made, a batch with one picture of each objective, and how it grew.

    `second` is the other network that is asked what it sees, if one is named.
    """

    objectives: list[Objective]
    presets: tuple[str, ...]
    made: list[Made]
    animations: list[Animation]
    second: SecondOpinion | None


def compute(job: Job[AscentOptions]) -> AscentFindings:
    """Make a batch of pictures by each preset that is asked for."""
    from fovea.engine.make.excite.objectives import objectives_of
    from fovea.engine.make.judge.verdict import second_opinion
    from fovea.engine.make.optimise.animation import SIDE, Animation
    from fovea.engine.make.optimise.canvas import contact_sheet
    from fovea.engine.make.optimise.growth import Growth
    from fovea.engine.make.optimise.losses import Apiece
    from fovea.engine.make.optimise.memory import check_memory

    options = job.options
    objectives = objectives_of(job)
    second = second_opinion(job, options.second_network)
    taps = Apiece(tuple(objective.loss for objective in objectives)).taps
    check_memory(job.card, taps, *_side(job.card, options), count=len(objectives), device=job.device)
    presets = COMPARED if options.preset == "side-by-side" else (options.preset,)
    animations = [Animation(options.steps, side=SIDE if len(presets) == 1 else SIDE // 2) for _ in presets]
    made: list[Made] = []
    for number, (preset, animation) in enumerate(zip(presets, animations, strict=True)):
        growth = Growth(
            job.progress.span(number / len(presets), (number + 1) / len(presets)),
            f"{preset}, step" if len(presets) > 1 else "step",
            draw=lambda pictures: contact_sheet(shown(job, pictures)),
            animation=animation,
        )
        made.append(make(job, objectives, settings_of(options, preset), growth))
    job.record(provider="torch", precision="fp32")
    return AscentFindings(objectives, presets, made, animations, second)


def make(
    job: Job[AscentOptions],
    objectives: list[Objective],
    settings: AscentSettings,
    callback: Callable[[Iterate], bool],
) -> Made:
    """One batch of pictures, one of each objective: the activation rises, the regularisers are held down."""
    import torch

    from fovea.engine.make.excite.objectives import activation_scale
    from fovea.engine.make.optimise.loop import optimise

    canvas = _canvas(job, settings, len(objectives))
    with torch.no_grad():
        scale = activation_scale(job, objectives[0], canvas.picture())
    return optimise(
        job,
        canvas,
        _terms(job, objectives, settings, scale),
        steps=job.options.steps,
        optimiser=_optimiser(settings, scale),
        transforms=_transforms(settings),
        projection=_projection(job, settings),
        callback=callback,
    )


def shown(job: Job[AscentOptions], pictures: Tensor) -> Tensor:
    """The pictures (N, C, H, W) as they are shown: free ones, each brought linearly into [0, 1]."""
    if not job.options.free_range:
        return pictures
    low, high = pictures.amin((1, 2, 3), keepdim=True), pictures.amax((1, 2, 3), keepdim=True)
    return (pictures - low) / (high - low).clamp_min(1e-12)


def report(job: Job[AscentOptions], findings: AscentFindings) -> Result:
    """Image `ascent`, exactly input-sized unless told; of several pictures that is the first, a joint, or Lucid's.

    `pictures` and `picture_01` … where there are several, the animation `ascent.gif`, array `loss` by step, tables
    `losses` by term, `classes`, `pictures`, and `activations` on this and on real pictures.
    """
    from fovea.engine.make.excite.report import AscentReport
    from fovea.engine.make.optimise.canvas import to_pixels

    pixels = [frame for made in findings.made for frame in to_pixels(shown(job, made.picture))]
    return AscentReport(
        job, pixels, findings.objectives, findings.presets, findings.made, findings.animations, findings.second
    ).result()


def _side(card: Card, options: AscentOptions) -> tuple[int, int]:
    """The picture's height and width; the option `size` is the longer side of the input's shape."""
    height, width = card.preprocessing.size
    if options.size is None:
        return height, width
    scale = options.size / max(height, width)
    return round(height * scale), round(width * scale)


def _start(job: Job[AscentOptions], settings: AscentSettings, count: int) -> Tensor | None:
    """The first pictures (N, C, H, W), None for a canvas's own noise."""
    import torch

    from fovea.engine.make.optimise.canvas import resized, to_picture

    height, width = _side(job.card, job.options)
    if settings.start == "photo":
        if job.photo is None:
            raise OptionsError("start is photo, and there is none: give --image PATH, or --start noise")
        return resized(to_picture(job.frame, job.device), height, width).clamp(0, 1).repeat(count, 1, 1, 1)
    shape = (count, job.card.preprocessing.channels, height, width)
    if settings.start == "zero":
        return _mean(job).expand(shape).clone()
    if settings.canvas != "pixels":
        return None
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)).to(job.device)
    return (_mean(job) + 0.1 * noise).clamp(0, 1)


def _mean(job: Job[AscentOptions]) -> Tensor:
    """The picture's mean colour (1, C, 1, 1), at which the network's input is 0."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    preprocessing = job.card.preprocessing
    return Normalise(preprocessing, job.device).inverse(
        torch.zeros((1, preprocessing.channels, 1, 1), device=job.device)
    )


def _canvas(job: Job[AscentOptions], settings: AscentSettings, count: int) -> Canvas:
    import torch

    from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas, PyramidCanvas

    start = _start(job, settings, count)
    if settings.canvas == "pixels":
        assert start is not None, "the other canvases draw their own noise"
        return PixelCanvas(start)
    made = PyramidCanvas if settings.canvas == "pyramid" else FourierCanvas
    return made(
        (count, job.card.preprocessing.channels, *_side(job.card, job.options)),
        generator=torch.Generator().manual_seed(job.seed),
        start=start,
        free=job.options.free_range,
        device=job.device,
    )


def _terms(job: Job[AscentOptions], objectives: list[Objective], settings: AscentSettings, scale: float) -> list[Term]:
    from fovea.engine.make.excite.objectives import likeness_layer
    from fovea.engine.make.optimise.losses import Apiece, Diversity, Norm, Term, TotalVariation, ascend

    same = all(objective is objectives[0] for objective in objectives)
    loss = objectives[0].loss if same else Apiece(tuple(objective.loss for objective in objectives))
    terms = [ascend("activation", loss)]
    if job.options.diversity > 1 and job.options.diversity_weight:
        likeness = Diversity(likeness_layer(job.card, objectives[0]))
        terms.append(Term("likeness", likeness, job.options.diversity_weight * scale))
    if settings.l2:
        terms.append(Term("l2", Norm(2.0), settings.l2))
    if settings.total_variation:
        terms.append(Term("total variation", TotalVariation(), settings.total_variation))
    return terms


def _transforms(settings: AscentSettings) -> list[Transform]:
    from fovea.engine.make.optimise.transforms import Jitter, lucid_transforms

    if settings.transforms:
        return lucid_transforms(settings.jitter)
    return [Jitter(settings.jitter)] if settings.jitter else []


def _projection(job: Job[AscentOptions], settings: AscentSettings) -> Projection | None:
    """What is done to the pixels after each step, in Yosinski's order; nothing to Fourier coefficients."""
    from fovea.engine.make.optimise.projection import Blur, Chain, Clip, Decay, box

    if settings.canvas != "pixels":
        return None
    mean = _mean(job)
    steps: list[Projection] = []
    if settings.decay:
        steps.append(Decay(mean, settings.decay))
    if settings.blur:
        steps.append(Blur(settings.blur, settings.blur_every))
    if settings.clip_norm:
        steps.append(Clip(mean, settings.clip_norm))
    if settings.clip_contribution:
        steps.append(Clip(mean, settings.clip_contribution, "contribution"))
    if not job.options.free_range:
        steps.append(box)
    return Chain(tuple(steps))


def _optimiser(settings: AscentSettings, scale: float) -> Optimiser:
    from fovea.engine.make.optimise.optimisers import adam, gradient_steps

    if settings.rule == "progress":
        return gradient_steps(settings.learning_rate * scale, "progress")
    return adam(settings.learning_rate)


def check(card: Card, options: AscentOptions) -> None:
    """Raise OptionsError where two options do not go together, and what else keeps the network from them."""
    check_class_or_unit(options.target, options.layer, options.unit)
    if options.position == "max":
        raise OptionsError("position max moves while the picture grows: choose centre, sum or row,column")
    _check_together(options)
    _check_canvas(options)
    if not options.layer and not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    if options.score == "margin" and not options.layer and len(card.classes) == 1:
        raise OptionsError(f"score margin needs other classes, and {card.name} has only one: choose logit")
    _check_names(card, options)


def _check_together(options: AscentOptions) -> None:
    many = [name for name in ("units", "joint", "direction") if getattr(options, name)]
    many += ["diversity"] * (options.diversity > 1) + ["preset side-by-side"] * (options.preset == "side-by-side")
    if len(many) > 1:
        raise OptionsError(f"{many[0]} and {many[1]} do not go together: choose one of them")
    if options.units and (options.target or options.unit is not None):
        single = "target" if options.target else "unit"
        raise OptionsError(f"choose several units or a single {single}, not both")
    if options.direction and not options.layer:
        raise OptionsError("a direction lies in a layer's space: of which layer? choose a layer as well")
    if options.direction and options.unit is not None:
        raise OptionsError("choose a unit or a direction, not both")


def _check_canvas(options: AscentOptions) -> None:
    for preset in COMPARED if options.preset == "side-by-side" else (options.preset,):
        settings = settings_of(options, preset)
        on_pixels = [name for name in ("blur", "decay", "clip_norm", "clip_contribution") if getattr(settings, name)]
        if settings.canvas != "pixels" and on_pixels:
            raise OptionsError(f"{on_pixels[0]} acts on pixels: choose --canvas pixels with it")


def _check_names(card: Card, options: AscentOptions) -> None:
    """Raise where a unit, class, layer or position that an option names is not there."""
    layer = card.layer(options.layer) if options.layer else None
    if options.units:
        numbers_of(card, layer, options.units)
    if options.joint:
        unit_and_layer(card, layer, options.joint)
    if layer is None:
        return
    if layer.axes == "none":
        raise UnsupportedError(f"layer {layer.name} has no units: its output has shape {layer.shape}")
    if options.direction and options.direction != "photo":
        weights_of(card, layer, options.direction)
    position = unit_position(options.position)
    if isinstance(position, tuple):
        # Maps shrink and grow with the picture.
        rows, columns = (
            max(1, math.floor(length * side / own))
            for length, side, own in zip(layer.grid, _side(card, options), card.preprocessing.size, strict=True)
        )
        if position[0] >= rows or position[1] >= columns:
            raise OptionsError(
                f"position {options.position} is outside layer {layer.name}, whose maps have {rows} rows "
                f"and {columns} columns"
            )


def work(card: Card, options: AscentOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward for each picture."""
    layer = card.layer(options.layer) if options.layer else None
    pictures = len(numbers_of(card, layer, options.units)) if options.units else options.diversity
    pictures *= 3 if options.joint else len(COMPARED) if options.preset == "side-by-side" else 1
    height, width = _side(card, options)
    area = height * width / (card.preprocessing.size[0] * card.preprocessing.size[1])
    return 3.0 * options.steps * pictures * area


METHOD = Method(
    name="ascent",
    title="Gradient ascent",
    verb="make",
    family="Gradient ascent",
    question="What does it want to see?",
    home="Draw what it wants to see",
    summary="Makes a picture from nothing that excites a class or a unit (Simonyan 2013, Yosinski 2015, Olah 2017).",
    options=AscentOptions,
    compute=compute,
    report=report,
    work=work,
    photo=False,
    uses_photo=True,
    gradients=True,
    version=3,
    reads=(MINING,),
    check=check,
)
