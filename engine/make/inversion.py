"""Feature inversion: the photo as a layer remembers it, from shallow layers to deep ones.

Mahendran and Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them", sections 2 and 3: squared
relative distance of features (eq. 1), alpha-norm with alpha 6, total variation with beta 2. Departures: L-BFGS on
Fourier coefficients in the place of momentum on pixels (in 80 steps it comes ten times nearer); weights are of means
over values, not of sums, and milder than theirs unless told, because theirs pale the colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import needs_photo
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import CommaList, LayersKind, Options, option
from fovea.engine.panels import CurvePanel, GalleryPanel, ImagePanel, Panel, TablePanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import Canvas
    from fovea.engine.make.optimise.loop import Made
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.progress import Progress
    from fovea.models.card import Card, Layer


class InversionOptions(Options):
    """What an inversion can be told."""

    layers: CommaList = option(
        (),
        "The layers from whose features the photo is rebuilt, one picture for each.",
        kind=LayersKind(),
        empty="a series of layers from shallow to deep",
    )
    series: int = option(5, "How many layers that series has, if no layers are named.", ge=1, le=12, unit="layers")
    steps: int = option(
        80,
        "How many steps the optimiser takes for each layer. L-BFGS is close to its end after 80; with Adam take "
        "several hundred.",
        ge=1,
        le=10000,
        unit="steps",
    )
    preset: Literal["mild", "mahendran", "none"] = option(
        "mild",
        "How strongly the picture is kept natural where the layer does not say how it looks: mild keeps it sharp and "
        "its colours right; mahendran takes the weights of Mahendran and Vedaldi (2015), which smooth more and pale "
        "the colours; none leaves it to the features alone.",
    )
    canvas: Literal["fourier", "pixels"] = option(
        "fourier",
        "What the optimiser moves: Fourier coefficients, with which large shapes form as fast as fine detail (Olah "
        "2017), or the pixels themselves (Mahendran 2015).",
        advanced=True,
    )
    optimiser: Literal["lbfgs", "adam"] = option(
        "lbfgs",
        "Which optimiser is used: lbfgs comes nearest in few steps; adam is the choice where lbfgs does not settle.",
        advanced=True,
    )
    alpha_norm: float | None = option(
        None,
        "Weight of the mean of |value|^6 of the normalised picture, which keeps single pixels from becoming extreme. "
        "Mahendran and Vedaldi (2015, section 3) take 2.16e8 for a sum, which is 0.009 for the mean at 227 px.",
        ge=0,
        le=100,
        advanced=True,
        empty="the preset's weight",
    )
    total_variation: float | None = option(
        None,
        "Weight of the mean squared difference of neighbouring pixels, which smooths the picture. Mahendran and "
        "Vedaldi (2015) take 0.5, 5 and 50 for the first, middle and last third of the layers.",
        ge=0,
        le=1000,
        advanced=True,
        empty="the preset's weight",
    )
    learning_rate: float | None = option(
        None,
        "How far each step of adam goes; lbfgs finds its own steps.",
        gt=0,
        le=10,
        advanced=True,
        empty="0.1 for Fourier coefficients, 0.03 for pixels",
    )


@dataclass
class InversionFindings:
    """Each layer's picture, uint8 (H, W, C), how near it came to the photo, and its losses by step; how they grew."""

    layers: list[Layer]
    pictures: list[NDArray[np.uint8]]
    nearness: list[dict[str, float]]
    losses: list[pd.DataFrame]
    animation: Animation


def compute(job: Job[InversionOptions]) -> InversionFindings:
    """Rebuild the photo from each layer's features."""
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import to_picture, to_pixels
    from fovea.engine.make.optimise.picture_size import features_of, large_enough

    if job.photo is None:
        raise needs_photo("an inversion")
    large_enough(job.photo, "feature inversion")
    layers = chosen_layers(job.card, job.options)
    clean = features_of(job, to_picture(job.frame, job.device), [layer.name for layer in layers])
    animation = Animation(job.options.steps * len(layers))
    findings = InversionFindings(layers, [], [], [], animation)
    for number, layer in enumerate(layers):
        progress = job.progress.span(number / len(layers), (number + 1) / len(layers))
        made = invert(job, layer, progress, animation)
        pixels = to_pixels(made.picture)[0]
        findings.pictures.append(pixels)
        findings.nearness.append(_nearness(job, layer, clean[layer.name], pixels))
        findings.losses.append(made.losses.assign(layer=layer.name))
    job.record(provider="torch", precision="fp32")
    return findings


def invert(job: Job[InversionOptions], layer: Layer, progress: Progress, animation: Animation) -> Made:
    """A picture, from noise, whose features in the layer are the photo's."""
    import torch

    from fovea.engine.make.optimise.growth import Growth
    from fovea.engine.make.optimise.loop import optimise
    from fovea.engine.make.optimise.optimisers import adam, cooled, lbfgs
    from fovea.engine.make.optimise.projection import box

    options = job.options
    optimiser = lbfgs()
    if options.optimiser == "adam":
        optimiser = cooled(adam(options.learning_rate or LEARNING_RATES[options.canvas]), options.steps)
    return optimise(
        job,
        _canvas(job, torch.Generator().manual_seed(job.seed)),
        _terms(job, layer),
        steps=options.steps,
        optimiser=optimiser,
        projection=box if options.canvas == "pixels" else None,
        callback=Growth(progress, f"{layer.name}, step", animation=animation),
    )


def _terms(job: Job[InversionOptions], layer: Layer) -> list[Term]:
    """The features' distance, and the regularisers that have a weight."""
    import torch

    from fovea.engine.make.optimise.losses import FeatureDistance, Norm, Term, TotalVariation
    from fovea.models.torch_net import forward_taps

    preprocessing = job.card.preprocessing
    x = torch.from_numpy(job.input).to(job.device)
    with torch.no_grad():
        wanted = forward_taps(job.network.module(job.device), x, [layer.name])[layer.name]
    terms = [Term("features", FeatureDistance(layer.name, wanted))]
    alpha_norm, variation = regularisers(job.card, layer, job.options)
    if alpha_norm:
        terms.append(Term("alpha norm", Norm(6.0), alpha_norm))
    if variation:
        # The term is of pixel values; the weight of the network's normalised ones, which are in deviations.
        low, high = preprocessing.range
        scale = sum(((high - low) / std) ** 2 for std in preprocessing.std) / len(preprocessing.std)
        terms.append(Term("total variation", TotalVariation(), variation * scale))
    return terms


def _canvas(job: Job[InversionOptions], generator: torch.Generator) -> Canvas:
    from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas

    start = _start(job, generator)
    if job.options.canvas == "pixels":
        return PixelCanvas(start)
    shape = (1, job.card.preprocessing.channels, *job.card.preprocessing.size)
    return FourierCanvas(shape, generator=generator, device=job.device)


def _start(job: Job[InversionOptions], generator: torch.Generator) -> Tensor:
    """The network's mean colour with a little noise, (1, C, H, W) in [0, 1]."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    values = torch.zeros((1, job.card.preprocessing.channels, *job.card.preprocessing.size))
    mean = Normalise(job.card.preprocessing).inverse(values)
    return (mean + 0.05 * torch.randn(mean.shape, generator=generator)).clamp(0, 1).to(job.device)


def _nearness(job: Job[InversionOptions], layer: Layer, clean: Tensor, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """How far the 8-bit picture is from the photo, for the layer and for the eye."""
    import numpy as np
    from skimage.metrics import structural_similarity

    from fovea.engine.make.judge.verdict import activation_on
    from fovea.engine.make.optimise.losses import FeatureDistance

    window = min(7, min(pixels.shape[:2]) // 2 * 2 - 1)
    ssim: float = structural_similarity(  # type: ignore[no-untyped-call]
        job.frame, pixels, channel_axis=-1, data_range=255, win_size=window
    )
    return {
        "ssim": float(ssim),
        "feature_error": activation_on(job, FeatureDistance(layer.name, clean), pixels) ** 0.5,
        "photo_error": float(np.sqrt(np.mean((job.frame.astype(float) - pixels) ** 2))),
    }


@dataclass(frozen=True)
class Regularisers:
    """Weights of the means; of total variation for the first, middle and last third of the network's depth."""

    alpha_norm: float
    total_variation: tuple[float, float, float]


PRESETS = {
    "mild": Regularisers(1e-4, (0.02, 0.05, 0.1)),
    "mahendran": Regularisers(0.009, (0.5, 5.0, 50.0)),
    "none": Regularisers(0.0, (0.0, 0.0, 0.0)),
}
LEARNING_RATES = {"fourier": 0.1, "pixels": 0.03}


def regularisers(card: Card, layer: Layer, options: InversionOptions) -> tuple[float, float]:
    """Weight of the alpha-norm and of total variation for a layer."""
    preset = PRESETS[options.preset]
    depth = [other.name for other in card.layers].index(layer.name) / max(1, len(card.layers) - 1)
    variation = preset.total_variation[min(2, int(3 * depth))]
    return (
        preset.alpha_norm if options.alpha_norm is None else options.alpha_norm,
        variation if options.total_variation is None else options.total_variation,
    )


def chosen_layers(card: Card, options: InversionOptions) -> list[Layer]:
    """The layers to invert, in forward order. Raises UnknownNameError, UnsupportedError."""
    from fovea.engine.make.optimise.layers import listed_layers, series_from_first

    return listed_layers(card, options.layers) or series_from_first(card, options.series)


def check(card: Card, options: InversionOptions) -> None:
    """Raise in one line where a layer does not exist or its features do not fit into memory."""
    from fovea.engine.make.optimise.memory import check_memory

    check_memory(card, [layer.name for layer in chosen_layers(card, options)], *card.preprocessing.size)


def report(job: Job[InversionOptions], findings: InversionFindings) -> Result:
    """Image `inversion` (the photo and each layer's picture in a row), and `inversion_1` … one for each layer.

    Table `layers`: layer, feature_error (relative, not squared), ssim (to the photo), photo_error (root mean square,
    grey levels), all of the 8-bit picture.
    """
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.canvas import to_image
    from fovea.engine.panels.sheet import Sheet, fit_tile

    pairs = zip(findings.layers, findings.nearness, strict=True)
    rows: list[dict[str, Any]] = [{"layer": layer.name, **nearness} for layer, nearness in pairs]
    captions = [{"layer": "photo", "shows": ""}]
    captions += [
        {"layer": row["layer"], "shows": f"error {row['feature_error']:.1%}, SSIM {row['ssim']:.2f}"} for row in rows
    ]
    losses = pd.concat(findings.losses, ignore_index=True)
    tile = max(job.frame.shape[:2])
    tiles = [fit_tile(as_colour(picture), tile) for picture in [job.frame, *findings.pictures]]
    images: dict[str, Any] = {"inversion": Sheet(tile, len(tiles)).compose(tiles)}
    images |= {f"inversion_{number}": to_image(picture) for number, picture in enumerate(findings.pictures, 1)}
    images["growth.gif"] = findings.animation.gif(to_image(findings.pictures[-1]))
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, "layers": pd.DataFrame(rows), "pictures": pd.DataFrame(captions)},
        images=images,
        summary={
            "layers": ", ".join(layer.name for layer in findings.layers),
            "first_ssim": rows[0]["ssim"],
            "last_ssim": rows[-1]["ssim"],
            "last_feature_error": rows[-1]["feature_error"],
        },
        panels=_panels(tile, len(tiles)),
        preview="inversion",
    )


def _panels(tile: int, columns: int) -> list[Panel]:
    return [
        GalleryPanel(
            title="The photo as each layer remembers it",
            help="Each picture was made from nothing until the layer could not tell it from the photo. What the layer "
            "has thrown away, its picture lacks.",
            image="inversion",
            table="pictures",
            tile=tile,
            columns=columns,
            caption=("layer", "shows"),
        ),
        CurvePanel(
            title="What is kept, layer by layer",
            help="ssim says how alike the picture and the photo are; 1 is the same. feature_error is the relative "
            "distance of the layer's own features on both; 0 is the same. Where the features are near and the picture "
            "is far from the photo, the layer has forgotten the difference.",
            table="layers",
            x="layer",
            y=("ssim", "feature_error"),
        ),
        TablePanel(
            title="In numbers",
            help="photo_error is the root mean square difference from the photo, in grey levels of 255.",
            table="layers",
        ),
        ImagePanel(
            title="How they grew", help="The pictures on their way, one layer after the other.", image="growth.gif"
        ),
    ]


def work(card: Card, options: InversionOptions, images: int) -> float:
    """Forward passes: a step is a forward and a backward of the network up to its layer, half of it on average."""
    return 1.6 * options.steps * (len(options.layers) or options.series)


METHOD = Method(
    name="inversion",
    title="Feature inversion",
    verb="make",
    family="Feature inversion",
    question="What does a layer remember of a photo?",
    summary="Rebuilds the photo from the features of shallow to deep layers (Mahendran and Vedaldi 2015).",
    options=InversionOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=2,
    check=check,
    example="sample:coffee",
)
