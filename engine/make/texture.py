"""Texture synthesis: a new picture with the photo's statistics, of any size.

Gatys, Ecker, Bethge 2015, "Texture Synthesis Using Convolutional Neural Networks": Gram matrices of the first
convolution and every pooling stage (section 3), from noise. Departures: each layer's distance is relative to the
photo's own Gram matrix, so that layers weigh alike in any network; Gram matrices are taken about the means, and Adam
moves a Fourier canvas, unless told; the colours themselves count as one more layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.errors import OptionsError
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.make.losses import Term
    from models.card import Card, Layer


class TextureOptions(Options):
    """What texture synthesis can be told."""

    layers: str = option(
        "", "Layers whose Gram matrices are matched; empty: the first and each before a reduction", kind="layers"
    )
    height: int | None = option(None, "Height; empty: 1.5 times the network's input", ge=16, le=2048, unit="px")
    width: int | None = option(None, "Width; empty: 1.5 times the network's input", ge=16, le=2048, unit="px")
    steps: int = option(200, "Steps of the optimiser", ge=1, le=10000, unit="steps")
    statistics: Literal["centred", "gatys"] = option(
        "centred", "Gram matrices about the means (Novak 2016), or plain ones (Gatys 2015)", advanced=True
    )
    colours: float = option(
        1.0,
        "Weight of the colours' own statistics at three scales, to which convolutions are blind",
        ge=0,
        advanced=True,
    )
    optimiser: Literal["adam", "lbfgs"] = option(
        "adam", "Adam on Fourier coefficients, or L-BFGS on pixels (Gatys 2015)", advanced=True
    )
    learning_rate: float = option(0.1, "Adam's step", gt=0, le=10, advanced=True)
    tileable: bool = option(False, "Let the picture's edges meet, so that copies of it tile a plane")
    match_colours: bool = option(
        True, "At the end, give the colours the photo's covariance and histograms", advanced=True
    )


def chosen_layers(card: Card, layers: str) -> list[Layer]:
    """The layers of the option, or the default. Raises UnknownNameError, UnsupportedError."""
    from engine.make.layers import named_layers, stage_layers, texture_layers

    stage_layers(card)
    return named_layers(card, layers, texture_layers(card))


def check(card: Card, options: TextureOptions) -> None:
    """Raise in one line where a layer does not exist or has no maps."""
    chosen_layers(card, options.layers)


def gram_terms(job: Job, picture: Tensor, layers: list[Layer], statistics: str, weight: float = 1.0) -> list[Term]:
    """One relative distance for each layer, together of `weight`; `picture` (1, C, H, W) is what is matched.

    `statistics`: "gatys", plain Gram matrices, or "centred", Gram matrices about the means.
    """
    from engine.features import unit_maps
    from engine.make.losses import CentredGramDistance, GramDistance, Loss, Term, centred_gram, gram_matrix
    from engine.make.sizes import features_of

    features = features_of(job, picture, [layer.name for layer in layers])
    terms: list[Term] = []
    for layer in layers:
        maps = unit_maps(features[layer.name], layer)
        if statistics == "gatys":
            loss: Loss = GramDistance(layer, gram_matrix(maps), relative=True)
        else:
            loss = CentredGramDistance(layer, *centred_gram(maps))
        terms.append(Term(layer.name, loss, weight / len(layers)))
    return terms


def matched_histogram(pixels: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, C) with each channel's values replaced by the reference's of the same rank."""
    import numpy as np

    out = np.empty_like(pixels)
    for channel in range(pixels.shape[-1]):
        values, wanted = pixels[..., channel].ravel(), np.sort(reference[..., channel].ravel())
        ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        places = np.rint(ranks * (len(wanted) - 1) / max(1, len(values) - 1)).astype(int)
        out[..., channel] = wanted[places].reshape(pixels.shape[:-1])
    return out


def matched_colours(pixels: NDArray[Any], reference: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, C) whose colours have the reference's mean and covariance, then its histograms.

    The linear map of Gatys et al. 2017, "Controlling Perceptual Factors", appendix; a grey photo gives grey.
    """
    import numpy as np

    def root(flat: NDArray[Any], inverse: bool) -> NDArray[Any]:
        values, vectors = np.linalg.eigh(np.cov(flat.T) + 1e-3 * np.eye(flat.shape[1]))
        made: NDArray[Any] = (vectors * values ** (-0.5 if inverse else 0.5)) @ vectors.T
        return made

    channels = pixels.shape[-1]
    if channels == 1:
        return matched_histogram(pixels, reference)
    flat, wanted = pixels.reshape(-1, channels).astype(float), reference.reshape(-1, channels).astype(float)
    moved = (flat - flat.mean(0)) @ root(flat, True) @ root(wanted, False) + wanted.mean(0)
    moved = np.clip(np.rint(moved), 0, 255).astype(np.uint8).reshape(pixels.shape)
    return matched_histogram(moved, reference)


def texture(job: Job) -> Result:
    """Image `texture`, array `loss` by step, table `losses` with each layer's relative Gram distance."""
    import torch

    from engine.make.canvas import FourierCanvas, PixelCanvas, to_image, to_picture, to_pixels
    from engine.make.loop import adam, lbfgs, optimise
    from engine.make.losses import ColourStatistics, Term, colour_statistics
    from engine.make.projection import box
    from engine.make.sizes import features_of
    from engine.make.transforms import Roll

    options: TextureOptions = job.options
    if job.photo is None:
        raise OptionsError("a texture needs a photo: give --image PATH or --image sample:brick")
    card = job.card
    layers = chosen_layers(card, options.layers)
    source = to_picture(job.frame, job.device)
    own = card.preprocessing.size
    height, width = options.height or round(1.5 * own[0]), options.width or round(1.5 * own[1])
    shape = (1, card.preprocessing.channels, height, width)
    features_of(job, torch.zeros(shape, device=job.device), [layers[-1].name])
    generator = torch.Generator().manual_seed(job.seed)
    pixels_canvas = options.optimiser == "lbfgs"
    if pixels_canvas:
        noise = 0.2 * torch.randn(shape, generator=generator).to(job.device)
        canvas: Any = PixelCanvas((source.mean((2, 3), keepdim=True) + noise).clamp(0, 1))
    else:
        canvas = FourierCanvas(shape, generator=generator, deviation=0.02, device=job.device)
    terms = gram_terms(job, source, layers, options.statistics)
    if options.colours:
        terms.append(Term("colours", ColourStatistics(colour_statistics(source)), options.colours))
    made = optimise(
        job,
        canvas,
        terms,
        steps=options.steps,
        optimiser=lbfgs() if pixels_canvas else adam(options.learning_rate),
        transforms=[Roll(max(height, width))] if options.tileable else [],
        projection=box if pixels_canvas else None,
        cooling=not pixels_canvas,
    )
    pixels = to_pixels(made.picture)[0]
    if options.match_colours:
        pixels = matched_colours(pixels, job.frame)
    job.record(provider="torch", precision="fp32")
    first, last = float(made.losses["loss"].iloc[0]), float(made.losses["loss"].min())
    if last > 0.1 * first:
        job.warn(f"the statistics are matched to {last / first:.0%} of the start only: raise steps")
    return Result(
        arrays={"loss": made.losses["loss"].to_numpy()},
        tables={"losses": made.losses},
        images={"texture": to_image(pixels)},
        summary={
            "layers": ", ".join(layer.name for layer in layers),
            "gram_error": last,
            "of_start": last / first if first else 0.0,
            "width": width,
            "height": height,
        },
        panels=[
            Panel(
                kind="image",
                title="A new picture with the photo's statistics",
                help="It shares with the photo which features occur together, and nothing of where they are.",
                image="texture",
            ),
            Panel(kind="image", title="The photo", help="What the network sees of it.", image="photo"),
            Panel(
                kind="curve",
                title="Each layer's distance",
                help="Squared distance of the statistics, relative to the photo's.",
                table="losses",
                x="step",
                y=tuple(term.name for term in terms),
                log=True,
            ),
        ],
        preview="texture",
    )


def work(card: Card, options: TextureOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the picture's size."""
    own = card.preprocessing.size
    area = (options.height or 1.5 * own[0]) * (options.width or 1.5 * own[1]) / (own[0] * own[1])
    return 3.0 * options.steps * area


METHOD = Method(
    name="texture",
    title="Texture synthesis",
    verb="make",
    family="Texture synthesis",
    question="What is the photo's texture to it?",
    summary="A new picture of any size with the photo's feature statistics (Gatys et al. 2015).",
    options=TextureOptions,
    run=texture,
    work=work,
    gradients=True,
    check=check,
)
