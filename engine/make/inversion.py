"""Feature inversion: the photo as a layer remembers it, from shallow layers to deep ones.

Mahendran and Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them", sections 2 and 3: squared
relative distance of features (eq. 1), alpha-norm with alpha 6, total variation with beta 2. Departures: L-BFGS on
Fourier coefficients in the place of momentum on pixels (in 80 steps it comes ten times nearer); weights are of means
over values, not of sums, and milder than theirs unless told, because theirs pale the colours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayersKind, Options, option
from fovea.engine.panels import CurvePanel, GalleryPanel, ImagePanel, Panel, TablePanel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.loop import Made
    from fovea.models.card import Card, Layer


class InversionOptions(Options):
    """What an inversion can be told."""

    layers: str = option("", "Layers to invert, a comma list; empty: a series from shallow to deep", kind=LayersKind())
    series: int = option(5, "How many layers that series has", ge=1, le=12)
    steps: int = option(80, "Steps of the optimiser for each layer", ge=1, le=10000, unit="steps")
    preset: Literal["mild", "mahendran", "none"] = option(
        "mild",
        "How natural the picture is made: mild (sharp, right colours), Mahendran 2015 (their weights), or not at all",
    )
    canvas: Literal["fourier", "pixels"] = option(
        "fourier", "What is optimised: Fourier coefficients (Olah 2017), or pixels (Mahendran 2015)", advanced=True
    )
    optimiser: Literal["lbfgs", "adam"] = option("lbfgs", "L-BFGS, or Adam", advanced=True)
    alpha_norm: float | None = option(
        None,
        "Weight of the mean |value|^6 of the normalised picture; empty: the preset's (Mahendran 2015, section 3: "
        "2.16e8 of a sum, which is 0.009 of the mean at 227 px)",
        ge=0,
        le=100,
        advanced=True,
    )
    total_variation: float | None = option(
        None,
        "Weight of the mean squared difference of neighbours, normalised; empty: the preset's (Mahendran 2015: 0.5, "
        "5, 50 for the first, middle and last third of the layers)",
        ge=0,
        le=1000,
        advanced=True,
    )
    learning_rate: float | None = option(
        None, "Adam's step; empty: 0.1 for Fourier coefficients, 0.03 for pixels", gt=0, le=10, advanced=True
    )


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


def _start(job: Job, generator: Any) -> Any:
    """The network's mean colour with a little noise, (1, C, H, W) in [0, 1]."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    values = torch.zeros((1, job.card.preprocessing.channels, *job.card.preprocessing.size))
    mean = Normalise(job.card.preprocessing).inverse(values)
    return (mean + 0.05 * torch.randn(mean.shape, generator=generator)).clamp(0, 1).to(job.device)


def _invert(job: Job, layer: Layer, portion: tuple[float, float], film: Film | None) -> Made:
    """One layer's inversion, from noise."""
    import torch

    from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas
    from fovea.engine.make.optimise.loop import adam, lbfgs, optimise
    from fovea.engine.make.optimise.losses import FeatureDistance, Norm, Term, TotalVariation
    from fovea.engine.make.optimise.projection import box
    from fovea.models.torch_net import forward_taps

    options: InversionOptions = job.options
    preprocessing = job.card.preprocessing
    x = torch.from_numpy(job.input).to(job.device)
    with torch.no_grad():
        wanted = forward_taps(job.network.module(job.device), x, [layer.name])[layer.name]
    terms = [Term("features", FeatureDistance(layer.name, wanted))]
    alpha_norm, variation = regularisers(job.card, layer, options)
    if alpha_norm:
        terms.append(Term("alpha norm", Norm(6.0), alpha_norm))
    if variation:
        # The term is of pixel values; the weight of the network's normalised ones, which are in deviations.
        low, high = preprocessing.range
        scale = sum(((high - low) / std) ** 2 for std in preprocessing.std) / len(preprocessing.std)
        terms.append(Term("total variation", TotalVariation(), variation * scale))
    generator = torch.Generator().manual_seed(job.seed)
    start, fourier = _start(job, generator), options.canvas == "fourier"
    shape = (1, preprocessing.channels, *preprocessing.size)
    canvas: Any = FourierCanvas(shape, generator=generator, device=job.device) if fourier else PixelCanvas(start)
    moves_by_adam = options.optimiser == "adam"
    return optimise(
        job,
        canvas,
        terms,
        steps=options.steps,
        optimiser=adam(options.learning_rate or LEARNING_RATES[options.canvas]) if moves_by_adam else lbfgs(),
        projection=None if fourier else box,
        portion=portion,
        message=f"{layer.name}, step",
        cooling=moves_by_adam,
        film=film,
    )


def _compared(job: Job, layer: Layer, clean: Any, pixels: NDArray[Any]) -> dict[str, float]:
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


def inversion(job: Job) -> Result:
    """Image `inversion` (the photo and each layer's picture in a row), and `inversion_1` … one for each layer.

    Table `layers`: layer, feature_error (relative, not squared), ssim (to the photo), photo_error (root mean square,
    grey levels), all of the 8-bit picture.
    """
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.canvas import to_image, to_picture, to_pixels
    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.sizes import features_of, large_enough
    from fovea.engine.panels.sheet import Sheet, fit_tile

    if job.photo is None:
        raise OptionsError("an inversion needs a photo: give --image PATH or --image sample:cat")
    large_enough(job.photo, "feature inversion")
    layers = chosen_layers(job.card, job.options)
    clean = features_of(job, to_picture(job.frame, job.device), [layer.name for layer in layers])
    rows: list[dict[str, Any]] = []
    pictures: list[Any] = []
    curves: list[pd.DataFrame] = []
    film = Film(job.options.steps * len(layers))
    for number, layer in enumerate(layers):
        made = _invert(job, layer, (number / len(layers), (number + 1) / len(layers)), film)
        pixels = to_pixels(made.picture)[0]
        rows.append({"layer": layer.name, **_compared(job, layer, clean[layer.name], pixels)})
        pictures.append(pixels)
        curves.append(made.losses.assign(layer=layer.name))
    tile = max(job.frame.shape[:2])
    shown = [{"layer": "photo", "shows": ""}]
    shown += [
        {"layer": row["layer"], "shows": f"error {row['feature_error']:.1%}, SSIM {row['ssim']:.2f}"} for row in rows
    ]
    losses = pd.concat(curves, ignore_index=True)
    job.record(provider="torch", precision="fp32")
    tiles = [fit_tile(as_colour(picture), tile) for picture in [job.frame, *pictures]]
    images: dict[str, Any] = {"inversion": Sheet(tile, len(tiles)).compose(tiles)}
    images |= {f"inversion_{number}": to_image(picture) for number, picture in enumerate(pictures, 1)}
    images["growth.gif"] = film.gif(to_image(pictures[-1]))
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, "layers": pd.DataFrame(rows), "pictures": pd.DataFrame(shown)},
        images=images,
        summary={
            "layers": ", ".join(layer.name for layer in layers),
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
            help="Pictures made from nothing until the layer could not tell them from the photo. What a layer has "
            "thrown away, its picture lacks.",
            image="inversion",
            table="pictures",
            tile=tile,
            columns=columns,
            caption=("layer", "shows"),
        ),
        CurvePanel(
            title="What is kept, layer by layer",
            help="ssim: how alike picture and photo are, 1 is the same. feature error: relative distance of the "
            "layer's own features on both, 0 is the same. A layer can be near to its features, and its picture far "
            "from the photo: that part it has forgotten.",
            table="layers",
            x="layer",
            y=("ssim", "feature_error"),
        ),
        TablePanel(
            title="In numbers",
            help="photo error: root mean square difference from the photo, in grey levels of 255.",
            table="layers",
        ),
        ImagePanel(title="How they grew", help="One layer after the other.", image="growth.gif"),
    ]


def work(card: Card, options: InversionOptions, images: int) -> float:
    """Forward passes: a step is a forward and a backward of the network up to its layer, half of it on average."""
    names = [part for part in options.layers.split(",") if part.strip()]
    return 1.6 * options.steps * (len(names) or options.series)


METHOD = Method(
    name="inversion",
    title="Feature inversion",
    verb="make",
    family="Feature inversion",
    question="What does a layer remember of a photo?",
    summary="The photo rebuilt from the features of shallow to deep layers (Mahendran and Vedaldi 2015).",
    options=InversionOptions,
    compute=inversion,
    work=work,
    gradients=True,
    version=2,
    check=check,
    example="sample:coffee",
)
