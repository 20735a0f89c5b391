"""Texture synthesis: a new picture with the photo's statistics, of any size.

Gatys, Ecker, Bethge 2015, "Texture Synthesis Using Convolutional Neural Networks": Gram matrices of the first
convolution and every pooling stage (section 3), average pooling, L-BFGS on pixels, from noise. Departures: each layer's
distance is relative to the photo's own, so that layers weigh alike in any network; statistics of a pyramid and sizes
from coarse to fine hold together what is larger than a layer sees; neighbouring pixels count as one more layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayersKind, Options, option
from fovea.engine.panels import CurvePanel, GalleryPanel, ImagePanel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.losses import Term
    from fovea.models.card import Card, Layer


class TextureOptions(Options):
    """What texture synthesis can be told."""

    layers: str = option(
        "", "Layers whose Gram matrices are matched; empty: the first and each before a reduction", kind=LayersKind()
    )
    patch: int | None = option(
        None,
        "Long side to which the photo is brought: how large its pattern is; empty: 1.5 times the network's input",
        ge=32,
        le=2048,
        unit="px",
    )
    height: int | None = option(None, "Height; empty: 1.5 times the network's input", ge=16, le=4096, unit="px")
    width: int | None = option(None, "Width; empty: 1.5 times the network's input", ge=16, le=4096, unit="px")
    steps: int = option(70, "Steps of the optimiser at each size", ge=1, le=10000, unit="steps")
    tileable: bool = option(True, "Let the picture's edges meet, so that copies of it tile a plane")
    series: bool = option(True, "Show as well what ever deeper layers add (Gatys 2015, figure 2)")
    statistics: Literal["gatys", "centred", "wasserstein"] = option(
        "gatys",
        "Gram matrices (Gatys 2015), those about the means (Novak 2016), or the Wasserstein distance of normal "
        "distributions",
        advanced=True,
    )
    pooling: Literal["average", "max"] = option(
        "average", "What takes the place of max pooling: averages (Gatys 2015), or nothing", advanced=True
    )
    sizes: int = option(3, "How many sizes from coarse to fine, each twice the one before", ge=1, le=6, advanced=True)
    scales: int = option(
        3, "At how many scales of each the statistics are matched (Snelgrove 2017: 5)", ge=1, le=6, advanced=True
    )
    pixels: float = option(
        0.1, "Weight of neighbouring pixels' own statistics, to which strided layers are blind", ge=0, advanced=True
    )
    fine: bool = option(
        True,
        "Where the first layer skips pixels: let the first layers match the picture at twice its size as well, which "
        "keeps a weave out of it",
        advanced=True,
    )
    optimiser: Literal["lbfgs", "adam"] = option(
        "lbfgs", "L-BFGS on pixels (Gatys 2015), or Adam on Fourier coefficients (Olah 2017)", advanced=True
    )
    learning_rate: float = option(0.1, "Adam's step", gt=0, le=10, advanced=True)
    match_colours: bool = option(
        False,
        "At the end, give the colours the photo's covariance and histograms (costs some of the match)",
        advanced=True,
    )


ROUNDS = 2
"""At each size the picture is shifted so often: what only suits one place of a strided layer's grid goes away."""
LEAST_SIDE = 32
"""Pixels under which no size is tried on the way from coarse to fine."""


def chosen_layers(card: Card, layers: str) -> list[Layer]:
    """The layers of the option, or the default. Raises UnknownNameError, UnsupportedError."""
    from fovea.engine.make.optimise.layers import named_layers, stage_layers, texture_layers

    stage_layers(card)
    return named_layers(card, layers, texture_layers(card))


def output_size(card: Card, options: TextureOptions) -> tuple[int, int]:
    """Height and width of the texture in pixels."""
    own = card.preprocessing.size
    return options.height or round(1.5 * own[0]), options.width or round(1.5 * own[1])


def check_fits(card: Card, layers: list[Layer], options: TextureOptions, device: str = "cpu") -> None:
    """Raise OptionsError where the picture does not fit into memory."""
    from fovea.engine.make.optimise.layers import fine_layers
    from fovea.engine.make.optimise.memory import check_memory

    fine = [layer.name for layer in fine_layers(card, layers)] if options.fine else []
    height, width = output_size(card, options)
    check_memory(card, [layer.name for layer in layers], height, width, device=device, fine=fine)


def check(card: Card, options: TextureOptions) -> None:
    """Raise in one line where a layer does not exist or has no maps, or the picture does not fit into memory."""
    check_fits(card, chosen_layers(card, options.layers), options)


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


def coarse_to_fine(source: Tensor, height: int, width: int, sizes: int) -> list[tuple[Tensor, int, int]]:
    """The photo, height and width at each size, small to large, each half the one after it."""
    from fovea.engine.make.optimise.statistics import reduced

    short = min(*source.shape[-2:], height, width)
    factors = [2**i for i in range(sizes) if i == 0 or short // 2**i >= LEAST_SIDE]
    return [(reduced(source, factor), height // factor, width // factor) for factor in reversed(factors)]


def start_noise(source: Tensor, height: int, width: int, seed: int) -> Tensor:
    """Noise about the photo's mean colour, (1, C, height, width)."""
    import torch

    noise = torch.randn((1, source.shape[1], height, width), generator=torch.Generator().manual_seed(seed))
    return (source.mean((2, 3), keepdim=True) + 0.1 * noise.to(source)).clamp(0, 1)


class Synthesis:
    """Textures of one photo on one network, and the curve of all that was made so far."""

    def __init__(self, job: Job, source: Tensor, film: Film | None) -> None:
        self.job = job
        self.options: TextureOptions = job.options
        self.source = source
        self.film = film
        self.losses: list[pd.DataFrame] = []
        self.stopped = False

    def terms(self, source: Tensor, layers: list[Layer], scales: int, least: int) -> list[Term]:
        """What a picture with `least` pixels on its short side is held to: the layers' statistics, and its pixels'."""
        from fovea.engine.make.optimise.losses import Term
        from fovea.engine.make.optimise.statistics import gram_terms, pixel_statistics

        kind, circular = self.options.statistics, self.options.tileable
        terms: list[Term] = []
        if layers:
            terms += gram_terms(
                self.job,
                [source],
                layers,
                kind,
                scales=scales,
                fine=self.options.fine,
                circular=circular,
                least=least,
            )
        if self.options.pixels or not layers:
            statistics = pixel_statistics([source], circular=circular)
            terms.append(Term("pixels", statistics, self.options.pixels or 1.0))
        return terms

    def make(
        self, layers: list[Layer], height: int, width: int, *, sizes: int, scales: int, portion: tuple[float, float]
    ) -> Tensor:
        """A texture (1, C, height, width) that matches these layers, from coarse to fine."""
        from fovea.engine.make.optimise.canvas import resized
        from fovea.engine.make.optimise.circular import stretched_around

        grown = stretched_around if self.options.tileable else resized
        stages = coarse_to_fine(self.source, height, width, sizes)
        costs = [rows * columns for _, rows, columns in stages]
        picture: Tensor | None = None
        for number, (source, rows, columns) in enumerate(stages):
            start = (
                start_noise(source, rows, columns, self.job.seed) if picture is None else grown(picture, rows, columns)
            )
            done, share = sum(costs[:number]) / sum(costs), costs[number] / sum(costs)
            reach = portion[1] - portion[0]
            part = (portion[0] + reach * done, portion[0] + reach * (done + share))
            if not self.stopped:
                start = self._settle(start, self.terms(source, layers, scales, min(rows, columns)), number, part)
            picture = start
        assert picture is not None, "there is at least one size"
        return picture.clamp(0, 1)

    def _settle(self, picture: Tensor, terms: list[Term], number: int, portion: tuple[float, float]) -> Tensor:
        """The picture at one size, moved until its statistics are the photo's."""
        import torch

        from fovea.engine.make.optimise.canvas import to_preview

        generator = torch.Generator().manual_seed(self.job.seed + number)
        rounds = min(ROUNDS, self.options.steps) if self.options.tileable and self.options.optimiser == "lbfgs" else 1
        for i in range(rounds):
            if self.stopped:
                break
            steps = self.options.steps * (i + 1) // rounds - self.options.steps * i // rounds
            down, across = (int(v) for v in torch.randint(0, min(picture.shape[-2:]), (2,), generator=generator))
            shift, back = ((down, across), (-down, -across)) if self.options.tileable else ((0, 0), (0, 0))
            reach = (portion[1] - portion[0]) / rounds
            moved = self._round(
                torch.roll(picture, shift, (-2, -1)),
                terms,
                steps,
                (portion[0] + reach * i, portion[0] + reach * (i + 1)),
                lambda p, back=back: to_preview(torch.roll(p, back, (-2, -1))),
                resumed=number + i > 0,
            )
            picture = torch.roll(moved, back, (-2, -1))
        return picture

    def _round(
        self,
        picture: Tensor,
        terms: list[Term],
        steps: int,
        portion: tuple[float, float],
        preview: Any,
        resumed: bool,
    ) -> Tensor:
        import torch

        from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas
        from fovea.engine.make.optimise.loop import adam, lbfgs, optimise
        from fovea.engine.make.optimise.projection import box
        from fovea.engine.make.optimise.transforms import Roll

        fourier = self.options.optimiser == "adam"
        height, width = picture.shape[-2:]
        if fourier:
            shape = (1, int(picture.shape[1]), int(height), int(width))
            canvas: Any = FourierCanvas(shape, generator=torch.Generator(), start=picture, device=self.job.device)
        else:
            canvas = PixelCanvas(picture)
        made = optimise(
            self.job,
            canvas,
            terms,
            steps=steps,
            optimiser=adam(self.options.learning_rate) if fourier else lbfgs(),
            transforms=[Roll(max(height, width))] if fourier and self.options.tileable else [],
            projection=None if fourier else box,
            portion=portion,
            message=f"{width} x {height} px, step",
            cooling=fourier,
            preview=preview,
            film=self.film,
            wake=False,
            resumed=resumed,
        )
        self.losses.append(made.losses.assign(width=width))
        self.stopped = bool(made.stopped)
        return made.picture


def distance(job: Job, terms: list[Term], picture: Tensor) -> float:
    """The weighted sum of the terms on a picture (1, C, H, W), without gradient."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise
    from fovea.engine.make.optimise.losses import View, total
    from fovea.engine.make.optimise.sizes import features_of
    from fovea.engine.make.optimise.statistics import taps_of

    values = Normalise(job.card.preprocessing, job.device)(picture)
    with torch.no_grad():
        return float(total(terms, View(picture, values, features_of(job, picture, taps_of(terms))))[0])


def _finished(job: Job, picture: Tensor, source: NDArray[Any]) -> NDArray[Any]:
    """The 8-bit picture (H, W, C), with the photo's colours if that is wanted."""
    from fovea.engine.make.optimise.canvas import to_pixels

    pixels = to_pixels(picture)[0]
    return matched_colours(pixels, source) if job.options.match_colours else pixels


def _depths(job: Job, layers: list[Layer], source: NDArray[Any], share: float) -> tuple[Any, int, pd.DataFrame, Any]:
    """The lecture's series: the sheet of the photo and a texture of the pixels alone, of one layer more, and so on.

    Small pictures, so half the steps do. Returns the sheet, its tile's side, the captions and the curves.
    """
    import dataclasses

    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.panels.sheet import Sheet, fit_tile

    side = max(job.card.preprocessing.size)
    height, width = (max(LEAST_SIDE, round(side * n / max(source.shape[:2]))) for n in source.shape[:2])
    halved = job.options.model_copy(update={"steps": max(1, job.options.steps // 2)})
    synthesis = Synthesis(dataclasses.replace(job, options=halved), to_picture(source, job.device), None)
    tiles, shown = [source], [{"layers": "photo", "shows": ""}]
    for depth in range(len(layers) + 1):
        part = (share * depth / (len(layers) + 1), share * (depth + 1) / (len(layers) + 1))
        made = synthesis.make(layers[:depth], height, width, sizes=2, scales=1, portion=part)
        tiles.append(_finished(job, made, source))
        name = f"up to {layers[depth - 1].name}" if depth else "no layer"
        shown.append({"layers": name, "shows": "" if depth else "neighbouring pixels alone"})
    curves = pd.concat(synthesis.losses, ignore_index=True)
    return (
        Sheet(side, len(tiles)).compose(fit_tile(as_colour(tile), side) for tile in tiles),
        side,
        pd.DataFrame(shown),
        curves,
    )


def expectation(card: Card, layers: list[Layer], scales: int, fine: bool) -> str:
    """What quality these layers can give, from what the card says of their fields."""
    from fovea.engine.make.optimise.layers import ENLARGED, fine_layers

    first, deepest = layers[0].receptive_field, layers[-1].receptive_field
    lines = []
    if card.random:
        lines.append("The weights are random: colours and fine grain will be right, shapes will not.")
    if first is not None and not first.whole:
        stride = max(first.stride)
        enlarged = fine and bool(fine_layers(card, layers))
        if stride <= (ENLARGED if enlarged else 1):
            lines.append("The first layer sees every pixel: expect sharp detail (as with VGG, of which this is known).")
        else:
            lines.append(
                f"The first layer looks at every {round(stride)}th pixel: the finest detail comes from neighbouring "
                "pixels' statistics alone, and is softer than where the first convolutions keep the size (VGG)."
            )
    if deepest is not None and not deepest.whole:
        reach = max(deepest.size) * 2 ** (scales - 1)
        lines.append(f"Structures up to about {reach} pixels of the pattern hold together; larger ones are shuffled.")
    return " ".join(lines)


def texture(job: Job) -> Result:
    """Image `texture`, array `loss` by step, table `losses` with each layer's relative Gram distance.

    `gram_error` is the layers' distance of the saved 8-bit picture, `of_start` its part of the starting noise's.
    """
    import pandas as pd
    import torch

    from fovea.engine.make.optimise.canvas import to_image, to_picture
    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.forward import recipe_job
    from fovea.engine.make.optimise.sizes import features_of, large_enough, photo_pixels

    options: TextureOptions = job.options
    if job.photo is None:
        raise OptionsError("a texture needs a photo: give --image PATH or --image sample:brick")
    large_enough(job.photo, "texture synthesis")
    card = job.card
    layers = chosen_layers(card, options.layers)
    height, width = output_size(card, options)
    check_fits(card, layers, options, job.device)
    patch = photo_pixels(job, job.photo, options.patch or round(1.5 * max(card.preprocessing.size)))
    source = to_picture(patch, job.device)
    plain = recipe_job(job, pooling=options.pooling)
    features_of(plain, torch.zeros((1, source.shape[1], height, width), device=job.device), [layers[-1].name])
    share = 0.4 if options.series else 0.0
    made_series = _depths(plain, layers, patch, share) if options.series else None
    film = Film(options.steps * options.sizes)
    synthesis = Synthesis(recipe_job(job, pooling=options.pooling, circular=options.tileable), source, film)
    picture = synthesis.make(layers, height, width, sizes=options.sizes, scales=options.scales, portion=(share, 1.0))
    pixels = _finished(job, picture, patch)
    held = [
        term for term in synthesis.terms(source, layers, options.scales, min(height, width)) if term.name != "pixels"
    ]
    last = distance(synthesis.job, held, to_picture(pixels, job.device))
    first = distance(synthesis.job, held, start_noise(source, height, width, job.seed))
    if last > 0.1 * first:
        job.warn(f"the statistics are matched to {last / first:.0%} of the start only: raise steps")
    job.record(provider="torch", precision="fp32")
    losses = pd.concat(synthesis.losses, ignore_index=True)
    losses["step"] = range(len(losses))
    result = Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses},
        images={"texture": to_image(pixels), "patch": to_image(patch), "growth.gif": film.gif(to_image(pixels))},
        summary={
            "layers": ", ".join(layer.name for layer in layers),
            "gram_error": last,
            "of_start": last / first if first else 0.0,
            "width": width,
            "height": height,
        },
        panels=[
            ImagePanel(
                title="A new picture with the photo's statistics",
                help="It shares with the photo which features occur together, and nothing of where they are. "
                + expectation(card, layers, options.scales, options.fine),
                image="texture",
            ),
        ],
        preview="texture",
    )
    if made_series is not None:
        _add_series(result, *made_series)
    else:
        pattern = ImagePanel(title="The pattern", help="The photo at the size it was looked at.", image="patch")
        result.panels.append(pattern)
    result.panels += [
        CurvePanel(
            title="Each layer's distance",
            help="Squared distance of the statistics, relative to the photo's; it jumps where a larger size begins.",
            table="losses",
            x="step",
            y=tuple(column for column in losses.columns if column not in ("step", "loss", "width")),
            log=True,
        ),
        ImagePanel(title="How it grew", help="From coarse to fine.", image="growth.gif"),
    ]
    return result


def _add_series(result: Result, sheet: Any, side: int, shown: pd.DataFrame, curves: pd.DataFrame) -> None:
    result.images["depths"] = sheet
    result.tables |= {"depths": shown, "depth_losses": curves.reset_index(drop=True)}
    result.panels.append(
        GalleryPanel(
            title="Ever deeper layers",
            help="The same photo's texture from neighbouring pixels alone, then with one layer more each time: grain "
            "first, then larger and larger shapes (Gatys 2015, figure 2).",
            image="depths",
            table="depths",
            tile=side,
            columns=len(shown),
            caption=("layers", "shows"),
        )
    )


def work(card: Card, options: TextureOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the picture's size, at every scale, and
    as much again for the statistics and the enlarged picture."""
    own = card.preprocessing.size
    height, width = output_size(card, options)
    area = height * width / (own[0] * own[1])
    pyramid = sum(0.25**i for i in range(options.scales))
    series = 5 * 1.25 * 0.25 if options.series else 0.0
    return 6.0 * options.steps * (area * pyramid * sum(0.25**i for i in range(options.sizes)) + series)


METHOD = Method(
    name="texture",
    title="Texture synthesis",
    verb="make",
    family="Texture synthesis",
    question="What is the photo's texture to it?",
    summary="A new picture of any size with the photo's feature statistics (Gatys et al. 2015).",
    options=TextureOptions,
    compute=texture,
    work=work,
    gradients=True,
    version=3,
    check=check,
    example="sample:brick",
)
