"""Saliency: the gradient of a class score or a unit with respect to the photo's pixels.

Simonyan, Vedaldi, Zisserman 2013, "Deep Inside Convolutional Networks", section 3, where the class score is the logit.
Departures: any unit may take the class's place, and the input may be sampled as SmoothGrad and integrated gradients do.
`segment` is the paper's section 3.2, weakly supervised object localisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError
from fovea.engine.maps import Map
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import (
    POSITION_HELP,
    ClassKind,
    LayerKind,
    Options,
    PositionKind,
    UnitKind,
    check_class_or_unit,
    option,
)
from fovea.engine.panels import HeatmapPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.explain.backward.sampling import Attribution, Gradient
    from fovea.engine.scores import Score
    from fovea.models.card import Card


class SaliencyOptions(Options):
    """What saliency can be told."""

    target: str = option(
        "",
        "The class whose score is explained. Left empty, it is the class that the network finds most likely.",
        kind=ClassKind(),
        empty="the network's top class",
        coerce_numbers_to_str=True,
    )
    layer: str = option(
        "",
        "Explain a unit of this layer instead of a class.",
        kind=LayerKind(),
        empty="a class is explained",
    )
    unit: int | None = option(
        None,
        "The unit of that layer. Left empty, it is the one that fires most on the photo.",
        kind=UnitKind(),
        empty="the one that fires most",
        ge=0,
    )
    position: str = option("max", POSITION_HELP, kind=PositionKind())
    sampling: Literal["plain", "smoothgrad", "smoothgrad_squared", "integrated"] = option(
        "plain",
        "Where the gradient is taken: at the photo itself (plain, Simonyan 2013), at noisy copies of it whose "
        "gradients are averaged (smoothgrad, Smilkov 2017; smoothgrad_squared averages their squares), or along the "
        "way from a baseline to the photo (integrated, Sundararajan 2017). Plain is quickest; the others show less "
        "noise.",
    )
    reduction: Literal["max_abs", "sum", "positive", "grad_times_input"] = option(
        "max_abs",
        "How the colour channels become one value for each pixel: by the largest absolute value (max_abs, Simonyan "
        "2013), the signed sum, the largest positive value, or the gradient times the input, summed "
        "(grad_times_input, Shrikumar 2016). The signed ones tell what speaks for the score from what speaks against.",
    )
    score: Literal["logit", "probability"] = option(
        "logit",
        "Which score of the class is explained. The logit is the class's own; a probability also falls when another "
        "class rises.",
        advanced=True,
    )
    samples: int = option(
        25,
        "How many noisy copies of the photo SmoothGrad averages over. More copies give a calmer map and take longer.",
        ge=1,
        le=1000,
        advanced=True,
    )
    noise: float = option(
        0.15,
        "How strong SmoothGrad's noise is: its standard deviation as a share of the input's range. The paper finds 0.1 "
        "to 0.2 best.",
        gt=0,
        le=1,
        advanced=True,
    )
    steps: int = option(
        50,
        "How many points between baseline and photo integrated gradients use. Raise it when the run warns that they "
        "miss the change of score.",
        ge=2,
        le=1000,
        unit="steps",
        advanced=True,
    )
    baseline: Literal["black", "mean", "blur"] = option(
        "black",
        "Where integrated gradients start: from a black picture, the network's mean colour, or the photo blurred. What "
        "has the baseline's colour gets no attribution.",
        advanced=True,
    )
    segment: bool = option(
        False,
        "Also cut the object out of the photo: the map tells which colours are the object's, and GrabCut finds its "
        "outline (Simonyan 2013, section 3.2).",
    )
    foreground: float = option(
        0.95,
        "Pixels above this quantile of the map show the object's colours to the cut (Simonyan 2013 takes 0.95).",
        gt=0,
        lt=1,
        advanced=True,
    )
    background: float = option(
        0.3,
        "Pixels below this quantile of the map show the background's colours to the cut (Simonyan 2013 takes 0.3).",
        gt=0,
        lt=1,
        advanced=True,
    )


def check(card: Card, options: SaliencyOptions) -> None:
    """Raise OptionsError where two options do not go together."""
    check_class_or_unit(options.target, options.layer, options.unit)
    if options.layer and options.score == "probability":
        raise OptionsError(f"a unit of {options.layer} has no probability: leave score at logit")
    if options.segment and options.foreground <= options.background:
        raise OptionsError(
            f"foreground must be above background, not {options.foreground} and {options.background}: the object's "
            f"seeds are where the map is high"
        )
    if options.sampling == "integrated" and options.reduction == "grad_times_input":
        raise OptionsError("integrated gradients are already products with the input: choose sum as reduction")


@dataclass(frozen=True)
class Findings:
    """The `score` that was explained and its `value` on the photo; its `attribution` (C, H, W), and that reduced to one
    value for each pixel, `saliency` (H, W). `mask` (H, W) is the object, where one was asked for and found."""

    score: Score
    value: float
    attribution: Attribution
    saliency: NDArray[np.float32]
    mask: NDArray[np.bool_] | None


def compute(job: Job[SaliencyOptions]) -> Findings:
    """The gradient of the score with respect to the normalised input, sampled and reduced as the options say."""
    import torch

    from fovea.engine.explain.backward.attribution import explain, gradient_of
    from fovea.engine.explain.backward.reductions import REDUCTIONS
    from fovea.engine.explain.backward.sampling import Attribution
    from fovea.engine.scores import choose_at, choose_score
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
        attribution = _sampled(job, x, gradient_of(module, score))
    saliency = REDUCTIONS[options.reduction].apply(attribution.values, x[0]).cpu().numpy()
    job.record(provider="torch", precision="fp32")
    return Findings(score, float(values[0]), attribution, saliency, _object(job, saliency) if options.segment else None)


def _sampled(job: Job[SaliencyOptions], x: Tensor, gradient: Gradient) -> Attribution:
    """The attribution of the chosen score at many inputs, as the options say."""
    from fovea.engine.explain.backward.sampling import integrated_gradients, smoothgrad
    from fovea.engine.scores import batch_for

    options, progress = job.options, job.progress.saying(job.options.sampling.replace("_", " "))
    if options.sampling == "integrated":
        return integrated_gradients(
            x, gradient, _baseline(job, x), steps=options.steps, batch=batch_for(x), progress=progress
        )
    return smoothgrad(
        x,
        gradient,
        samples=options.samples,
        noise=options.noise,
        seed=job.seed,
        squared=options.sampling == "smoothgrad_squared",
        batch=batch_for(x),
        progress=progress,
    )


def _baseline(job: Job[SaliencyOptions], x: Tensor) -> Tensor:
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


def _object(job: Job[SaliencyOptions], saliency: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """The mask (H, W) of the object that the map speaks of, None where the photo's colours do not tell it."""
    import numpy as np

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.explain.maps.segment import segment

    job.progress(0.95, "cutting the object out")
    return segment(
        np.ascontiguousarray(as_colour(job.frame)),
        np.abs(saliency),
        foreground=job.options.foreground,
        background=job.options.background,
        seed=job.seed,
    )


def report(job: Job[SaliencyOptions], findings: Findings) -> Result:
    """Array `saliency` (H, W), over the photo and alone; with `segment` the images `mask` and `cutout`."""
    from fovea.engine.explain.backward.reductions import REDUCTIONS
    from fovea.engine.explain.maps.map_tiles import map_over_photo

    options, score, saliency = job.options, findings.score, findings.saliency
    largest = float(abs(saliency).max())
    _warn(job, findings, largest)
    reduction = REDUCTIONS[options.reduction]
    units = "change of the score" + ("" if findings.attribution.times_input else " per unit of input")
    how = f"{reduction.words}; {options.sampling.replace('_', ' ')}"
    result = Result(
        arrays={"saliency": saliency},
        summary={**score.summary, "score": findings.value, "largest": largest},
        preview=map_over_photo(job.frame, saliency),
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
                help="These are the same values without the photo behind them.",
                array="saliency",
                scale=reduction.scale,
                units=units,
            ),
        ],
    )
    if findings.attribution.completeness_error is not None:
        result.summary["completeness_error"] = findings.attribution.completeness_error
    if findings.mask is not None:
        _add_object(job, result, findings.mask)
    return result


def _warn(job: Job[SaliencyOptions], findings: Findings, largest: float) -> None:
    """Tell a flat or saturated score instead of showing its rounding noise, and what else the map cannot say."""
    score, value = findings.score, findings.value
    if largest == 0:
        job.warn(
            f"the gradient is zero everywhere: {score.words} is {value:.3g} on this photo and does not change with any "
            f"pixel, as for a unit that does not fire"
        )
    elif score.saturates and value > 0.999:
        job.warn(
            f"{score.words} is {value:.5f}, which is saturated: its gradient is nearly zero; explain the logit instead"
        )
    error = findings.attribution.completeness_error
    if error is not None and error > 0.05:
        job.warn(f"integrated gradients miss the change of score by {error:.0%}: raise steps above {job.options.steps}")
    if job.options.segment and findings.mask is None:
        job.warn("no object is cut out: the photo has the same colours where the map is high and where it is low")


def _add_object(job: Job[SaliencyOptions], result: Result, mask: NDArray[np.bool_]) -> None:
    """Images `mask` and `cutout`, and the share of the frame that the object takes."""
    import numpy as np

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.explain.maps.segment import cut_out

    frame = np.ascontiguousarray(as_colour(job.frame))
    result.images |= {"mask": np.where(mask, 255, 0).astype(np.uint8), "cutout": cut_out(frame, mask)}
    result.summary["object_share"] = float(mask.mean())
    result.panels += [
        ImagePanel(
            title="The object, cut out",
            help="The map's brightest pixels tell the colours of the object, its darkest those of the background, and "
            "the cut follows these colours. Nobody told the network where the object is.",
            image="cutout",
        ),
        ImagePanel(title="Its mask", help="White is the object.", image="mask", beside=True),
    ]


def work(card: Card, options: SaliencyOptions, images: int) -> float:
    """Forward passes: three for a forward and a backward."""
    return 3.0 * {"plain": 1, "integrated": options.steps + 2}.get(options.sampling, options.samples)


def _map(name: str, title: str, sampling: str, reduction: str, **quick: Any) -> Map:
    options = {"sampling": sampling, "reduction": reduction}
    return Map(name, title, "saliency", options, order=10, quick=lambda card: dict(quick))


METHOD = Method(
    name="saliency",
    title="Saliency",
    verb="explain",
    family="Saliency maps",
    question="Which pixels does the score depend on?",
    summary="Shows how much each pixel changes a class or a unit, by its gradient (Simonyan et al. 2013).",
    options=SaliencyOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=2,
    check=check,
    maps=(
        _map("gradient", "Gradient", "plain", "max_abs"),
        _map("gradient_times_input", "Gradient × input", "plain", "grad_times_input"),
        _map("smoothgrad", "SmoothGrad", "smoothgrad", "max_abs", samples=10),
        _map("smoothgrad_squared", "SmoothGrad, squared", "smoothgrad_squared", "max_abs", samples=10),
        _map("integrated", "Integrated gradients", "integrated", "sum", steps=16),
    ),
)
