"""Gradient ascent: a picture that excites a class, a unit, a direction, or several of them.

Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2 (class logit, zero picture, L2 term); Yosinski et
al. 2015, section 3 and table 1 (decay, blur, clipping); Olah et al. 2017 and Lucid (Fourier canvas, transforms, Adam,
diversity, joint optimisation). Departures: L2 and total variation are terms of the loss, so that the curve shows
them; the weight of diversity and the steps of Yosinski's presets are in units of the layer's own scale, so that one
default serves every layer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.look.mining.mined import MINING
from fovea.engine.make.excite.presets import COMPARED, Recipe, recipe
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, LayerKind, NetworkKind, Options, PositionKind, UnitKind, option
from fovea.engine.options.unit import check_class_or_unit

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.engine.make.excite.subjects import Subject
    from fovea.engine.make.optimise.canvas import Canvas
    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.loop import Made, Optimiser
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.make.optimise.projection import Projection
    from fovea.engine.make.optimise.transforms import Transform
    from fovea.models.card import Card

Preset = Literal["lucid", "yosinski", "yosinski-1", "yosinski-2", "yosinski-4", "simonyan", "none", "side-by-side"]


class AscentOptions(Options):
    """What ascent can be told."""

    target: str = option(
        "",
        "Class to excite; empty: the photo's top class, without a photo the first",
        kind=ClassKind(),
        coerce_numbers_to_str=True,
    )
    layer: str = option("", "Layer whose unit is excited instead of a class", kind=LayerKind())
    unit: int | None = option(None, "Unit of that layer; empty: the first", kind=UnitKind(), ge=0)
    position: str = option(
        "sum",
        "Where in the unit's map: sum of all (a texture), centre (one object), or row,column",
        kind=PositionKind(),
    )
    preset: Preset = option(
        "lucid",
        "lucid (Olah 2017): Fourier canvas and transforms; yosinski (2015, table 1: row 3, and -1, -2, -4): decay, "
        "blur, clipping; simonyan (2013): L2; none: no regulariser; side-by-side: one picture of each kind",
    )
    units: str = option(
        "",
        "Several at once, one picture each: 0-8 or 3,7,12; units of the layer, or classes",
        max_length=400,
        coerce_numbers_to_str=True,
    )
    diversity: int = option(
        1, "How many pictures of it, each showing another side (Olah 2017, diversity)", ge=1, le=16, unit="pictures"
    )
    steps: int = option(160, "Steps of the optimiser (Lucid takes 512)", ge=1, le=10000, unit="steps")
    size: int | None = option(
        None, "Side of the picture; empty: the network's input; 128 is Lucid's, and quick", ge=32, le=4096, unit="px"
    )
    start: Literal["preset", "zero", "noise", "photo"] = option(
        "preset",
        "First picture: the mean colour (Simonyan 2013), noise (Olah 2017), or the photo: what makes it more so",
    )
    joint: str = option(
        "",
        "A second unit (7, or LAYER:7) or class that one picture must excite as well (Olah 2017); both alone beside it",
        advanced=True,
        max_length=200,
        coerce_numbers_to_str=True,
    )
    direction: str = option(
        "",
        "Instead of a unit, a direction of the layer: unit:weight pairs such as 3:1,17:-0.5, or photo for the photo's",
        advanced=True,
        max_length=2000,
    )
    second_network: str = option(
        "", "Another network that is asked what it sees in the picture", kind=NetworkKind(), advanced=True
    )
    free_range: bool = option(
        False,
        "Let pixels leave black to white and rescale the result for display; off: stay among real pixel values",
        advanced=True,
    )
    score: Literal["logit", "log_probability", "margin"] = option(
        "logit",
        "What of a class is raised: its logit (Simonyan 2013), log probability, or lead over the next class",
        advanced=True,
    )
    diversity_weight: float = option(
        1.0,
        "Weight of the pictures' likeness, in the layer's own scale (Olah 2017)",
        ge=0,
        le=1000,
        advanced=True,
    )
    canvas: Literal["preset", "pixels", "fourier", "pyramid"] = option(
        "preset",
        "What is optimised: pixels, Fourier coefficients (Olah 2017: 1/f, decorrelated), or a pyramid of four sizes "
        "(Lucid's other one)",
        advanced=True,
    )
    learning_rate: float | None = option(
        None,
        "The step: Adam's, Lucid 0.05 in Fourier, 0.01 for pixels; Yosinski's in the activation's scale",
        gt=0,
        le=1000,
        advanced=True,
    )
    l2: float | None = option(
        None, "Weight of the mean square of the normalised picture (Simonyan 2013, eq. 1)", ge=0, advanced=True
    )
    total_variation: float | None = option(
        None, "Weight of the total variation (Mahendran and Vedaldi 2015, eq. 4)", ge=0, advanced=True
    )
    jitter: int | None = option(
        None, "Random shift before each step (Mordvintsev 2015)", ge=0, le=64, unit="px", advanced=True
    )
    transforms: bool | None = option(None, "Random scale and rotation before each step (Olah 2017)", advanced=True)
    blur: float | None = option(
        None, "Gaussian blur after every few steps, pixels only (Yosinski 2015)", ge=0, le=10, unit="px", advanced=True
    )
    blur_every: int | None = option(None, "How often it blurs (Yosinski 2015: 4)", ge=1, unit="steps", advanced=True)
    decay: float | None = option(
        None, "Part of the picture lost at each step, pixels only (Yosinski 2015)", ge=0, lt=1, advanced=True
    )
    clip_norm: float | None = option(
        None,
        "Pixels of smaller norm go back to the mean, pixels only (Yosinski 2015)",
        ge=0,
        lt=100,
        unit="percentile",
        advanced=True,
    )
    clip_contribution: float | None = option(
        None,
        "Pixels of smaller contribution go back to the mean, pixels only (Yosinski 2015)",
        ge=0,
        lt=100,
        unit="percentile",
        advanced=True,
    )


def check(card: Card, options: AscentOptions) -> None:
    """Raise OptionsError where two options do not go together."""
    check_class_or_unit(options.target, options.layer, options.unit)
    if options.position == "max":
        raise OptionsError("position max moves while the picture grows: choose centre, sum or row,column")
    _check_together(options)
    _check_canvas(options)
    if not options.layer and card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    if options.score == "margin" and not options.layer and len(card.classes) == 1:
        raise OptionsError(f"score margin is over the other classes, and {card.name} has one: choose logit")
    _check_names(card, options)


def _check_together(options: AscentOptions) -> None:
    many = [name for name in ("units", "joint", "direction") if getattr(options, name)]
    many += ["diversity"] * (options.diversity > 1) + ["preset side-by-side"] * (options.preset == "side-by-side")
    if len(many) > 1:
        raise OptionsError(f"{many[0]} and {many[1]} do not go together: choose one of them")
    if options.units and (options.target or options.unit is not None):
        one = "target" if options.target else "unit"
        raise OptionsError(f"choose units or one {one}, not both")
    if options.direction and not options.layer:
        raise OptionsError("direction of which layer? choose a layer as well")
    if options.direction and options.unit is not None:
        raise OptionsError("choose a unit or a direction, not both")


def _check_canvas(options: AscentOptions) -> None:
    for preset in COMPARED if options.preset == "side-by-side" else (options.preset,):
        chosen = recipe(options, preset)
        on_pixels = [name for name in ("blur", "decay", "clip_norm", "clip_contribution") if getattr(chosen, name)]
        if chosen.canvas != "pixels" and on_pixels:
            raise OptionsError(f"{on_pixels[0]} acts on pixels: choose --canvas pixels with it")


def _check_names(card: Card, options: AscentOptions) -> None:
    """That what is named is there."""
    from fovea.engine.make.excite.names import numbers_of, unit_and_layer, weights_of

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
    if "," in options.position:
        row, column = (int(part) for part in options.position.split(","))
        # Maps shrink and grow with the picture.
        rows, columns = (
            max(1, math.floor(length * side / own))
            for length, side, own in zip(layer.grid, _side(card, options), card.preprocessing.size, strict=True)
        )
        if row >= rows or column >= columns:
            raise OptionsError(
                f"position {options.position} is outside layer {layer.name}, whose maps have {rows} rows "
                f"and {columns} columns"
            )


def _side(card: Card, options: AscentOptions) -> tuple[int, int]:
    """The picture's height and width; a given side is the longer one of the input's shape."""
    height, width = card.preprocessing.size
    if options.size is None:
        return height, width
    scale = options.size / max(height, width)
    return round(height * scale), round(width * scale)


def _start(job: Job, chosen: Recipe, count: int) -> Tensor | None:
    """The first pictures (N, C, H, W), None for a canvas's own noise."""
    import torch

    from fovea.engine.make.optimise.canvas import resized, to_picture

    height, width = _side(job.card, job.options)
    if chosen.start == "photo":
        if job.photo is None:
            raise OptionsError("start is photo, and there is none: give --image PATH, or --start noise")
        return resized(to_picture(job.frame, job.device), height, width).clamp(0, 1).repeat(count, 1, 1, 1)
    shape = (count, job.card.preprocessing.channels, height, width)
    if chosen.start == "zero":
        return _mean(job).expand(shape).clone()
    if chosen.canvas != "pixels":
        return None
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)).to(job.device)
    return (_mean(job) + 0.1 * noise).clamp(0, 1)


def _mean(job: Job) -> Tensor:
    """The picture's mean colour (1, C, 1, 1), at which the network's input is 0."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    preprocessing = job.card.preprocessing
    return Normalise(preprocessing, job.device).inverse(
        torch.zeros((1, preprocessing.channels, 1, 1), device=job.device)
    )


def _canvas(job: Job, chosen: Recipe, count: int) -> Canvas:
    import torch

    from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas, PyramidCanvas

    start = _start(job, chosen, count)
    if chosen.canvas == "pixels":
        assert start is not None, "the other canvases draw their own noise"
        return PixelCanvas(start)
    made = PyramidCanvas if chosen.canvas == "pyramid" else FourierCanvas
    return made(
        (count, job.card.preprocessing.channels, *_side(job.card, job.options)),
        generator=torch.Generator().manual_seed(job.seed),
        start=start,
        free=job.options.free_range,
        device=job.device,
    )


def _terms(job: Job, subjects: list[Subject], chosen: Recipe, scale: float) -> list[Term]:
    from fovea.engine.make.excite.subjects import likeness_layer
    from fovea.engine.make.optimise.losses import Apiece, Diversity, Norm, Term, TotalVariation, ascend

    same = all(subject is subjects[0] for subject in subjects)
    loss = subjects[0].loss if same else Apiece(tuple(subject.loss for subject in subjects))
    terms = [ascend("activation", loss)]
    if job.options.diversity > 1 and job.options.diversity_weight:
        likeness = Diversity(likeness_layer(job.card, subjects[0]))
        terms.append(Term("likeness", likeness, job.options.diversity_weight * scale))
    if chosen.l2:
        terms.append(Term("l2", Norm(2.0), chosen.l2))
    if chosen.total_variation:
        terms.append(Term("total variation", TotalVariation(), chosen.total_variation))
    return terms


def _transforms(chosen: Recipe) -> list[Transform]:
    from fovea.engine.make.optimise.transforms import Jitter, lucid_transforms

    if chosen.transforms:
        return lucid_transforms(chosen.jitter)
    return [Jitter(chosen.jitter)] if chosen.jitter else []


def _projection(job: Job, chosen: Recipe) -> Projection | None:
    """What is done to the pixels after each step, in Yosinski's order; nothing to Fourier coefficients."""
    from fovea.engine.make.optimise.projection import Blur, Chain, Clip, Decay, box

    if chosen.canvas != "pixels":
        return None
    mean = _mean(job)
    steps: list[Projection] = []
    if chosen.decay:
        steps.append(Decay(mean, chosen.decay))
    if chosen.blur:
        steps.append(Blur(chosen.blur, chosen.blur_every))
    if chosen.clip_norm:
        steps.append(Clip(mean, chosen.clip_norm))
    if chosen.clip_contribution:
        steps.append(Clip(mean, chosen.clip_contribution, "contribution"))
    if not job.options.free_range:
        steps.append(box)
    return Chain(tuple(steps))


def _optimiser(chosen: Recipe, scale: float) -> Optimiser:
    from fovea.engine.make.optimise.loop import adam, gradient_steps

    if chosen.rule == "progress":
        return gradient_steps(chosen.learning_rate * scale, "progress")
    return adam(chosen.learning_rate)


def make(
    job: Job, subjects: list[Subject], chosen: Recipe, *, film: Film, portion: tuple[float, float], message: str
) -> Made:
    """One batch of pictures by one recipe."""
    import torch

    from fovea.engine.make.excite.outcome import rescaled
    from fovea.engine.make.excite.subjects import size_of
    from fovea.engine.make.optimise.canvas import contact_sheet
    from fovea.engine.make.optimise.loop import optimise

    canvas = _canvas(job, chosen, len(subjects))
    with torch.no_grad():
        scale = size_of(job, subjects[0], canvas.picture())
    show = rescaled if job.options.free_range else torch.clone
    return optimise(
        job,
        canvas,
        _terms(job, subjects, chosen, scale),
        steps=job.options.steps,
        optimiser=_optimiser(chosen, scale),
        transforms=_transforms(chosen),
        projection=_projection(job, chosen),
        preview=lambda pictures: contact_sheet(show(pictures)),
        portion=portion,
        message=message,
        film=film,
    )


def ascent(job: Job) -> Result:
    """Image `ascent`, exactly input-sized unless told; of several pictures that is the first, a joint, or Lucid's.

    `pictures` and `picture_01` … where there are several, the animation `ascent.gif`, array `loss` by step, tables
    `losses` by term, `classes`, `pictures`, and `activations` on this and on real pictures.
    """
    from fovea.engine.make.excite.outcome import Outcome, second_opinion
    from fovea.engine.make.excite.subjects import subjects_of
    from fovea.engine.make.optimise.film import SIDE, Film
    from fovea.engine.make.optimise.losses import Apiece
    from fovea.engine.make.optimise.memory import check_memory

    options: AscentOptions = job.options
    subjects = subjects_of(job)
    second = second_opinion(job)
    taps = Apiece(tuple(subject.loss for subject in subjects)).taps
    check_memory(job.card, taps, *_side(job.card, options), count=len(subjects), device=job.device)
    presets = COMPARED if options.preset == "side-by-side" else (options.preset,)
    films = [Film(options.steps, side=SIDE if len(presets) == 1 else 112) for _ in presets]
    found: list[Made] = []
    for place, (preset, film) in enumerate(zip(presets, films, strict=True)):
        part = (place / len(presets), (place + 1) / len(presets))
        message = f"{preset}, step" if len(presets) > 1 else "step"
        found.append(make(job, subjects, recipe(options, preset), film=film, portion=part, message=message))
    job.record(provider="torch", precision="fp32")
    return Outcome(job, subjects, presets, found, films, second).result()


def work(card: Card, options: AscentOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward for each picture."""
    from fovea.engine.make.excite.names import numbers_of

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
    summary="A picture made from nothing that excites a class or a unit (Simonyan 2013, Yosinski 2015, Olah 2017).",
    options=AscentOptions,
    compute=ascent,
    work=work,
    photo=False,
    uses_photo=True,
    gradients=True,
    version=3,
    reads=(MINING,),
    check=check,
)
