"""Style transfer: the content of one photo in the style of another.

Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks": content by feature distance at
one layer, style by Gram matrices at several. Departures: relative distances, so that one pair of weights serves any
network; coarse to fine sizes growing by √2, each starting from the last (Crowson's style-transfer-pytorch).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from engine.errors import OptionsError
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.make.losses import Term
    from models.card import Card


class StyleOptions(Options):
    """What style transfer can be told."""

    style: str = option("sample:hubble", "Photo whose style is taken", kind="photo")
    content_weight: float = option(1.0, "How much the photo's content counts", ge=0, le=1000)
    style_weight: float = option(3.0, "How much the style counts", ge=0, le=1000)
    size: int | None = option(None, "Long side; empty: 1.5 times the network's input", ge=32, le=2048, unit="px")
    steps: int = option(100, "Steps at the last size, and at each before it", ge=1, le=10000, unit="steps")
    sizes: int = option(2, "How many sizes, each √2 larger than the one before", ge=1, le=8)
    start: Literal["content", "noise"] = option("content", "First picture: the photo (faster), or noise (Gatys 2016)")
    colours: Literal["style", "content"] = option(
        "style", "Whose colours: the style's, or the photo's own with the style's light (Gatys 2016, luminance)"
    )
    content_layer: str = option(
        "", "Layer of the content; empty: one in the middle", kind="layer", needs="spatial", advanced=True
    )
    style_layers: str = option(
        "", "Layers of the style; empty: the first and each before a reduction", kind="layers", advanced=True
    )
    statistics: Literal["centred", "gatys"] = option(
        "centred", "Gram matrices about the means (Novak 2016), or plain ones (Gatys 2016)", advanced=True
    )
    total_variation: float = option(
        10.0, "Weight of the mean squared difference of neighbours", ge=0, le=1000, advanced=True
    )
    learning_rate: float = option(0.02, "Adam's step, of the range of pixels", gt=0, le=1, advanced=True)


def check(card: Card, options: StyleOptions) -> None:
    """Raise in one line where a layer does not exist or has no maps, or nothing is asked for."""
    from engine.make.texture import chosen_layers

    chosen_layers(card, options.style_layers)
    if not options.content_weight and not options.style_weight:
        raise OptionsError("content_weight and style_weight are both 0: nothing would be made")
    if not options.style:
        raise OptionsError("style: name the photo whose style is taken, a path or sample:NAME")


def _terms(job: Job, content: Tensor, style: Tensor) -> list[Term]:
    from engine.make.layers import layer_at
    from engine.make.losses import FeatureDistance, Term, TotalVariation
    from engine.make.sizes import features_of
    from engine.make.texture import chosen_layers, gram_terms

    options: StyleOptions = job.options
    layer = job.card.layer(options.content_layer) if options.content_layer else layer_at(job.card, 0.5)
    wanted = features_of(job, content, [layer.name])[layer.name]
    terms: list[Term] = []
    if options.content_weight:
        terms.append(Term(f"content {layer.name}", FeatureDistance(layer.name, wanted), options.content_weight))
    if options.style_weight:
        layers = chosen_layers(job.card, options.style_layers)
        for term in gram_terms(job, style, layers, options.statistics, options.style_weight):
            terms.append(Term(f"style {term.name}", term.loss, term.weight))
    if options.total_variation:
        terms.append(Term("total variation", TotalVariation(), options.total_variation))
    return terms


def with_colours_of(pixels: NDArray[Any], photo: NDArray[Any]) -> NDArray[Any]:
    """uint8 (H, W, 3): the light (Y of YCbCr) of `pixels`, the colours of `photo` of that size."""
    import numpy as np
    from PIL import Image

    if pixels.shape[-1] != 3:
        return pixels
    light = Image.fromarray(pixels).convert("YCbCr").split()[0]
    _, blue, red = Image.fromarray(photo).convert("YCbCr").split()
    return np.asarray(Image.merge("YCbCr", (light, blue, red)).convert("RGB"))


def style(job: Job) -> Result:
    """Image `style`, array `loss` by step, table `losses` by term with the size of each step."""
    import pandas as pd
    import torch

    from engine.explain.pictures import as_colour
    from engine.make.canvas import PixelCanvas, resized, to_image, to_picture, to_pixels, to_preview
    from engine.make.loop import adam, optimise
    from engine.make.projection import box
    from engine.make.sizes import features_of, photo_pixels

    options: StyleOptions = job.options
    if job.photo is None:
        raise OptionsError("style transfer needs a photo: give --image PATH or --image sample:cat")
    other = job.read_photo(options.style)
    last = options.size or round(1.5 * max(job.card.preprocessing.size))
    sides = [round(last / 2 ** (i / 2)) for i in range(options.sizes)]
    sides = [side for i, side in enumerate(sides) if i == 0 or side >= 32][::-1]
    costs = [side**2 for side in sides]
    picture: Tensor | None = None
    tables: list[pd.DataFrame] = []
    finest = photo_pixels(job, job.photo, sides[-1])
    for number, side in enumerate(sides):
        content = to_picture(photo_pixels(job, job.photo, side), job.device)
        pattern = to_picture(photo_pixels(job, other, side), job.device)
        height, width = content.shape[-2:]
        if picture is not None:
            start = resized(picture, height, width).clamp(0, 1)
        elif options.start == "content":
            start = content
        else:
            noise = torch.randn(content.shape, generator=torch.Generator().manual_seed(job.seed))
            start = (pattern.mean((2, 3), keepdim=True) + 0.2 * noise.to(content)).clamp(0, 1)
        features_of(job, start, [])
        made = optimise(
            job,
            PixelCanvas(start),
            _terms(job, content, pattern),
            steps=options.steps,
            optimiser=adam(options.learning_rate),
            projection=box,
            seed=job.seed + number,
            portion=(sum(costs[:number]) / sum(costs), sum(costs[: number + 1]) / sum(costs)),
            message=f"{width} x {height} px, step",
            cooling=True,
            preview=lambda p: to_preview(resized(p, *finest.shape[:2])),
        )
        picture = made.picture
        tables.append(made.losses.assign(side=side))
        if made.stopped:
            break
    assert picture is not None, "there is at least one size"
    losses = pd.concat(tables, ignore_index=True)
    losses["step"] = range(len(losses))
    pixels = to_pixels(resized(picture, *finest.shape[:2]))[0]
    if options.colours == "content":
        pixels = with_colours_of(pixels, finest)
    job.record(provider="torch", precision="fp32")
    terms = [column for column in losses.columns if column.startswith(("content ", "style "))]
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses},
        images={
            "style": to_image(pixels),
            "content_photo": to_image(finest),
            "style_photo": as_colour(photo_pixels(job, other, sides[-1])),
        },
        summary={
            "content_weight": options.content_weight,
            "style_weight": options.style_weight,
            "loss": float(losses["loss"].iloc[-1]),
            "width": int(pixels.shape[1]),
            "height": int(pixels.shape[0]),
        },
        panels=[
            Panel(
                kind="image",
                title="The photo in the other's style",
                help="Its features lie where the photo's lie, and occur together as in the style photo.",
                image="style",
            ),
            Panel(kind="image", title="Content", help="The photo.", image="content_photo"),
            Panel(kind="image", title="Style", help="The photo whose style was taken.", image="style_photo"),
            Panel(
                kind="curve",
                title="How far each is from its photo",
                help="Relative squared distances, before their weights; a jump is a new size.",
                table="losses",
                x="step",
                y=tuple(terms),
                log=True,
            ),
        ],
        preview="style",
    )


def work(card: Card, options: StyleOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the picture's size."""
    own = max(card.preprocessing.size)
    area = ((options.size or 1.5 * own) / own) ** 2 * 0.75
    return 3.0 * options.steps * area * sum(0.5**i for i in range(options.sizes))


METHOD = Method(
    name="style",
    title="Style transfer",
    verb="make",
    family="Style transfer",
    question="What if it were painted like that?",
    summary="The content of one photo in the style of another (Gatys et al. 2016).",
    options=StyleOptions,
    run=style,
    work=work,
    gradients=True,
    check=check,
)
