"""Texture synthesis: a new picture with the photo's statistics, of any size.

Gatys, Ecker, Bethge 2015, "Texture Synthesis Using Convolutional Neural Networks": Gram matrices of the first
convolution and every pooling stage (section 3), average pooling, L-BFGS on pixels, from noise. Departures: each layer's
distance is relative to the photo's own, so that layers weigh alike in any network; statistics of a pyramid and sizes
from coarse to fine hold together what is larger than a layer sees; neighbouring pixels count as one more layer.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fovea.engine.errors import needs_photo
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import CommaList, LayersKind, Options, option
from fovea.engine.panels import CurvePanel, ImagePanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.match.texture_panels import Series
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import Canvas
    from fovea.engine.make.optimise.growth import Growth
    from fovea.engine.make.optimise.loop import Made
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.progress import Progress
    from fovea.models.card import Card, Layer


class TextureOptions(Options):
    """What texture synthesis can be told."""

    layers: CommaList = option(
        (),
        "The layers whose statistics (Gram matrices) are matched. Shallow layers bring grain and colour, deep ones "
        "larger shapes.",
        kind=LayersKind(),
        empty="the first layer, and each layer before the maps shrink",
    )
    patch: int | None = option(
        None,
        "The long side to which the photo is brought before it is looked at. It decides how large the pattern is in "
        "the texture.",
        ge=32,
        le=2048,
        unit="px",
        empty="1.5 times the network's input size",
    )
    height: int | None = option(
        None, "The texture's height.", ge=16, le=4096, unit="px", empty="1.5 times the network's input size"
    )
    width: int | None = option(
        None, "The texture's width.", ge=16, le=4096, unit="px", empty="1.5 times the network's input size"
    )
    steps: int = option(
        70,
        "How many steps the optimiser takes at each size. Raise it if the run warns that the statistics are not "
        "matched.",
        ge=1,
        le=10000,
        unit="steps",
    )
    tileable: bool = option(True, "Make the picture's edges meet, so that copies of it cover a plane without a seam.")
    series: bool = option(
        True,
        "Also make a series of small textures, each of which matches one layer more (Gatys 2015, figure 2). It takes "
        "about two fifths of the time.",
    )
    statistics: Literal["gatys", "centred", "wasserstein"] = option(
        "gatys",
        "How two sets of features are compared: gatys by their Gram matrices (Gatys 2015), centred by Gram matrices "
        "about the means, which show better how features vary together (Novak 2016), wasserstein by the Wasserstein "
        "distance of normal distributions.",
        advanced=True,
    )
    pooling: Literal["average", "max"] = option(
        "average",
        "What the network's max pooling does while the texture is made: average replaces it by averages, which gives "
        "smoother pictures (Gatys 2015); max leaves it as it is.",
        advanced=True,
    )
    sizes: int = option(
        3,
        "At how many sizes the texture is made, from coarse to fine, each twice the one before. More sizes hold larger "
        "structures together.",
        ge=1,
        le=6,
        unit="sizes",
        advanced=True,
    )
    scales: int = option(
        3,
        "How many scales each size is matched at: the picture, its half, its quarter, and so on. More scales hold "
        "structures together that are larger than what a layer sees (Snelgrove 2017: 5).",
        ge=1,
        le=6,
        unit="scales",
        advanced=True,
    )
    pixels: float = option(
        0.1,
        "Weight of the statistics of neighbouring pixels. Layers that skip pixels are blind to the finest detail, "
        "which these hold to the photo's; 0 leaves the layers alone, as in the paper.",
        ge=0,
        advanced=True,
    )
    fine: bool = option(
        True,
        "If the network's first layer skips pixels, let its first layers also match the picture at twice its size. "
        "This keeps a weave out of the texture, and takes more time and memory.",
        advanced=True,
    )
    optimiser: Literal["lbfgs", "adam"] = option(
        "lbfgs",
        "Which optimiser is used: lbfgs moves the pixels (Gatys 2015) and matches best in few steps; adam moves "
        "Fourier coefficients (Olah 2017).",
        advanced=True,
    )
    learning_rate: float = option(
        0.1, "How far each step of adam goes; lbfgs finds its own steps.", gt=0, le=10, advanced=True
    )
    match_colours: bool = option(
        False,
        "Give the finished texture exactly the photo's distribution of colours. It is off by default, because it costs "
        "some of the match.",
        advanced=True,
    )


ROUNDS = 2
"""At each size the picture is shifted so often: what only suits one position of a strided layer's grid goes away."""
LEAST_SIDE = 32
"""Pixels under which no size is tried on the way from coarse to fine."""
SERIES_SHARE = 0.4
"""The part of the run that the series takes, for the progress."""


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
    from fovea.engine.make.optimise.layers import statistics_layers

    check_fits(card, statistics_layers(card, options.layers), options)


@dataclass
class TextureFindings:
    """The texture and the photo at the size it was looked at, uint8 (H, W, C), and how the texture grew.

    `error` is the layers' distance of the 8-bit picture, `start_error` that of the starting noise.
    """

    layers: list[Layer]
    photo: NDArray[np.uint8]
    texture: NDArray[np.uint8]
    error: float
    start_error: float
    losses: pd.DataFrame
    animation: Animation
    series: Series | None


def compute(job: Job[TextureOptions]) -> TextureFindings:
    """From noise, a picture whose statistics are the photo's; and the series, if it is wanted."""
    import torch

    from fovea.engine.make.optimise.adapted_network import adapted_job
    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.make.optimise.layers import statistics_layers
    from fovea.engine.make.optimise.picture_size import features_of, large_enough, photo_pixels
    from fovea.engine.make.optimise.statistics import distance

    options, card = job.options, job.card
    if job.photo is None:
        raise needs_photo("a texture", "brick")
    large_enough(job.photo, "texture synthesis")
    layers = statistics_layers(card, options.layers)
    height, width = output_size(card, options)
    check_fits(card, layers, options, job.device)
    photo = photo_pixels(job, job.photo, options.patch or round(1.5 * max(card.preprocessing.size)))
    source = to_picture(photo, job.device)
    flat = adapted_job(job, pooling=options.pooling)
    features_of(flat, torch.zeros((1, source.shape[1], height, width), device=job.device), [layers[-1].name])
    share = SERIES_SHARE if options.series else 0.0
    series = make_series(flat, layers, photo, job.progress.span(0, share)) if options.series else None
    animation = Animation(options.steps * options.sizes)
    synthesis = Synthesis(adapted_job(job, pooling=options.pooling, circular=options.tileable), source, animation)
    progress = job.progress.span(share, 1)
    picture = synthesis.make(layers, height, width, sizes=options.sizes, scales=options.scales, progress=progress)
    texture = _finished(job, picture, photo)
    terms = synthesis.terms(source, layers, options.scales, min(height, width))
    matched = [term for term in terms if term.name != "pixels"]
    error = distance(synthesis.job, matched, to_picture(texture, job.device))
    start_error = distance(synthesis.job, matched, start_noise(source, height, width, job.seed))
    if error > 0.1 * start_error:
        job.warn(f"the statistics are only matched to {error / start_error:.0%} of the start: raise steps")
    job.record(provider="torch", precision="fp32")
    losses = _numbered(synthesis.losses)
    return TextureFindings(layers, photo, texture, error, start_error, losses, animation, series)


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

    def __init__(self, job: Job[TextureOptions], source: Tensor, animation: Animation | None) -> None:
        self.job = job
        self.options = job.options
        self.source = source
        self.animation = animation
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
        self, layers: list[Layer], height: int, width: int, *, sizes: int, scales: int, progress: Progress
    ) -> Tensor:
        """A texture (1, C, height, width) that matches these layers, from coarse to fine."""
        from fovea.engine.make.optimise.canvas import resized
        from fovea.engine.make.optimise.circular import stretched_around

        enlarge = stretched_around if self.options.tileable else resized
        stages = coarse_to_fine(self.source, height, width, sizes)
        areas = [rows * columns for _, rows, columns in stages]
        picture: Tensor | None = None
        for number, (source, rows, columns) in enumerate(stages):
            if picture is None:
                picture = start_noise(source, rows, columns, self.job.seed)
            else:
                picture = enlarge(picture, rows, columns)
            done = sum(areas[:number]) / sum(areas)
            part = progress.span(done, done + areas[number] / sum(areas))
            if not self.stopped:
                picture = self._settle(picture, self.terms(source, layers, scales, min(rows, columns)), number, part)
        assert picture is not None, "there is at least one size"
        return picture.clamp(0, 1)

    def _settle(self, picture: Tensor, terms: list[Term], number: int, progress: Progress) -> Tensor:
        """The picture at one size, moved until its statistics are the photo's."""
        import torch

        from fovea.engine.make.optimise.growth import Growth

        generator = torch.Generator().manual_seed(self.job.seed + number)
        rounds = min(ROUNDS, self.options.steps) if self.options.tileable and self.options.optimiser == "lbfgs" else 1
        height, width = picture.shape[-2:]
        for i in range(rounds):
            if self.stopped:
                break
            steps = self.options.steps * (i + 1) // rounds - self.options.steps * i // rounds
            down, across = (int(v) for v in torch.randint(0, min(height, width), (2,), generator=generator))
            shift, back = ((down, across), (-down, -across)) if self.options.tileable else ((0, 0), (0, 0))
            growth = Growth(
                progress.span(i / rounds, (i + 1) / rounds),
                f"{width} x {height} px, step",
                draw=functools.partial(_preview, shift=back),
                animation=self.animation,
            )
            made = self._optimise(torch.roll(picture, shift, (-2, -1)), terms, steps, growth, resumed=number + i > 0)
            self.losses.append(made.losses.assign(width=width))
            self.stopped = bool(made.stopped)
            picture = torch.roll(made.picture, back, (-2, -1))
        return picture

    def _optimise(self, picture: Tensor, terms: list[Term], steps: int, growth: Growth, resumed: bool) -> Made:
        """By L-BFGS on pixels, or by Adam on Fourier coefficients."""
        import torch

        from fovea.engine.make.optimise.canvas import FourierCanvas, PixelCanvas
        from fovea.engine.make.optimise.loop import LoopSettings, optimise
        from fovea.engine.make.optimise.optimisers import adam, cooled, lbfgs
        from fovea.engine.make.optimise.projection import box
        from fovea.engine.make.optimise.transforms import Roll

        height, width = picture.shape[-2:]
        canvas: Canvas = PixelCanvas(picture)
        if self.options.optimiser == "adam":
            shape = (1, int(picture.shape[1]), int(height), int(width))
            canvas = FourierCanvas(shape, generator=torch.Generator(), start=picture, device=self.job.device)
        fourier = isinstance(canvas, FourierCanvas)
        return optimise(
            self.job,
            canvas,
            terms,
            steps=steps,
            optimiser=cooled(adam(self.options.learning_rate), steps) if fourier else lbfgs(),
            transforms=[Roll(max(height, width))] if fourier and self.options.tileable else [],
            projection=None if fourier else box,
            callback=growth,
            settings=LoopSettings(wake=False, resumed=resumed),
        )


def _preview(picture: Tensor, shift: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture (1, C, H, W), shifted back, as uint8 (H, W, 3)."""
    import torch

    from fovea.engine.make.optimise.canvas import to_preview

    return to_preview(torch.roll(picture, shift, (-2, -1)))


def make_series(job: Job[TextureOptions], layers: list[Layer], photo: NDArray[np.uint8], progress: Progress) -> Series:
    """Textures of the photo from neighbouring pixels alone, then with one layer more each time.

    The pictures are small, so half the steps do.
    """
    import pandas as pd

    from fovea.engine.make.match.texture_panels import Series
    from fovea.engine.make.optimise.canvas import to_picture

    side = max(job.card.preprocessing.size)
    height, width = (max(LEAST_SIDE, round(side * length / max(photo.shape[:2]))) for length in photo.shape[:2])
    halved = job.options.model_copy(update={"steps": max(1, job.options.steps // 2)})
    synthesis = Synthesis(dataclasses.replace(job, options=halved), to_picture(photo, job.device), None)
    names, pictures, count = [], [], len(layers) + 1
    for depth in range(count):
        part = progress.span(depth / count, (depth + 1) / count)
        picture = synthesis.make(layers[:depth], height, width, sizes=2, scales=1, progress=part)
        pictures.append(_finished(job, picture, photo))
        names.append(f"up to {layers[depth - 1].name}" if depth else "no layer")
    return Series(names, pictures, pd.concat(synthesis.losses, ignore_index=True))


def _finished(job: Job[TextureOptions], picture: Tensor, photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The 8-bit picture (H, W, C), with the photo's colours if that is wanted."""
    from fovea.engine.make.match.colours import matched_colours
    from fovea.engine.make.optimise.canvas import to_pixels

    pixels = to_pixels(picture)[0]
    return matched_colours(pixels, photo) if job.options.match_colours else pixels


def _numbered(losses: list[pd.DataFrame]) -> pd.DataFrame:
    """The losses of all sizes as one table, with steps that go on."""
    import pandas as pd

    table = pd.concat(losses, ignore_index=True)
    table["step"] = range(len(table))
    return table


def report(job: Job[TextureOptions], findings: TextureFindings) -> Result:
    """Image `texture`, array `loss` by step, table `losses` with each layer's relative Gram distance.

    `gram_error` is the layers' distance of the saved 8-bit picture, `of_start` its part of the starting noise's.
    """
    from fovea.engine.make.match.texture_panels import add_series, expectation
    from fovea.engine.make.optimise.canvas import to_image

    options, losses, texture = job.options, findings.losses, to_image(findings.texture)
    height, width = findings.texture.shape[:2]
    result = Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses},
        images={
            "texture": texture,
            "patch": to_image(findings.photo),
            "growth.gif": findings.animation.gif(texture),
        },
        summary={
            "layers": ", ".join(layer.name for layer in findings.layers),
            "gram_error": findings.error,
            "of_start": findings.error / findings.start_error if findings.start_error else 0.0,
            "width": width,
            "height": height,
        },
        panels=[
            ImagePanel(
                title="A new picture with the photo's statistics",
                help="The same features occur together in it as in the photo, but nothing lies where it lay there. "
                + expectation(job.card, findings.layers, options.scales, options.fine),
                image="texture",
            ),
        ],
        preview="texture",
    )
    if findings.series is None:
        result.panels.append(
            ImagePanel(title="The pattern", help="The photo at the size at which it was looked at.", image="patch")
        )
    else:
        add_series(result, findings.series, findings.photo, max(job.card.preprocessing.size))
    result.panels += [
        CurvePanel(
            title="Each layer's distance",
            help="The squared distance of each layer's statistics, relative to the photo's own. It jumps where a "
            "larger size begins.",
            table="losses",
            x="step",
            y=tuple(column for column in losses.columns if column not in ("step", "loss", "width")),
            log=True,
        ),
        ImagePanel(title="How it grew", help="The texture on its way, from coarse to fine.", image="growth.gif"),
    ]
    return result


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
    summary="Makes a new picture of any size that has the photo's feature statistics (Gatys et al. 2015).",
    options=TextureOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=3,
    check=check,
    example="sample:brick",
)
