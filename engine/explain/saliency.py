"""Saliency: the gradient of a class score or a unit with respect to the photo's pixels.

Simonyan, Vedaldi, Zisserman 2013, "Deep Inside Convolutional Networks", section 3, where the class score is the logit.
Departures: any unit may take the class's place, and the input may be sampled as SmoothGrad and integrated gradients do.
`segment` is the paper's section 3.2, weakly supervised object localisation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import OptionsError
from fovea.engine.explain.backward.choices import POSITION_HELP, check_class_or_unit
from fovea.engine.explain.maps.family import trust_lead
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, LayerKind, Options, PositionKind, UnitKind, option
from fovea.engine.panels import HeatmapPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    from torch import Tensor

    from fovea.engine.explain.backward.sampling import Attribution, Gradient
    from fovea.engine.scores import Score
    from fovea.models.card import Card


class SaliencyOptions(Options):
    """What saliency can be told."""

    target: str = option(
        "",
        "Class whose score is explained; empty: the network's top class",
        kind=ClassKind(),
        coerce_numbers_to_str=True,
    )
    layer: str = option("", "Layer whose unit is explained instead of a class", kind=LayerKind())
    unit: int | None = option(None, "Unit of that layer; empty: the one that fires most", kind=UnitKind(), ge=0)
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    sampling: Literal["plain", "smoothgrad", "smoothgrad_squared", "integrated"] = option(
        "plain",
        "plain gradient (Simonyan 2013), mean over noisy copies (SmoothGrad 2017), or integrated from a baseline "
        "(Sundararajan 2017)",
    )
    reduction: Literal["max_abs", "sum", "positive", "grad_times_input"] = option(
        "max_abs", "From colour channels to one value a pixel: largest |·| (Simonyan 2013), signed sum, positive part"
    )
    score: Literal["logit", "probability"] = option(
        "logit", "The class score; a probability also falls when other classes rise", advanced=True
    )
    samples: int = option(25, "Noisy copies for SmoothGrad", ge=1, le=1000, advanced=True)
    noise: float = option(
        0.15, "SmoothGrad's standard deviation, as a part of the input's range", gt=0, le=1, advanced=True
    )
    steps: int = option(50, "Points on the line of integrated gradients", ge=2, le=1000, unit="steps", advanced=True)
    baseline: Literal["black", "mean", "blur"] = option(
        "black", "Where integrated gradients start: black, the network's mean colour, the blurred photo", advanced=True
    )
    segment: bool = option(
        False, "Also cut the object out: GrabCut seeded by the map's quantiles (Simonyan 2013, section 3.2)"
    )
    foreground: float = option(
        0.95, "Pixels above this quantile of the map are seeds of the object (Simonyan 2013)", gt=0, lt=1, advanced=True
    )
    background: float = option(
        0.3, "Pixels below this quantile are seeds of the background (Simonyan 2013)", gt=0, lt=1, advanced=True
    )


def check(card: Card, options: SaliencyOptions) -> None:
    """Raise OptionsError where two options do not go together."""
    check_class_or_unit(options.target, options.layer, options.unit, options.position)
    if options.layer and options.score == "probability":
        raise OptionsError(f"a unit of {options.layer} has no probability: leave score at logit")
    if options.segment and options.foreground <= options.background:
        raise OptionsError(
            f"foreground must be above background, not {options.foreground} and {options.background}: the object's "
            f"seeds are where the map is high"
        )
    if options.sampling == "integrated" and options.reduction == "grad_times_input":
        raise OptionsError("integrated gradients are already products with the input: choose sum as reduction")


def _baseline(job: Job, x: Tensor) -> Tensor:
    """The starting point of integrated gradients, (1, C, H, W) normalised."""
    import numpy as np
    import torch
    from PIL import Image, ImageFilter

    preprocessing = job.card.preprocessing
    if job.options.baseline == "mean":
        return torch.zeros_like(x)
    if job.options.baseline == "black":
        return torch.from_numpy(preprocessing.value_limits()[0]).view(1, -1, 1, 1).to(x).expand_as(x)
    radius = min(job.frame.shape[:2]) / 16
    channels = [
        np.asarray(Image.fromarray(job.frame[..., c]).filter(ImageFilter.GaussianBlur(radius)))
        for c in range(job.frame.shape[2])
    ]
    return torch.from_numpy(preprocessing.normalise(np.stack(channels, -1))[None]).to(x)


def _sample(job: Job, x: Tensor, gradient: Gradient) -> Attribution:
    """The attribution of the chosen score, sampled as the options say."""
    from fovea.engine.explain.backward.attribution import batch_for
    from fovea.engine.explain.backward.sampling import integrated_gradients, smoothgrad

    options = job.options

    def told(fraction: float) -> None:
        job.progress(fraction, options.sampling.replace("_", " "))

    if options.sampling == "integrated":
        return integrated_gradients(x, gradient, _baseline(job, x), steps=options.steps, batch=batch_for(x), told=told)
    return smoothgrad(
        x,
        gradient,
        samples=options.samples,
        noise=options.noise,
        seed=job.seed,
        squared=options.sampling == "smoothgrad_squared",
        batch=batch_for(x),
        told=told,
    )


def _warn_of_nothing(job: Job, score: Score, value: float, largest: float) -> None:
    """Tell a flat or saturated score instead of showing its rounding noise."""
    words = score.words
    if largest == 0:
        job.warn(f"the gradient is zero everywhere: {words} is {value:.3g} and flat here (a unit that does not fire)")
    elif score.saturates and value > 0.999:
        job.warn(f"{words} is {value:.5f}, saturated: its gradient is nearly zero; the logit's is not")


def saliency(job: Job) -> Result:
    """Array `saliency` (H, W): the reduced gradient of the score with respect to the normalised input."""
    import torch

    from fovea.engine.explain.backward.attribution import choose_at, explain, gradient_of
    from fovea.engine.explain.backward.reductions import REDUCTIONS
    from fovea.engine.explain.backward.sampling import Attribution
    from fovea.engine.explain.maps.map_tiles import map_over_photo
    from fovea.engine.scores import choose_score
    from fovea.models.card import OUTPUT

    options = job.options
    module = job.network.module(job.device)
    x = torch.from_numpy(job.input).to(job.device)

    def choose(output: Tensor) -> Score:
        return choose_score(job, output, options.target, options.layer, options.unit, options.position, options.score)

    job.progress(0.0, "forward and backward")
    if options.sampling == "plain":
        explained = explain(module, x, options.layer or OUTPUT, choose)
        score, values = explained.score, explained.values
        attribution = Attribution(explained.gradient[0])
    else:
        score, values = choose_at(module, x, options.layer or OUTPUT, choose)
        attribution = _sample(job, x, gradient_of(module, score))
    reduction = REDUCTIONS[options.reduction]
    reduced = reduction.apply(attribution.values, x[0])
    largest = float(reduced.abs().max())
    value = float(values[0])
    _warn_of_nothing(job, score, value, largest)
    job.record(provider="torch", precision="fp32")

    summary = {**score.summary, "score": value, "largest": largest}
    if attribution.completeness_error is not None:
        summary["completeness_error"] = attribution.completeness_error
        if attribution.completeness_error > 0.05:
            job.warn(
                f"integrated gradients miss the change of score by {attribution.completeness_error:.0%}: "
                f"raise steps above {options.steps}"
            )
    units = "change of the score" + ("" if attribution.times_input else " per unit of input")
    how = f"{reduction.words}; {options.sampling.replace('_', ' ')}"
    drawn = reduced.cpu().numpy()
    result = Result(
        arrays={"saliency": drawn},
        summary=summary,
        preview=map_over_photo(job.frame, drawn),
        panels=[
            OverlayPanel(
                title=f"What {score.words} depends on",
                help=f"Bright pixels change the score most when they change a little ({how}).",
                image="photo",
                array="saliency",
                scale=reduction.scale,
                units=units,
            ),
            HeatmapPanel(
                title="The map alone",
                help="The same values without the photo.",
                array="saliency",
                scale=reduction.scale,
                units=units,
            ),
        ],
    )
    if options.segment:
        _add_segmentation(job, result)
    return result


def _add_segmentation(job: Job, result: Result) -> None:
    """Images `mask` and `cutout`, and the share of the frame that the object takes, where there is one."""
    import numpy as np

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.explain.maps.segment import cut_out, segment

    job.progress(0.95, "cutting the object out")
    frame = np.ascontiguousarray(as_colour(job.frame))
    strength = np.abs(result.arrays["saliency"])
    quantiles = {"foreground": job.options.foreground, "background": job.options.background}
    mask = segment(frame, strength, **quantiles, seed=job.seed)
    if mask is None:
        job.warn("no object is cut out: the photo has the same colours where the map is high and where it is low")
        return
    result.images |= {"mask": np.where(mask, 255, 0).astype(np.uint8), "cutout": cut_out(frame, mask)}
    result.summary["object_share"] = float(mask.mean())
    result.panels += [
        ImagePanel(
            title="The object, cut out",
            help="Found by colours: the map's brightest pixels tell those of the object, its darkest those of the "
            "background. Nobody told the network where the object is.",
            image="cutout",
        ),
        ImagePanel(title="Its mask", help="White is the object.", image="mask", beside=True),
    ]


def work(card: Card, options: SaliencyOptions, images: int) -> float:
    """Forward passes: three for a forward and a backward."""
    return 3.0 * {"plain": 1, "integrated": options.steps + 2}.get(options.sampling, options.samples)


METHOD = Method(
    name="saliency",
    title="Saliency",
    verb="explain",
    family="Saliency maps",
    question="Which pixels does the score depend on?",
    summary="The gradient of a class or a unit with respect to each pixel (Simonyan et al. 2013).",
    options=SaliencyOptions,
    compute=saliency,
    work=work,
    gradients=True,
    version=2,
    check=check,
    leads=(trust_lead("saliency"),),
)
