"""Grad-CAM: a layer's maps, weighted by how much each raises the class, as one coarse map of the photo.

Selvaraju et al. 2017, section 3 (and 3.1, guided Grad-CAM); Chattopadhyay et al. 2018, eq. 19, for Grad-CAM++.
Departure: any layer with maps will do, also a transformer's token grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import NetworkError, UnsupportedError
from fovea.engine.maps import Map
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, LayerKind, Options, option
from fovea.engine.panels import HeatmapPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from fovea.engine.scores import Score
    from fovea.models.card import Card, Layer


class GradcamOptions(Options):
    """What Grad-CAM can be told."""

    target: str = option(
        "",
        "The class that is explained. Left empty, it is the class that the network finds most likely.",
        kind=ClassKind(),
        empty="the network's top class",
        coerce_numbers_to_str=True,
    )
    layer: str = option(
        "",
        "The layer whose maps are weighted. Left empty, it is the last one that the class depends on, as in the paper "
        "(Selvaraju 2017); an earlier layer gives a finer map that says less of the class.",
        kind=LayerKind(has="spatial"),
        empty="the last with maps",
    )
    variant: Literal["gradcam", "gradcam++"] = option(
        "gradcam",
        "How a map's weight is taken from its gradients: as their mean (gradcam, Selvaraju 2017), or place by place "
        "(gradcam++, Chattopadhyay 2018), which shows several objects of the class more evenly.",
    )


def check(card: Card, options: GradcamOptions) -> None:
    """Raise UnsupportedError where the network has no class or no layer with maps."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes, and Grad-CAM explains a class: use saliency on a unit")
    if not card.spatial_layers():
        raise UnsupportedError(f"{card.name} has no layer whose units are maps: use saliency instead")


def class_activation_map(maps: Tensor, gradients: Tensor, plus_plus: bool = False) -> Tensor:
    """max(0, Σ weight · map): (h, w) from a layer's maps and the score's gradients there, both (C, h, w).

    Weights are the gradients' means; for Grad-CAM++ Σ alpha · max(0, gradient), with alpha = g² / (2 g² + Σ A g³).
    """
    if plus_plus:
        square, cube = gradients.square(), gradients**3
        below = 2 * square + (maps * cube).sum((1, 2), keepdim=True)
        alpha = square / below.where(below != 0, below.new_ones(()))
        weights = (alpha * gradients.clamp_min(0)).sum((1, 2))
    else:
        weights = gradients.mean((1, 2))
    return (weights[:, None, None] * maps).sum(0).clamp_min(0)


@dataclass(frozen=True)
class Tapped:
    """What one backward pass tells of a layer: its `maps` and the class's `gradients` there, both (units, h, w), the
    class's `score`, and the network's `output` (1, classes)."""

    layer: Layer
    maps: Tensor
    gradients: Tensor
    score: Score
    output: Tensor


def _tapped(card: Card, module: nn.Module, x: Tensor, target: str, layers: Sequence[Layer]) -> Tapped:
    """The last of the layers on whose maps the class depends (the last of all, if on none).

    In a transformer that reads its class off a token of its own, no gradient reaches the maps after the last attention.
    """
    import torch

    from fovea.engine.scores import class_score
    from fovea.engine.unit_maps import unit_maps
    from fovea.models.card import OUTPUT
    from fovea.models.torch_net import forward_taps

    names = [layer.name for layer in layers]
    with torch.enable_grad():
        taps = forward_taps(module, x.clone().requires_grad_(True), [*names, OUTPUT])
        score = class_score(card, taps[OUTPUT].detach(), target, "logit")
        of_layers = torch.autograd.grad(
            score.of(taps[OUTPUT]).sum(), [taps[name] for name in names], allow_unused=True, materialize_grads=True
        )
    gradients = [unit_maps(gradient, layer)[0] for layer, gradient in zip(layers, of_layers, strict=True)]
    last = max((index for index, gradient in enumerate(gradients) if bool(gradient.any())), default=len(layers) - 1)
    maps = unit_maps(taps[names[last]].detach(), layers[last])[0]
    return Tapped(layers[last], maps, gradients[last], score, taps[OUTPUT].detach())


def class_layers(card: Card) -> Sequence[Layer]:
    """The layers with maps whose last one Grad-CAM takes: those from which a gradient goes to the photo.

    Where some layers read only parameters, such as the learned query of an attention pool, what is projected inside
    that pool is none of the network's features: the last layers outside it, of the width that is pooled, come last.
    """
    spatial = card.reached_layers()
    blind = [layer.name for layer in card.layers if not layer.reached]
    if not blind or len(blind) == len(card.layers):
        return spatial
    maps = {layer.name for layer in card.spatial_layers()}
    pools = {name.partition("#")[0].rpartition(".")[0] for name in blind} - {"", *maps}

    def inside(layer: Layer) -> bool:
        return any(layer.name.startswith(f"{pool}.") for pool in pools)

    vectors = [layer.units for layer in card.layers if layer.axes == "vector" and layer.reached]
    width = next((units for units in reversed(vectors) if units != len(card.classes)), 0)
    wide = [layer for layer in spatial if layer.units == width]
    chosen = [layer for layer in wide if not inside(layer)] or wide
    return chosen or [layer for layer in spatial if not inside(layer)] or spatial


def _last_that_matters(job: Job[GradcamOptions], module: nn.Module, x: Tensor) -> Tapped:
    """The layer that the options name, or the last with maps, or the last of its width that the class depends on."""
    options, card = job.options, job.card
    if options.layer:
        return _tapped(card, module, x, options.target, [card.layer(options.layer)])
    spatial = class_layers(card)
    tapped = _tapped(card, module, x, options.target, spatial[-1:])
    if bool(tapped.gradients.any()):
        return tapped
    # Of the same width, so that a projection inside the attention is not taken for features.
    return _tapped(card, module, x, options.target, [layer for layer in spatial if layer.units == spatial[-1].units])


@dataclass(frozen=True)
class Findings:
    """The `layer` and the class's `score`, with its `logit` on the photo; the class activation map as the layer has
    it, `coarse` (h, w), and over the frame, `fine` (H, W); and guided Grad-CAM, `guided` (C, H, W).

    `reaches`: whether any gradient reaches the layer's maps; `notes`: what guided backpropagation has to say.
    """

    layer: Layer
    score: Score
    logit: float
    coarse: NDArray[np.float32]
    fine: NDArray[np.float32]
    guided: NDArray[np.float32]
    reaches: bool
    notes: tuple[str, ...]


def compute(job: Job[GradcamOptions]) -> Findings:
    """The class activation map, enlarged to the frame, and guided backpropagation where it is high."""
    import torch
    import torch.nn.functional as F

    from fovea.engine.explain.backward.attribution import explain
    from fovea.models.card import OUTPUT

    module = job.network.module(job.device)
    x = torch.from_numpy(job.input).to(job.device)
    job.progress(0.0, "forward and backward")
    tapped = _last_that_matters(job, module, x)
    score, reaches = tapped.score, bool(tapped.gradients.any())
    if not bool(torch.isfinite(tapped.gradients).all()):
        raise NetworkError(f"the gradient of {score.words} is not finite: the network overflows on this input")
    coarse = class_activation_map(tapped.maps, tapped.gradients, job.options.variant == "gradcam++")
    fine = F.interpolate(coarse[None, None], tuple(x.shape[-2:]), mode="bilinear", align_corners=False)[0, 0]

    job.progress(0.5, "guided backpropagation")
    explained = explain(module, x, OUTPUT, lambda output: score, "guided")
    guided = (explained.gradient[0] * fine).cpu().numpy()
    job.record(provider="torch", precision="fp32")
    logit = float(score.of(tapped.output)[0])
    maps = (coarse.cpu().numpy(), fine.cpu().numpy(), guided)
    return Findings(tapped.layer, score, logit, *maps, reaches, explained.notes)


def report(job: Job[GradcamOptions], findings: Findings) -> Result:
    """Array `gradcam` (H, W): the class activation map over the frame; `map` (h, w) as the layer has it."""
    from fovea.engine.explain.maps.map_tiles import map_over_photo
    from fovea.engine.explain.maps.pictures import signed_picture

    layer, score, (rows, columns) = findings.layer, findings.score, findings.coarse.shape
    if not findings.reaches:
        job.warn(f"{layer.name} has no influence on {score.words}: choose a layer before the output")
    elif not findings.coarse.any():
        job.warn(f"no place of {layer.name} speaks for {score.words}: every weighted map is negative")
    for note in findings.notes:
        job.warn(note)
    return Result(
        arrays={"gradcam": findings.fine, "map": findings.coarse, "guided_gradcam": findings.guided},
        images={"guided_gradcam": signed_picture(findings.guided)},
        preview=map_over_photo(job.frame, findings.fine),
        summary={
            **score.summary,
            "logit": findings.logit,
            "layer": layer.name,
            "rows": layer.grid[0],
            "columns": layer.grid[1],
        },
        panels=[
            OverlayPanel(
                title=f"Where {score.summary['target']} is",
                help=f"What {layer.name} contributes to the logit, enlarged from its {rows} x {columns} places to the "
                f"size of the photo.",
                image="photo",
                array="gradcam",
                units="contribution to the logit",
            ),
            ImagePanel(
                title="Guided Grad-CAM",
                help="Guided backpropagation of the class, kept where Grad-CAM is high. The edges are the photo's; "
                "only where they show comes from the class.",
                image="guided_gradcam",
            ),
            HeatmapPanel(
                title=f"The map as {layer.name} has it",
                help="Each cell is one place of the layer, before the map is enlarged.",
                array="map",
                units="contribution to the logit",
            ),
        ],
    )


def work(card: Card, options: GradcamOptions, images: int) -> float:
    """Forward passes: two forwards and two backwards."""
    return 6.0


METHOD = Method(
    name="gradcam",
    title="Grad-CAM",
    verb="explain",
    family="Saliency maps",
    question="Where in the photo is the class?",
    summary="Weights a layer's maps by their gradients and lays them over the photo (Selvaraju et al. 2017).",
    options=GradcamOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=2,
    check=check,
    maps=(
        Map("gradcam", "Grad-CAM", "gradcam", {"variant": "gradcam"}, order=30),
        Map("gradcam++", "Grad-CAM++", "gradcam", {"variant": "gradcam++"}, order=30),
        Map(
            "guided_gradcam",
            "Guided Grad-CAM",
            "guided_gradcam",
            {"variant": "gradcam"},
            order=30,
            known="it draws the photo's edges (Adebayo 2018, Nie 2018)",
        ),
    ),
)
