"""Grad-CAM: a layer's maps, weighted by how much each raises the class, as one coarse map of the photo.

Selvaraju et al. 2017, section 3 (and 3.1, guided Grad-CAM); Chattopadhyay et al. 2018, eq. 19, for Grad-CAM++.
Departure: any layer with maps will do, also a transformer's token grid, and a unit may take the class's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import UnsupportedError
from fovea.engine.explain.maps.family import trust_lead
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, LayerKind, Options, option
from fovea.engine.panels import HeatmapPanel, ImagePanel, OverlayPanel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from fovea.engine.scores import Score
    from fovea.models.card import Card, Layer


class GradcamOptions(Options):
    """What Grad-CAM can be told."""

    target: str = option(
        "", "Class that is explained; empty: the network's top class", kind=ClassKind(), coerce_numbers_to_str=True
    )
    layer: str = option(
        "", "Layer with maps; empty: the last that the class depends on (Selvaraju 2017)", kind=LayerKind(has="spatial")
    )
    variant: Literal["gradcam", "gradcam++"] = option(
        "gradcam", "Weights: mean gradient (Selvaraju 2017), or pixel-wise for several objects (Chattopadhyay 2018)"
    )


def check(card: Card, options: GradcamOptions) -> None:
    """Raise UnsupportedError where the network has no class or no layer with maps."""
    if card.output == "features" or not card.classes:
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


def _maps_and_gradients(
    card: Card, module: nn.Module, x: Tensor, target: str, layers: Sequence[Layer]
) -> tuple[Layer, Tensor, Tensor, Score, Tensor]:
    """The last of the layers on whose maps the class depends (the last, if on none), its maps and the class's gradients
    there, both (C, h, w), the class's score and the network's output.

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
        found = torch.autograd.grad(
            score.of(taps[OUTPUT]).sum(), [taps[name] for name in names], allow_unused=True, materialize_grads=True
        )
    gradients = [unit_maps(gradient, layer)[0] for layer, gradient in zip(layers, found, strict=True)]
    chosen = max((place for place, gradient in enumerate(gradients) if bool(gradient.any())), default=len(layers) - 1)
    maps = unit_maps(taps[names[chosen]].detach(), layers[chosen])[0]
    return layers[chosen], maps, gradients[chosen], score, taps[OUTPUT].detach()


def gradcam(job: Job) -> Result:
    """Array `gradcam` (H, W): the class activation map over the frame; `map` (h, w) as the layer has it."""
    import torch
    import torch.nn.functional as F

    from fovea.engine.errors import NetworkError
    from fovea.engine.explain.backward.attribution import explain
    from fovea.engine.explain.maps.map_tiles import map_over_photo
    from fovea.engine.explain.maps.pictures import signed_picture
    from fovea.models.card import OUTPUT

    options, card = job.options, job.card
    module = job.network.module(job.device)
    x = torch.from_numpy(job.input).to(job.device)
    spatial = card.spatial_layers()
    layers = [card.layer(options.layer)] if options.layer else [spatial[-1]]

    job.progress(0.0, "forward and backward")
    layer, maps, gradients, score, output = _maps_and_gradients(card, module, x, options.target, layers)
    if not options.layer and not bool(gradients.any()):
        # Of the same width, so that a projection inside the attention is not taken for features.
        layers = [layer for layer in spatial if layer.units == spatial[-1].units]
        layer, maps, gradients, score, output = _maps_and_gradients(card, module, x, options.target, layers)
    if not bool(torch.isfinite(gradients).all()):
        raise NetworkError(f"the gradient of {score.words} is not finite: the network overflows on this input")
    coarse = class_activation_map(maps, gradients, options.variant == "gradcam++")
    size = tuple(x.shape[-2:])
    fine = F.interpolate(coarse[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    if not bool(gradients.any()):
        job.warn(f"{layer.name} has no influence on {score.words}: choose a layer before the output")
    elif not bool(coarse.any()):
        job.warn(f"no place of {layer.name} speaks for {score.words}: every weighted map is negative")

    job.progress(0.5, "guided backpropagation")
    explained = explain(module, x, OUTPUT, lambda output: score, "guided")
    for note in explained.notes:
        job.warn(note)
    guided = (explained.gradient[0] * fine).cpu().numpy()
    job.record(provider="torch", precision="fp32")
    name = str(score.summary["target"])
    return Result(
        arrays={"gradcam": fine.cpu().numpy(), "map": coarse.cpu().numpy(), "guided_gradcam": guided},
        images={"guided_gradcam": signed_picture(guided)},
        preview=map_over_photo(job.frame, fine.cpu().numpy()),
        summary={
            **score.summary,
            "logit": float(score.of(output)[0]),
            "layer": layer.name,
            "rows": layer.grid[0],
            "columns": layer.grid[1],
        },
        panels=[
            OverlayPanel(
                title=f"Where {name} is",
                help=f"What {layer.name} contributes to the logit, enlarged from its "
                f"{coarse.shape[0]} x {coarse.shape[1]} places.",
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
                title=f"As {layer.name} has it",
                help="One value for each place of the layer.",
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
    summary="A layer's maps weighted by their gradients, over the photo (Selvaraju et al. 2017).",
    options=GradcamOptions,
    compute=gradcam,
    work=work,
    gradients=True,
    version=2,
    check=check,
    leads=(trust_lead("gradcam"),),
)
