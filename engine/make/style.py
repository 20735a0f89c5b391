"""Style transfer: the content of one photo in the style of another.

Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks": content by feature distance at
one layer, style by Gram matrices at several. Departures: relative distances, so that one pair of weights serves any
network; from coarse to fine sizes growing by √2, by a warm Adam with averaged iterates if that is chosen (Crowson's
style-transfer-pytorch); the style of a half-sized picture and of neighbouring pixels count as well; max pooling stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayerKind, LayersKind, Options, PhotoKind, option
from fovea.engine.panels import CurvePanel, GalleryPanel, ImagePanel, Panel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.make.optimise.warm import WarmAdam
    from fovea.models.card import Card, Layer


class StyleOptions(Options):
    """What style transfer can be told."""

    style: str = option("sample:tissue", "Photo whose style is taken", kind=PhotoKind())
    content_weight: float = option(0.6, "How much the photo's content counts", ge=0, le=2, slider=True)
    style_weight: float = option(3.0, "How much the style counts", ge=0, le=10, slider=True)
    style_size: float = option(
        1.0, "How large the style's strokes are: its photo's long side, of the picture's", ge=0.1, le=4, slider=True
    )
    colours: Literal["style", "luminance", "histogram"] = option(
        "style",
        "Whose colours: the style's; or the photo's own, by taking over the style's light alone, or by giving the "
        "style photo the content's colours first (Gatys 2017, section 5)",
    )
    second_style: str = option("", "Another photo whose style is blended in", kind=PhotoKind())
    second_share: float = option(0.5, "The second style's part of the blend", ge=0, le=1, slider=True)
    third_style: str = option("", "A third photo whose style is blended in", kind=PhotoKind(), advanced=True)
    third_share: float = option(0.33, "The third style's part of the blend", ge=0, le=1, slider=True, advanced=True)
    size: int | None = option(None, "Long side; empty: twice the network's input", ge=32, le=4096, unit="px")
    steps: int = option(
        40,
        "Steps at each size; twice as many at the first (Crowson 2021, with Adam: 500)",
        ge=1,
        le=10000,
        unit="steps",
    )
    grid: bool = option(False, "Make a grid of content weight by style weight as well")
    start: Literal["content", "noise"] = option("content", "First picture: the photo (faster), or noise (Gatys 2016)")
    smallest: int = option(
        128,
        "Long side of the first size, each next one √2 larger (Crowson 2021: 128)",
        ge=32,
        le=4096,
        unit="pixels",
        advanced=True,
    )
    content_layer: str = option(
        "", "Layer of the content; empty: one in the middle", kind=LayerKind(has="spatial"), advanced=True
    )
    style_layers: str = option(
        "", "Layers of the style; empty: the first and each before a reduction", kind=LayersKind(), advanced=True
    )
    statistics: Literal["gatys", "centred", "wasserstein"] = option(
        "gatys",
        "Gram matrices (Gatys 2016), those about the means (Novak 2016), or the Wasserstein distance of normal "
        "distributions",
        advanced=True,
    )
    scales: int = option(
        2, "At how many scales of each size the style is matched (Snelgrove 2017)", ge=1, le=6, advanced=True
    )
    fine: bool = option(
        True,
        "Where the first layer skips pixels: let the first layers match the style at twice the size as well, which "
        "keeps a weave out of the picture",
        advanced=True,
    )
    pooling: Literal["average", "max"] = option(
        "max",
        "What takes the place of max pooling: averages (Gatys 2016, for VGG), or nothing, which gives other networks "
        "clearer strokes without ringing",
        advanced=True,
    )
    pixels: float = option(
        0.3, "Weight of neighbouring pixels' own statistics, as a part of the style's", ge=0, le=100, advanced=True
    )
    total_variation: float = option(
        10.0, "Weight of the mean squared difference of neighbours (Crowson 2021: 2)", ge=0, le=1000, advanced=True
    )
    optimiser: Literal["lbfgs", "adam"] = option(
        "lbfgs",
        "L-BFGS (Gatys 2016; matches the style in a tenth of the steps), or Adam, warm from size to size, whose "
        "iterates are averaged (Crowson 2021)",
        advanced=True,
    )
    learning_rate: float = option(
        0.02, "Adam's step, of the range of pixels (Crowson 2021: 0.02)", gt=0, le=1, advanced=True
    )
    averaging: float | None = option(
        None,
        "Decay of the running mean of Adam's iterates; empty: 1 - 5 / steps, which is Crowson's 0.99 at 500 steps",
        ge=0,
        lt=1,
        advanced=True,
    )
    recompute: Literal["auto", "always", "never"] = option(
        "auto", "Save memory by computing the network twice; auto: where it would not fit otherwise", advanced=True
    )


def check(card: Card, options: StyleOptions) -> None:
    """Raise in one line where a layer does not exist or has no maps, or nothing is asked for."""
    from fovea.engine.make.texture import chosen_layers

    chosen_layers(card, options.style_layers)
    if options.colours == "luminance" and card.preprocessing.channels != 3:
        channels = card.preprocessing.channels
        raise OptionsError(f"colours luminance needs a picture of three channels, and {card.name} sees {channels}")
    if not options.content_weight and not options.style_weight:
        raise OptionsError("content_weight and style_weight are both 0: nothing would be made")
    if not options.style:
        raise OptionsError("style: name the photo whose style is taken, a path or sample:NAME")


def shares(options: StyleOptions) -> dict[str, float]:
    """Each style photo's part of the blend, together 1, the first one's what the others leave (at least a tenth)."""
    others = [(options.second_style, options.second_share), (options.third_style, options.third_share)]
    given = [(photo, share) for photo, share in others if photo and share]
    first = max(0.1, 1 - sum(share for _, share in given))
    whole = first + sum(share for _, share in given)
    found: dict[str, float] = {}
    for photo, share in ((options.style, first), *given):
        found[photo] = found.get(photo, 0.0) + share / whole
    return found


def sizes_to(last: int, smallest: int) -> list[int]:
    """Long sides, small to large, each √2 times the one before, none under `smallest` but the last."""
    sides = [last]
    while round(last / 2 ** (len(sides) / 2)) >= smallest:
        sides.append(round(last / 2 ** (len(sides) / 2)))
    return sides[::-1]


def content_layer(card: Card, options: StyleOptions) -> Layer:
    """The layer of the content."""
    from fovea.engine.make.optimise.layers import layer_at

    return card.layer(options.content_layer) if options.content_layer else layer_at(card, 0.5)


class Transfer:
    """Pictures of one content photo in one blend of styles, and the curve of all that was made so far."""

    def __init__(self, job: Job, film: Film | None = None) -> None:
        from fovea.engine.make.optimise.sizes import large_enough

        assert job.photo is not None, "asked for before"
        self.job = job
        self.options: StyleOptions = job.options
        self.content = job.photo
        self.styles = [
            (large_enough(job.read_photo(reference), "a style"), share)
            for reference, share in shares(self.options).items()
        ]
        self.film = film
        self.losses: list[pd.DataFrame] = []
        self.mover: WarmAdam | None = None
        self.stopped = False

    def _pictures(self, side: int) -> tuple[Tensor, list[Tensor]]:
        """Content and styles at one size, (1, C, H, W) in [0, 1]."""
        from fovea.engine.make.optimise.canvas import to_picture
        from fovea.engine.make.optimise.sizes import photo_pixels
        from fovea.engine.make.texture import matched_colours

        content = photo_pixels(self.job, self.content, side)
        large = max(32, round(side * self.options.style_size))
        styles = [photo_pixels(self.job, photo, large) for photo, _ in self.styles]
        if self.options.colours == "histogram":
            styles = [matched_colours(style, content) for style in styles]
        return to_picture(content, self.job.device), [to_picture(style, self.job.device) for style in styles]

    def terms(self, content: Tensor, styles: list[Tensor], content_weight: float, style_weight: float) -> list[Term]:
        """What the picture is held to."""
        from fovea.engine.make.optimise.losses import FeatureDistance, Term, TotalVariation
        from fovea.engine.make.optimise.sizes import features_of
        from fovea.engine.make.optimise.statistics import gram_terms, pixel_statistics
        from fovea.engine.make.texture import chosen_layers

        terms: list[Term] = []
        if content_weight:
            layer = content_layer(self.job.card, self.options)
            wanted = features_of(self.job, content, [layer.name])[layer.name]
            terms.append(Term(f"content {layer.name}", FeatureDistance(layer.name, wanted), content_weight))
        if style_weight:
            layers = chosen_layers(self.job.card, self.options.style_layers)
            parts = [share for _, share in self.styles]
            grams = gram_terms(
                self.job,
                styles,
                layers,
                self.options.statistics,
                shares=parts,
                scales=self.options.scales,
                fine=self.options.fine,
                least=min(content.shape[-2:]),
                weight=style_weight,
            )
            terms += [Term(f"style {term.name}", term.loss, term.weight) for term in grams]
            if self.options.pixels:
                weight = self.options.pixels * style_weight
                terms.append(Term("style pixels", pixel_statistics(styles, parts), weight))
        if self.options.total_variation:
            terms.append(Term("total variation", TotalVariation(), self.options.total_variation))
        return terms

    def _start(self, content: Tensor, styles: list[Tensor]) -> Tensor:
        import torch

        if self.options.start == "content":
            return content
        noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(self.job.seed))
        mean = torch.stack([share * style.mean((2, 3)) for style, (_, share) in zip(styles, self.styles, strict=True)])
        return (mean.sum(0)[:, :, None, None] + 0.2 * noise.to(content)).clamp(0, 1)

    def make(
        self, sides: list[int], content_weight: float, style_weight: float, portion: tuple[float, float]
    ) -> Tensor:
        """The picture (1, C, H, W) at the last of `sides`, from coarse to fine."""
        from fovea.engine.make.optimise.canvas import resized
        from fovea.engine.make.optimise.warm import WarmAdam

        self.mover = WarmAdam(self.options.learning_rate)
        steps = [self.options.steps * (2 if number == 0 and len(sides) > 1 else 1) for number in range(len(sides))]
        costs = [side**2 * count for side, count in zip(sides, steps, strict=True)]
        picture: Tensor | None = None
        for number, (side, count) in enumerate(zip(sides, steps, strict=True)):
            content, styles = self._pictures(side)
            start = self._start(content, styles) if picture is None else resized(picture, *content.shape[-2:])
            part = (sum(costs[:number]) / sum(costs), sum(costs[: number + 1]) / sum(costs))
            reach = portion[1] - portion[0]
            for shift, span, count_now in self._rounds(number, count, part):
                within = (portion[0] + reach * span[0], portion[0] + reach * span[1])
                weights = (content_weight, style_weight)
                if not self.stopped:
                    start = self._moved(start.clamp(0, 1), content, styles, weights, shift, count_now, within)
            picture = start
        assert picture is not None, "there is at least one size"
        return picture

    def _rounds(
        self, number: int, steps: int, portion: tuple[float, float]
    ) -> list[tuple[tuple[int, int], tuple[float, float], int]]:
        """The shift, portion and steps of each round at one size.

        A picture that is moved by a few pixels between rounds cannot settle on what only suits one place of a strided
        layer's grid, which would be seen as a weave. A warm Adam goes on without a break.
        """
        import torch

        if self.options.optimiser == "adam" or steps < 2:
            return [((0, 0), portion, steps)]
        generator = torch.Generator().manual_seed(self.job.seed + number)
        down, across = (int(v) for v in torch.randint(1, 8, (2,), generator=generator))
        middle, half = (portion[0] + portion[1]) / 2, steps // 2
        return [((down, across), (portion[0], middle), half), ((0, 0), (middle, portion[1]), steps - half)]

    def _moved(
        self,
        picture: Tensor,
        content: Tensor,
        styles: list[Tensor],
        weights: tuple[float, float],
        shift: tuple[int, int],
        steps: int,
        portion: tuple[float, float],
    ) -> Tensor:
        """The picture after some steps at its size, shifted meanwhile; what left the frame stays as it was."""
        from fovea.engine.make.optimise.canvas import PixelCanvas, to_preview
        from fovea.engine.make.optimise.loop import lbfgs, optimise
        from fovea.engine.make.optimise.projection import box
        from fovea.engine.make.optimise.transforms import slid
        from fovea.engine.make.optimise.warm import AveragedIterates

        height, width = content.shape[-2:]

        def shifted(whole: Tensor) -> Tensor:
            return slid(slid(whole, shift[0], -2), shift[1], -1)

        def returned(moved: Tensor) -> Tensor:
            whole = picture.clone()
            whole[..., shift[0] :, shift[1] :] = moved[..., : height - shift[0], : width - shift[1]]
            return whole

        warm, average = self.options.optimiser == "adam", AveragedIterates(self._decay(steps))
        made = optimise(
            self.job,
            PixelCanvas(shifted(picture)),
            self.terms(shifted(content), styles, *weights),
            steps=steps,
            optimiser=self.mover if warm and self.mover is not None else lbfgs(),
            projection=average if warm else box,
            portion=portion,
            message=f"{width} x {height} px, step",
            preview=lambda moved: to_preview(returned(moved)),
            film=self.film,
            wake=False,
            resumed=bool(self.losses),
        )
        self.losses.append(made.losses.assign(side=max(height, width)))
        self.stopped = bool(made.stopped)
        return returned(average.mean() if warm and not made.stopped else made.picture)

    def _decay(self, steps: int) -> float:
        """How much of the mean of the iterates is kept at each of `steps` steps."""
        if self.options.averaging is not None:
            return self.options.averaging
        return min(0.99, max(0.0, 1 - 5 / steps))

    def finished(self, picture: Tensor, content: NDArray[Any]) -> NDArray[Any]:
        """The 8-bit picture (H, W, C), with the content's colours if they are kept by light."""
        from fovea.engine.make.optimise.canvas import to_pixels

        pixels = to_pixels(picture)[0]
        return with_colours_of(pixels, content) if self.options.colours == "luminance" else pixels


def with_colours_of(pixels: NDArray[Any], photo: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, 3): the light (Y of YCbCr) of `pixels`, the colours of `photo` of that size."""
    import numpy as np
    from PIL import Image

    if pixels.shape[-1] != 3:
        return pixels
    light = Image.fromarray(pixels).convert("YCbCr").split()[0]
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))


GRID = (0.25, 1.0, 4.0)
"""What each weight is multiplied with along its side of the grid."""


def _grid(transfer: Transfer, share: float) -> tuple[Any, int, pd.DataFrame]:
    """The sheet of content weight (down) by style weight (across), its tile's side and captions."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.sizes import photo_pixels
    from fovea.engine.panels.sheet import Sheet, fit_tile

    job, options = transfer.job, transfer.options
    side = min(options.smallest, max(job.card.preprocessing.size))
    content = photo_pixels(job, transfer.content, side)
    tiles, shown = [], []
    for row, down in enumerate(GRID):
        for column, across in enumerate(GRID):
            number = row * len(GRID) + column
            part = (share * number / 9, share * (number + 1) / 9)
            weights = (options.content_weight * down, options.style_weight * across)
            tiles.append(fit_tile(as_colour(transfer.finished(transfer.make([side], *weights, part), content)), side))
            shown.append({"content": f"content {weights[0]:g}", "style": f"style {weights[1]:g}"})
    return Sheet(side, len(GRID)).compose(tiles), side, pd.DataFrame(shown)


def _runner(job: Job, height: int, width: int) -> Job:
    """The job on the network as it is run here. Raises OptionsError where the picture does not fit into memory."""
    from fovea.engine.make.optimise.forward import recipe_job
    from fovea.engine.make.optimise.layers import fine_layers
    from fovea.engine.make.optimise.memory import check_memory, fits
    from fovea.engine.make.texture import chosen_layers

    options: StyleOptions = job.options
    layers = chosen_layers(job.card, options.style_layers)
    fine = [layer.name for layer in fine_layers(job.card, layers)] if options.fine else []
    taps = [*(layer.name for layer in layers), content_layer(job.card, options).name]
    again = options.recompute == "always" or (
        options.recompute == "auto" and not fits(job.card, taps, height, width, device=job.device, fine=fine)
    )
    check_memory(job.card, taps, height, width, device=job.device, recompute=again, fine=fine)
    return recipe_job(job, pooling=options.pooling, recompute=again)


def style(job: Job) -> Result:
    """Image `style`, array `loss` by step, table `losses` by term with the size of each step."""
    import pandas as pd

    from fovea.engine.make.optimise.canvas import to_image, to_picture
    from fovea.engine.make.optimise.film import Film
    from fovea.engine.make.optimise.sizes import features_of, large_enough, photo_pixels

    options: StyleOptions = job.options
    if job.photo is None:
        raise OptionsError("style transfer needs a photo: give --image PATH or --image sample:cat")
    large_enough(job.photo, "style transfer")
    sides = sizes_to(options.size or 2 * max(job.card.preprocessing.size), options.smallest)
    content = photo_pixels(job, job.photo, sides[-1])
    runner = _runner(job, *content.shape[:2])
    features_of(runner, to_picture(photo_pixels(job, job.photo, sides[0]), job.device), [])
    share = 0.3 if options.grid else 0.0
    grid = _grid(Transfer(runner), share) if options.grid else None
    film = Film(options.steps * (len(sides) + 1))
    transfer = Transfer(runner, film)
    picture = transfer.make(sides, options.content_weight, options.style_weight, (share, 1.0))
    pixels = transfer.finished(picture, content)
    losses = pd.concat(transfer.losses, ignore_index=True)
    losses["step"] = range(len(losses))
    job.record(provider="torch", precision="fp32")
    sheet, shown = _sources(job, transfer)
    result = Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, "sources": shown},
        images={
            "style": to_image(pixels),
            "sources": sheet,
            "content_photo": to_image(content),
            **_style_photos(job, transfer.styles, sides[-1]),
            "growth.gif": film.gif(to_image(pixels)),
        },
        summary={
            "content_weight": options.content_weight,
            "style_weight": options.style_weight,
            "loss": float(losses["loss"].iloc[-1]),
            "width": int(pixels.shape[1]),
            "height": int(pixels.shape[0]),
        },
        panels=_panels(transfer, losses),
        preview="style",
    )
    if grid is not None:
        _add_grid(result, *grid)
    return result


SOURCE_TILE = 192
"""Side in pixels of the tiles of content and styles beneath the picture."""


def _sources(job: Job, transfer: Transfer) -> tuple[Any, pd.DataFrame]:
    """The sheet of the content and the styles as they were given, and its captions."""
    import pandas as pd

    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.sizes import photo_pixels
    from fovea.engine.panels.sheet import Sheet, fit_tile

    photos = [transfer.content, *(photo for photo, _ in transfer.styles)]
    tiles = [fit_tile(as_colour(photo_pixels(job, photo, SOURCE_TILE)), SOURCE_TILE) for photo in photos]
    shown = [{"photo": "content", "part": ""}]
    shown += [{"photo": "style", "part": f"{share:.0%}"} for _, share in transfer.styles]
    return Sheet(SOURCE_TILE, len(tiles)).compose(tiles), pd.DataFrame(shown)


def _style_photos(job: Job, styles: list[tuple[Image.Image, float]], side: int) -> dict[str, Any]:
    """Images `style_photo`, `style_photo_2`, … as they were given."""
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.make.optimise.sizes import photo_pixels

    return {
        f"style_photo{'' if number == 1 else f'_{number}'}": as_colour(photo_pixels(job, photo, side))
        for number, (photo, _) in enumerate(styles, 1)
    }


def _panels(transfer: Transfer, losses: pd.DataFrame) -> list[Panel]:
    panels = [
        ImagePanel(
            title="The photo in the other's style",
            help="Its features lie where the photo's lie, and occur together as in the style photo.",
            image="style",
        ),
        GalleryPanel(
            title="What it was made from",
            help="The photo, and those whose style was taken with their parts of the blend.",
            image="sources",
            table="sources",
            tile=SOURCE_TILE,
            columns=len(transfer.styles) + 1,
            caption=("photo", "part"),
        ),
    ]
    for kind, help in (
        ("content ", "Relative squared distance of the features; it grows as the style comes in."),
        ("style ", "Relative squared distances of the statistics, before their weights; a jump is a new size."),
    ):
        columns = tuple(column for column in losses.columns if column.startswith(kind))
        if columns:
            panels.append(
                CurvePanel(
                    title=f"How far from the {kind.strip()}",
                    help=help,
                    table="losses",
                    x="step",
                    y=columns,
                    log=kind == "style ",
                )
            )
    panels.append(ImagePanel(title="How it grew", help="From coarse to fine.", image="growth.gif"))
    return panels


def _add_grid(result: Result, sheet: Any, side: int, shown: pd.DataFrame) -> None:
    result.images["grid"] = sheet
    result.tables["grid"] = shown
    result.panels.insert(
        1,
        GalleryPanel(
            title="Content against style",
            help="More content down, more style to the right; at a small size.",
            image="grid",
            table="grid",
            tile=side,
            columns=len(GRID),
            caption=("content", "style"),
        ),
    )


def work(card: Card, options: StyleOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the picture's size at each scale, and
    as much again for the statistics and the enlarged picture."""
    own = max(card.preprocessing.size)
    sides = sizes_to(options.size or 2 * own, options.smallest)
    areas = sum((side / own) ** 2 * (2 if number == 0 and len(sides) > 1 else 1) for number, side in enumerate(sides))
    grid = 9 * (min(options.smallest, own) / own) ** 2 if options.grid else 0.0
    return 6.0 * options.steps * (areas + grid)


METHOD = Method(
    name="style",
    title="Style transfer",
    verb="make",
    family="Style transfer",
    question="What if it were painted like that?",
    summary="The content of one photo in the style of another (Gatys et al. 2016).",
    options=StyleOptions,
    compute=style,
    work=work,
    gradients=True,
    version=4,
    check=check,
    example="sample:temple",
)
