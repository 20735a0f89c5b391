"""Gradient ascent: a picture that excites a class or a unit.

Simonyan et al. 2013, "Deep Inside Convolutional Networks", section 2 (class logit, zero picture, L2 term); Yosinski et
al. 2015, section 3 (decay and blur); Olah et al. 2017 and Lucid (Fourier canvas, transforms, Adam). Departure: decay
and total variation are terms of the loss, not changes after the step, so that the curve shows them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import OptionsError, UnsupportedError
from engine.explain.choices import check_class_or_unit
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    from torch import Tensor

    from engine.make.canvas import Canvas
    from engine.make.losses import Loss, Term
    from engine.make.transforms import Transform
    from models.card import Card


@dataclass(frozen=True)
class Recipe:
    """What a preset sets; `transforms` are scale and rotation, `blur` is in pixels."""

    canvas: str
    start: str
    learning_rate: float
    l2: float
    total_variation: float
    jitter: int
    transforms: bool
    blur: float


PRESETS = {
    "lucid": Recipe("fourier", "noise", 0.05, 0.0, 0.0, 8, True, 0.0),
    "yosinski": Recipe("pixels", "zero", 0.02, 0.1, 0.0, 0, False, 1.0),
    "simonyan": Recipe("pixels", "zero", 0.01, 10.0, 0.0, 0, False, 0.0),
    "none": Recipe("pixels", "noise", 0.01, 0.0, 0.0, 0, False, 0.0),
}
"""lucid: render.py's defaults. yosinski: blur of 1 pixel every 4 steps and a small decay (table 1, third row).
simonyan: the L2 term alone, from zero (eq. 1). none: no regulariser at all, which ends in noise that fools."""


class AscentOptions(Options):
    """What ascent can be told."""

    target: str = option(
        "",
        "Class to excite; empty: the photo's top class, without a photo the first",
        kind="class",
        coerce_numbers_to_str=True,
    )
    layer: str = option("", "Layer whose unit is excited instead of a class", kind="layer")
    unit: int | None = option(None, "Unit of that layer; empty: the first", kind="unit", ge=0)
    position: str = option(
        "sum", "Where in the unit's map: sum of all (a texture), centre (one object), or row,column", kind="position"
    )
    preset: Literal["lucid", "yosinski", "simonyan", "none"] = option(
        "lucid",
        "lucid (Olah 2017): Fourier canvas and transforms; yosinski (2015): blur and decay; simonyan (2013): L2; "
        "none: no regulariser",
    )
    steps: int = option(160, "Steps of the optimiser (Lucid takes 512)", ge=1, le=10000, unit="steps")
    start: Literal["preset", "zero", "noise", "photo"] = option(
        "preset", "First picture: the mean colour (Simonyan 2013), noise (Olah 2017), or the photo"
    )
    canvas: Literal["preset", "pixels", "fourier"] = option(
        "preset", "What is optimised: pixels, or Fourier coefficients (Olah 2017: 1/f, decorrelated)", advanced=True
    )
    learning_rate: float | None = option(
        None, "Adam's step; Lucid 0.05 in Fourier, 0.01 of the range for pixels", gt=0, le=10, advanced=True
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
        None, "Gaussian blur every 4 steps, pixels only (Yosinski 2015)", ge=0, le=10, unit="px", advanced=True
    )
    free_range: bool = option(
        False, "Let pixels leave black to white, and stretch the result for display", advanced=True
    )


def recipe(options: AscentOptions) -> Recipe:
    """The preset, with what the options replace of it."""
    base = PRESETS[options.preset]
    given = {name: getattr(options, name) for name in Recipe.__dataclass_fields__}
    chosen = {name: getattr(base, name) if value in (None, "preset") else value for name, value in given.items()}
    if options.canvas == "fourier" and base.canvas != "fourier":
        chosen["blur"] = options.blur or 0.0
        chosen["learning_rate"] = options.learning_rate or PRESETS["lucid"].learning_rate
    if options.canvas == "pixels" and base.canvas != "pixels":
        chosen["learning_rate"] = options.learning_rate or PRESETS["none"].learning_rate
    return Recipe(**chosen)


def check(card: Card, options: AscentOptions) -> None:
    """Raise OptionsError where two options do not go together."""
    check_class_or_unit(options.target, options.layer, options.unit, options.position)
    if options.position == "max":
        raise OptionsError("position max moves while the picture grows: choose centre, sum or row,column")
    chosen = recipe(options)
    if chosen.canvas == "fourier" and (chosen.blur or options.free_range):
        raise OptionsError(f"{'blur' if chosen.blur else 'free_range'} acts on pixels: choose --canvas pixels with it")
    if not options.layer and card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes: choose a layer and a unit instead")
    if options.layer:
        layer = card.layer(options.layer)
        if layer.axes == "none":
            raise UnsupportedError(f"layer {layer.name} has no units: its output has shape {layer.shape}")
        if "," in options.position:
            row, column = (int(part) for part in options.position.split(","))
            if row >= layer.grid[0] or column >= layer.grid[1]:
                raise OptionsError(
                    f"position {options.position} is outside layer {layer.name}, whose maps have {layer.grid[0]} rows "
                    f"and {layer.grid[1]} columns"
                )


def _start(job: Job, chosen: Recipe) -> Tensor | None:
    """The first picture (1, C, H, W), None for the Fourier canvas's own noise."""
    import torch

    from engine.make.canvas import Normalise, to_picture

    if chosen.start == "photo":
        if job.photo is None:
            raise OptionsError("start is photo, and there is none: give --image PATH, or --start noise")
        return to_picture(job.frame, job.device)
    preprocessing = job.card.preprocessing
    shape = (1, preprocessing.channels, *preprocessing.size)
    mean = Normalise(preprocessing, job.device).inverse(torch.zeros(shape, device=job.device))
    if chosen.start == "zero":
        return mean
    if chosen.canvas == "fourier":
        return None
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(job.seed)).to(job.device)
    return (mean + 0.1 * noise).clamp(0, 1)


def _canvas(job: Job, chosen: Recipe) -> Canvas:
    import torch

    from engine.make.canvas import FourierCanvas, PixelCanvas

    start = _start(job, chosen)
    preprocessing = job.card.preprocessing
    if chosen.canvas == "pixels":
        assert start is not None, "only the Fourier canvas draws its own noise"
        return PixelCanvas(start)
    return FourierCanvas(
        (1, preprocessing.channels, *preprocessing.size),
        generator=torch.Generator().manual_seed(job.seed),
        start=start,
        device=job.device,
    )


def _wanted(job: Job) -> tuple[Loss, str, dict[str, Any]]:
    """The loss to raise, its name for people, and what the summary says of it."""
    from engine.make.losses import ClassScore, UnitActivation
    from engine.make.verdict import probabilities_of

    options, card = job.options, job.card
    if options.layer:
        layer, unit = card.layer(options.layer), options.unit or 0
        place: Any = {"sum": "mean", "centre": "centre"}.get(options.position)
        place = place or tuple(int(part) for part in options.position.split(","))
        about = {"layer": options.layer, "unit": unit, "position": options.position}
        return UnitActivation(layer, unit, place), f"{options.layer} unit {unit}", about
    if options.target:
        target = card.class_index(options.target)
    elif job.photo is not None:
        target = int(probabilities_of(job, job.frame).argmax())
    else:
        target = 0
    name = card.classes[target] if target < len(card.classes) else str(target)
    return ClassScore(target, probabilities=card.output == "probabilities"), name, {"target": name}


def _terms(loss: Loss, chosen: Recipe) -> list[Term]:
    from engine.make.losses import Norm, Term, TotalVariation, ascend

    terms = [ascend("activation", loss)]
    if chosen.l2:
        terms.append(Term("l2", Norm(2.0), chosen.l2))
    if chosen.total_variation:
        terms.append(Term("total variation", TotalVariation(), chosen.total_variation))
    return terms


def _transforms(chosen: Recipe) -> list[Transform]:
    from engine.make.transforms import Jitter, lucid_transforms

    jitter: list[Transform] = [Jitter(chosen.jitter)] if chosen.jitter else []
    return [*jitter, *lucid_transforms()[1:]] if chosen.transforms else jitter


def _stretched(picture: Tensor) -> Tensor:
    """A free canvas's picture brought linearly into [0, 1] for display."""
    low, high = picture.min(), picture.max()
    return (picture - low) / (high - low).clamp_min(1e-12)


def ascent(job: Job) -> Result:
    """Image `ascent`, exactly input-sized, array `loss` by step, tables `losses` by term and `classes`."""
    import functools

    import torch

    from engine.make.canvas import PixelCanvas, to_image, to_pixels, to_preview
    from engine.make.loop import adam, optimise
    from engine.make.projection import Blur, Chain, Projection, box
    from engine.make.verdict import activation_on, best_classes

    options: AscentOptions = job.options
    chosen = recipe(options)
    loss, name, about = _wanted(job)
    canvas = _canvas(job, chosen)
    projections: list[Projection] = [Blur(chosen.blur)] if chosen.blur else []
    if isinstance(canvas, PixelCanvas) and not options.free_range:
        projections.append(box)
    show = _stretched if options.free_range else torch.clone
    made = optimise(
        job,
        canvas,
        _terms(loss, chosen),
        steps=options.steps,
        optimiser=adam(chosen.learning_rate),
        transforms=_transforms(chosen),
        projection=Chain(tuple(projections)) if projections else None,
        preview=lambda picture: to_preview(show(picture)),
    )
    pixels = to_pixels(show(made.picture))[0]
    job.record(provider="torch", precision="fp32")
    if options.free_range:
        job.warn("the picture left the range of real pixels and was stretched for display: figures are of that picture")

    measure = functools.partial(activation_on, job, loss)
    summary: dict[str, Any] = {**about, "activation": measure(pixels)}
    if not summary["activation"] > float(made.losses["activation"].iloc[0]):
        job.warn(f"{name} did not grow: it ends at {summary['activation']:.3g}; another start, or more steps, may help")
    if job.photo is not None:
        summary["activation_on_photo"] = measure(job.frame)
    tables = {"losses": made.losses}
    panels = [
        Panel(
            kind="image",
            title=f"What excites {name}",
            help="Made by following the gradient up from a start that shows nothing of it; saved as 8-bit pixels.",
            image="ascent",
        ),
        Panel(
            kind="curve",
            title="How it grew",
            help="The activation is raised, the other terms are held down; each is shown before its weight.",
            table="losses",
            x="step",
            y=tuple(column for column in made.losses.columns if column not in ("step", "loss")),
        ),
    ]
    classes = best_classes(job, pixels)
    if classes is not None:
        tables["classes"] = classes
        summary["top_class"] = str(classes["class"][0])
        summary["top_probability"] = float(classes["probability"][0])
        if "target" in about:
            summary["probability"] = measure_probability(job, pixels, about["target"])
        panels.append(
            Panel(
                kind="bars",
                title="What the network says of this picture",
                help="The five best classes of the saved 8-bit picture.",
                table="classes",
                x="class",
                y=("probability",),
            )
        )
    return Result(
        arrays={"loss": made.losses["loss"].to_numpy()},
        tables=tables,
        images={"ascent": to_image(pixels)},
        summary=summary,
        panels=panels,
        preview="ascent",
    )


def measure_probability(job: Job, pixels: Any, name: str) -> float:
    """The probability of the class `name` on an 8-bit picture."""
    from engine.make.verdict import probabilities_of

    return float(probabilities_of(job, pixels)[job.card.class_index(name)])


def work(card: Card, options: AscentOptions, images: int) -> float:
    """Forward passes: a step is a forward and a backward."""
    return 3.0 * options.steps


METHOD = Method(
    name="ascent",
    title="Gradient ascent",
    verb="make",
    family="Gradient ascent",
    question="What does it want to see?",
    summary="A picture made from nothing that excites a class or a unit (Simonyan 2013, Yosinski 2015, Olah 2017).",
    options=AscentOptions,
    run=ascent,
    work=work,
    photo=False,
    uses_photo=True,
    gradients=True,
    check=check,
)
