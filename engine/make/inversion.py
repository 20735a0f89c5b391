"""Feature inversion: the photo as a layer remembers it, from shallow layers to deep ones.

Mahendran and Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them", sections 2 and 3: squared
relative distance of features (eq. 1), alpha-norm with alpha 6, total variation with beta 2. Departures: Adam in the
place of momentum, on Fourier coefficients first and then on pixels; weights are of means over pixels, not of sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.errors import OptionsError
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    from engine.make.loop import Made
    from models.card import Card, Layer


class InversionOptions(Options):
    """What an inversion can be told."""

    layers: str = option("", "Layers to invert, a comma list; empty: a series from shallow to deep", kind="layers")
    series: int = option(5, "How many layers that series has", ge=1, le=12)
    steps: int = option(120, "Steps of the optimiser for each layer", ge=1, le=10000, unit="steps")
    canvas: Literal["both", "fourier", "pixels"] = option(
        "both",
        "What is optimised: Fourier coefficients (Olah 2017; colours and shapes), pixels (Mahendran 2015; detail), or "
        "the one and then the other",
        advanced=True,
    )
    alpha_norm: float = option(
        0.0001, "Weight of the mean |value|^6 (Mahendran 2015, section 3)", ge=0, le=100, advanced=True
    )
    total_variation: float = option(
        8.0,
        "Weight of the mean squared difference of neighbours (Mahendran 2015, eq. 4)",
        ge=0,
        le=1000,
        advanced=True,
    )
    learning_rate: float | None = option(
        None, "Adam's step; empty: 0.1 for Fourier coefficients, 0.03 for pixels", gt=0, le=10, advanced=True
    )


LEARNING_RATES = {"fourier": 0.1, "pixels": 0.03}


def _halves(options: InversionOptions) -> list[tuple[str, int]]:
    """The canvases in turn, with their steps."""
    if options.canvas != "both" or options.steps < 2:
        return [("pixels" if options.canvas == "both" else options.canvas, options.steps)]
    return [("fourier", options.steps // 2), ("pixels", options.steps - options.steps // 2)]


def chosen_layers(card: Card, options: InversionOptions) -> list[Layer]:
    """The layers to invert, in forward order. Raises UnknownNameError, UnsupportedError."""
    from engine.make.layers import series

    names = [part.strip() for part in options.layers.split(",") if part.strip()]
    return [card.layer(name) for name in names] if names else series(card, options.series)


def check(card: Card, options: InversionOptions) -> None:
    """Raise in one line where a layer does not exist."""
    chosen_layers(card, options)


def _invert(job: Job, layer: Layer, number: int, of: int) -> Made:
    """One layer's inversion, from noise."""
    import pandas as pd
    import torch

    from engine.make.canvas import FourierCanvas, Normalise, PixelCanvas
    from engine.make.loop import Made, adam, optimise
    from engine.make.losses import FeatureDistance, Norm, Term, TotalVariation
    from engine.make.projection import box
    from models.torch_net import forward_taps

    options: InversionOptions = job.options
    x = torch.from_numpy(job.input).to(job.device)
    with torch.no_grad():
        wanted = forward_taps(job.network.module(job.device), x, [layer.name])[layer.name]
    terms = [Term("features", FeatureDistance(layer.name, wanted))]
    if options.alpha_norm:
        terms.append(Term("alpha norm", Norm(6.0), options.alpha_norm))
    if options.total_variation:
        terms.append(Term("total variation", TotalVariation(), options.total_variation))
    shape = (1, int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    generator = torch.Generator().manual_seed(job.seed)
    mean = Normalise(job.card.preprocessing, job.device).inverse(torch.zeros_like(x))
    picture = (mean + 0.05 * torch.randn(shape, generator=generator).to(x)).clamp(0, 1)
    halves = _halves(options)
    tables: list[pd.DataFrame] = []
    for part, (kind, steps) in enumerate(halves):
        fourier = kind == "fourier"
        canvas: Any = FourierCanvas(shape, generator=generator, device=job.device) if fourier else PixelCanvas(picture)
        done = (number - 1 + part / len(halves)) / of
        made = optimise(
            job,
            canvas,
            terms,
            steps=steps,
            optimiser=adam(options.learning_rate or LEARNING_RATES[kind]),
            projection=None if fourier else box,
            portion=(done, done + 1 / (len(halves) * of)),
            message=f"{layer.name}, step",
            cooling=True,
        )
        picture = made.picture
        tables.append(made.losses)
    losses = pd.concat(tables, ignore_index=True)
    losses["step"] = range(len(losses))
    return Made(picture, losses)


def inversion(job: Job) -> Result:
    """Image `inversion` (the photo and each layer's picture in a row), and `inversion_1` … one for each layer.

    Table `layers`: layer, feature_error (relative, not squared), ssim (to the photo), both of the 8-bit picture.
    """
    import pandas as pd
    from skimage.metrics import structural_similarity

    from engine.explain.pictures import as_colour
    from engine.make.canvas import to_image, to_picture, to_pixels
    from engine.make.losses import FeatureDistance
    from engine.make.sizes import features_of
    from engine.make.verdict import activation_on
    from engine.sheet import compose_sheet, fit_tile

    if job.photo is None:
        raise OptionsError("an inversion needs a photo: give --image PATH or --image sample:cat")
    layers = chosen_layers(job.card, job.options)
    rows: list[dict[str, Any]] = []
    pictures: list[Any] = []
    curves: list[pd.DataFrame] = []
    clean = features_of(job, to_picture(job.frame, job.device), [layer.name for layer in layers])
    for number, layer in enumerate(layers, 1):
        made = _invert(job, layer, number, len(layers))
        pixels = to_pixels(made.picture)[0]
        error = activation_on(job, FeatureDistance(layer.name, clean[layer.name]), pixels) ** 0.5
        window = min(7, min(pixels.shape[:2]) // 2 * 2 - 1)
        ssim: float = structural_similarity(  # type: ignore[no-untyped-call]
            job.frame, pixels, channel_axis=-1, data_range=255, win_size=window
        )
        rows.append({"layer": layer.name, "feature_error": error, "ssim": float(ssim), "depth": number})
        pictures.append(pixels)
        curves.append(made.losses.assign(layer=layer.name))
    tile = max(job.frame.shape[:2])
    tiles = [fit_tile(as_colour(picture), tile) for picture in [job.frame, *pictures]]
    shown = [{"layer": "photo", "shows": ""}]
    shown += [
        {"layer": row["layer"], "shows": f"error {row['feature_error']:.1%}, SSIM {row['ssim']:.2f}"} for row in rows
    ]
    losses = pd.concat(curves, ignore_index=True)
    job.record(provider="torch", precision="fp32")
    images: dict[str, Any] = {"inversion": compose_sheet(tiles, tile, len(tiles))}
    images |= {f"inversion_{number}": to_image(picture) for number, picture in enumerate(pictures, 1)}
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
        panels=[
            Panel(
                kind="gallery",
                title="The photo as each layer remembers it",
                help="Pictures made from nothing until the layer could not tell them from the photo. What a layer has "
                "thrown away, its picture lacks.",
                image="inversion",
                table="pictures",
                tile=tile,
                columns=len(tiles),
                caption=("layer", "shows"),
            ),
            Panel(
                kind="bars",
                title="How alike to the photo",
                help="SSIM of the picture and the photo; 1 is the same.",
                table="layers",
                x="layer",
                y=("ssim",),
            ),
            Panel(
                kind="bars",
                title="How alike to the layer",
                help="Relative distance of the layer's features on picture and photo; 0 is the same.",
                table="layers",
                x="layer",
                y=("feature_error",),
            ),
        ],
        preview="inversion",
    )


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
    run=inversion,
    work=work,
    gradients=True,
    check=check,
)
