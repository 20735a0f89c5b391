"""What style transfer can be told, and what follows of it alone: the blend of styles and the weights."""

from __future__ import annotations

from typing import Literal, NamedTuple

from fovea.engine.options import CommaList, LayerKind, LayersKind, Options, PhotoKind, option


class StyleOptions(Options):
    """What style transfer can be told."""

    style: str = option("sample:tissue", "The photo whose style is taken.", kind=PhotoKind())
    content_weight: float = option(
        0.6,
        "How much the picture is held to the photo's content. More keeps shapes recognisable, less lets the style "
        "rearrange them.",
        ge=0,
        le=2,
        slider=True,
    )
    style_weight: float = option(
        3.0,
        "How much the picture is held to the style. Only its ratio to the content's weight matters for the result.",
        ge=0,
        le=10,
        slider=True,
    )
    style_size: float = option(
        1.0,
        "How large the strokes of the style are: the long side of the style photo as a multiple of the picture's.",
        ge=0.1,
        le=4,
        slider=True,
    )
    colours: Literal["style", "luminance", "histogram"] = option(
        "style",
        "Whose colours the picture gets: style takes the style photo's; luminance takes only its light and keeps the "
        "photo's own colours; histogram gives the style photo the photo's colours before it starts (Gatys 2017, "
        "section 5).",
    )
    second_style: str = option(
        "", "Another photo whose style is blended in.", kind=PhotoKind(), empty="no second style"
    )
    second_share: float = option(0.5, "The part that the second style has in the blend.", ge=0, le=1, slider=True)
    third_style: str = option(
        "", "A third photo whose style is blended in.", kind=PhotoKind(), advanced=True, empty="no third style"
    )
    third_share: float = option(
        0.33, "The part that the third style has in the blend.", ge=0, le=1, slider=True, advanced=True
    )
    size: int | None = option(
        None, "The picture's long side.", ge=32, le=4096, unit="px", empty="twice the network's input size"
    )
    steps: int = option(
        40,
        "How many steps the optimiser takes at each size; the first size gets twice as many. L-BFGS is close to its "
        "end after 40; with Adam take 500 (Crowson 2021).",
        ge=1,
        le=10000,
        unit="steps",
    )
    grid: bool = option(
        False,
        "Also make a grid of nine small pictures with less and more content and style, which helps to choose the "
        "weights.",
    )
    start: Literal["content", "noise"] = option(
        "content",
        "What the picture is before the first step: the photo, which needs fewer steps, or noise (Gatys 2016), which "
        "follows the style more freely.",
    )
    smallest: int = option(
        128,
        "The long side of the first size; each next size is √2 times larger (Crowson 2021: 128). A smaller one makes "
        "larger strokes.",
        ge=32,
        le=4096,
        unit="pixels",
        advanced=True,
    )
    content_layer: str = option(
        "",
        "The layer whose features hold the content. A deeper layer leaves the style more freedom.",
        kind=LayerKind(has="spatial"),
        advanced=True,
        empty="a layer in the middle of the network",
    )
    style_layers: CommaList = option(
        (),
        "The layers whose statistics make the style. Shallow layers bring colours and grain, deep ones larger shapes.",
        kind=LayersKind(),
        advanced=True,
        empty="the first layer, and each layer before the maps shrink",
    )
    statistics: Literal["gatys", "centred", "wasserstein"] = option(
        "gatys",
        "How two sets of features are compared: gatys by their Gram matrices (Gatys 2016), centred by Gram matrices "
        "about the means, which show better how features vary together (Novak 2016), wasserstein by the Wasserstein "
        "distance of normal distributions.",
        advanced=True,
    )
    scales: int = option(
        2,
        "How many scales each size is matched at: the picture, its half, its quarter, and so on. More scales carry "
        "over strokes that are larger than what a layer sees (Snelgrove 2017).",
        ge=1,
        le=6,
        unit="scales",
        advanced=True,
    )
    fine: bool = option(
        True,
        "If the network's first layer skips pixels, let its first layers also match the style at twice the size. This "
        "keeps a weave out of the picture, and takes more time and memory.",
        advanced=True,
    )
    pooling: Literal["average", "max"] = option(
        "max",
        "What the network's max pooling does while the picture is made: max leaves it as it is, which gives most "
        "networks clearer strokes without ringing; average replaces it by averages, as Gatys (2016) did with VGG.",
        advanced=True,
    )
    pixels: float = option(
        0.3,
        "Weight of the statistics of neighbouring pixels, as a multiple of the style's weight. They hold the finest "
        "detail and the colours to the style photo's.",
        ge=0,
        le=100,
        advanced=True,
    )
    total_variation: float = option(
        10.0,
        "Weight of the mean squared difference of neighbouring pixels, which smooths the picture (Crowson 2021: 2).",
        ge=0,
        le=1000,
        advanced=True,
    )
    optimiser: Literal["lbfgs", "adam"] = option(
        "lbfgs",
        "Which optimiser is used: lbfgs (Gatys 2016) matches the style in a tenth of the steps; adam goes on from size "
        "to size and averages the pictures on its way, which is smoother (Crowson 2021).",
        advanced=True,
    )
    learning_rate: float = option(
        0.02,
        "How far each step of adam goes, as a part of the range from black to white (Crowson 2021: 0.02); lbfgs finds "
        "its own steps.",
        gt=0,
        le=1,
        advanced=True,
    )
    averaging: float | None = option(
        None,
        "How much of the running mean of adam's pictures is kept at each step. More is smoother, and forgets the start "
        "later.",
        ge=0,
        lt=1,
        advanced=True,
        empty="1 - 5 / steps, which is Crowson's 0.99 at 500 steps",
    )
    recompute: Literal["auto", "always", "never"] = option(
        "auto",
        "Whether to save memory by computing the inside of each block a second time on the way back, which takes about "
        "a third longer and gives the same picture. auto does so only where the picture would not fit into memory "
        "otherwise.",
        advanced=True,
    )


class Weights(NamedTuple):
    """How much content and style count."""

    content: float
    style: float


GRID = (0.25, 1.0, 4.0)
"""What each weight is multiplied with along its side of the grid."""


def shares(options: StyleOptions) -> dict[str, float]:
    """Each style photo's part of the blend, together 1, the first one's what the others leave (at least a tenth)."""
    others = [(options.second_style, options.second_share), (options.third_style, options.third_share)]
    blended = [(photo, share) for photo, share in others if photo and share]
    first = max(0.1, 1 - sum(share for _, share in blended))
    whole = first + sum(share for _, share in blended)
    parts: dict[str, float] = {}
    for photo, share in ((options.style, first), *blended):
        parts[photo] = parts.get(photo, 0.0) + share / whole
    return parts
