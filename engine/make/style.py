"""Style transfer: the content of one photo in the style of another.

Gatys, Ecker, Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks": content by feature distance at
one layer, style by Gram matrices at several. Departures: relative distances, so that one pair of weights serves any
network; from coarse to fine sizes growing by √2, by a warm Adam with averaged iterates if that is chosen (Crowson's
style-transfer-pytorch); the style of a half-sized picture and of neighbouring pixels count as well; max pooling stays.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fovea.engine.errors import OptionsError, needs_photo
from fovea.engine.make.match.style_options import GRID, StyleOptions, Weights, shares
from fovea.engine.method import Job, Method, Result

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from PIL import Image
    from torch import Tensor

    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.carry_over import WarmAdam
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.progress import Progress
    from fovea.models.card import Card, Layer


def check(card: Card, options: StyleOptions) -> None:
    """Raise in one line where a layer does not exist or has no maps, or nothing is asked for."""
    from fovea.engine.make.optimise.layers import statistics_layers

    statistics_layers(card, options.style_layers)
    if options.colours == "luminance" and card.preprocessing.channels != 3:
        channels = card.preprocessing.channels
        raise OptionsError(f"colours luminance needs a picture of three channels, and {card.name} sees {channels}")
    if not options.content_weight and not options.style_weight:
        raise OptionsError("content_weight and style_weight are both 0, so nothing would be made: raise one of them")
    if not options.style:
        raise OptionsError("no style is named: give the photo whose style is taken, as a path or sample:NAME")


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


GRID_SHARE = 0.3
"""The part of the run that the grid takes, for the progress."""


@dataclass
class StyleFindings:
    """The picture and the photo as large, uint8 (H, W, C), the losses by step, and how the picture grew.

    `styles`: each style photo with its part of the blend. `grid`: small pictures by their weights, row by row.
    """

    picture: NDArray[np.uint8]
    content: NDArray[np.uint8]
    styles: list[tuple[Image.Image, float]]
    losses: pd.DataFrame
    animation: Animation
    grid: list[tuple[Weights, NDArray[np.uint8]]]


def compute(job: Job[StyleOptions]) -> StyleFindings:
    """The photo repainted from coarse to fine; and the grid, if it is wanted."""
    import pandas as pd

    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.make.optimise.picture_size import features_of, large_enough, photo_pixels

    options = job.options
    if job.photo is None:
        raise needs_photo("style transfer")
    large_enough(job.photo, "style transfer")
    sides = sizes_to(options.size or 2 * max(job.card.preprocessing.size), options.smallest)
    content = photo_pixels(job, job.photo, sides[-1])
    adapted = _adapted(job, *content.shape[:2])
    features_of(adapted, to_picture(photo_pixels(job, job.photo, sides[0]), job.device), [])
    share = GRID_SHARE if options.grid else 0.0
    grid = _grid(Transfer(adapted), job.progress.span(0, share)) if options.grid else []
    transfer = Transfer(adapted, Animation(options.steps * (len(sides) + 1)))
    weights = Weights(options.content_weight, options.style_weight)
    picture = transfer.finished(transfer.make(sides, weights, job.progress.span(share, 1)), content)
    job.record(provider="torch", precision="fp32")
    losses = pd.concat(transfer.losses, ignore_index=True)
    losses["step"] = range(len(losses))
    assert transfer.animation is not None, "given above"
    return StyleFindings(picture, content, transfer.styles, losses, transfer.animation, grid)


def _adapted(job: Job[StyleOptions], height: int, width: int) -> Job[StyleOptions]:
    """The job on the network as it is run here. Raises OptionsError where the picture does not fit into memory."""
    from fovea.engine.make.optimise.adapted_network import adapted_job
    from fovea.engine.make.optimise.layers import fine_layers, statistics_layers
    from fovea.engine.make.optimise.memory import check_memory, fits

    options = job.options
    layers = statistics_layers(job.card, options.style_layers)
    fine = [layer.name for layer in fine_layers(job.card, layers)] if options.fine else []
    taps = [*(layer.name for layer in layers), content_layer(job.card, options).name]
    again = options.recompute == "always" or (
        options.recompute == "auto" and not fits(job.card, taps, height, width, device=job.device, fine=fine)
    )
    check_memory(job.card, taps, height, width, device=job.device, recompute=again, fine=fine)
    return adapted_job(job, pooling=options.pooling, recompute=again)


def _grid(transfer: Transfer, progress: Progress) -> list[tuple[Weights, NDArray[np.uint8]]]:
    """Small pictures by content weight (down) and style weight (across)."""
    from fovea.engine.make.optimise.picture_size import photo_pixels

    job, options = transfer.job, transfer.options
    side = min(options.smallest, max(job.card.preprocessing.size))
    content = photo_pixels(job, transfer.content, side)
    pairs = [Weights(options.content_weight * down, options.style_weight * across) for down in GRID for across in GRID]
    pictures: list[tuple[Weights, NDArray[np.uint8]]] = []
    for number, weights in enumerate(pairs):
        part = progress.span(number / len(pairs), (number + 1) / len(pairs))
        pictures.append((weights, transfer.finished(transfer.make([side], weights, part), content)))
    return pictures


class Transfer:
    """Pictures of one content photo in one blend of styles, and the curve of all that was made so far."""

    def __init__(self, job: Job[StyleOptions], animation: Animation | None = None) -> None:
        from fovea.engine.make.optimise.picture_size import large_enough

        assert job.photo is not None, "asked for before"
        self.job = job
        self.options = job.options
        self.content = job.photo
        self.styles = [
            (large_enough(job.read_photo(reference), "a style"), share)
            for reference, share in shares(self.options).items()
        ]
        self.animation = animation
        self.losses: list[pd.DataFrame] = []
        self.mover: WarmAdam | None = None
        self.stopped = False

    def _pictures(self, side: int) -> tuple[Tensor, list[Tensor]]:
        """Content and styles at one size, (1, C, H, W) in [0, 1]."""
        from fovea.engine.make.match.colours import matched_colours
        from fovea.engine.make.optimise.canvas import to_picture
        from fovea.engine.make.optimise.picture_size import photo_pixels

        content = photo_pixels(self.job, self.content, side)
        large = max(32, round(side * self.options.style_size))
        styles = [photo_pixels(self.job, photo, large) for photo, _ in self.styles]
        if self.options.colours == "histogram":
            styles = [matched_colours(style, content) for style in styles]
        return to_picture(content, self.job.device), [to_picture(style, self.job.device) for style in styles]

    def terms(self, content: Tensor, styles: list[Tensor], weights: Weights) -> list[Term]:
        """What the picture is held to."""
        from fovea.engine.make.optimise.layers import statistics_layers
        from fovea.engine.make.optimise.losses import FeatureDistance, Term, TotalVariation
        from fovea.engine.make.optimise.picture_size import features_of
        from fovea.engine.make.optimise.statistics import gram_terms, pixel_statistics

        terms: list[Term] = []
        if weights.content:
            layer = content_layer(self.job.card, self.options)
            wanted = features_of(self.job, content, [layer.name])[layer.name]
            terms.append(Term(f"content {layer.name}", FeatureDistance(layer.name, wanted), weights.content))
        if weights.style:
            layers = statistics_layers(self.job.card, self.options.style_layers)
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
                weight=weights.style,
            )
            terms += [Term(f"style {term.name}", term.loss, term.weight) for term in grams]
            if self.options.pixels:
                weight = self.options.pixels * weights.style
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

    def make(self, sides: list[int], weights: Weights, progress: Progress) -> Tensor:
        """The picture (1, C, H, W) at the last of `sides`, from coarse to fine."""
        from fovea.engine.make.optimise.canvas import resized
        from fovea.engine.make.optimise.carry_over import WarmAdam

        self.mover = WarmAdam(self.options.learning_rate)
        steps = [self.options.steps * (2 if number == 0 and len(sides) > 1 else 1) for number in range(len(sides))]
        costs = [side**2 * count for side, count in zip(sides, steps, strict=True)]
        picture: Tensor | None = None
        for number, (side, count) in enumerate(zip(sides, steps, strict=True)):
            content, styles = self._pictures(side)
            picture = self._start(content, styles) if picture is None else resized(picture, *content.shape[-2:])
            part = progress.span(sum(costs[:number]) / sum(costs), sum(costs[: number + 1]) / sum(costs))
            shifts = self._shifts(number, count)
            for i, shift in enumerate(shifts):
                if self.stopped:
                    break
                picture = self._moved(
                    picture.clamp(0, 1),
                    shift,
                    content,
                    functools.partial(self.terms, styles=styles, weights=weights),
                    steps=count * (i + 1) // len(shifts) - count * i // len(shifts),
                    progress=part.span(i / len(shifts), (i + 1) / len(shifts)),
                )
        assert picture is not None, "there is at least one size"
        return picture

    def _shifts(self, number: int, steps: int) -> list[tuple[int, int]]:
        """By how many pixels down and across the picture is shifted in each round of steps at one size.

        A picture that is moved by a few pixels between rounds cannot settle on what only suits one position of a
        strided layer's grid, which would be seen as a weave. A warm Adam goes on without a break.
        """
        import torch

        if self.options.optimiser == "adam" or steps < 2:
            return [(0, 0)]
        generator = torch.Generator().manual_seed(self.job.seed + number)
        down, across = (int(v) for v in torch.randint(1, 8, (2,), generator=generator))
        return [(down, across), (0, 0)]

    def _moved(
        self,
        picture: Tensor,
        shift: tuple[int, int],
        content: Tensor,
        terms: Callable[[Tensor], list[Term]],
        *,
        steps: int,
        progress: Progress,
    ) -> Tensor:
        """The picture after some steps at its size, shifted meanwhile; what left the frame stays as it was.

        `terms` gets the shifted content.
        """
        from fovea.engine.make.optimise.canvas import PixelCanvas, to_preview
        from fovea.engine.make.optimise.carry_over import AveragedIterates
        from fovea.engine.make.optimise.growth import Growth
        from fovea.engine.make.optimise.loop import LoopSettings, optimise
        from fovea.engine.make.optimise.optimisers import lbfgs
        from fovea.engine.make.optimise.projection import box
        from fovea.engine.make.optimise.transforms import slid

        height, width = picture.shape[-2:]

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
            terms(shifted(content)),
            steps=steps,
            optimiser=self.mover if warm and self.mover is not None else lbfgs(),
            projection=average if warm else box,
            callback=Growth(
                progress,
                f"{width} x {height} px, step",
                draw=lambda moved: to_preview(returned(moved)),
                animation=self.animation,
            ),
            settings=LoopSettings(wake=False, resumed=bool(self.losses)),
        )
        self.losses.append(made.losses.assign(side=max(height, width)))
        self.stopped = bool(made.stopped)
        return returned(average.mean() if warm and not made.stopped else made.picture)

    def _decay(self, steps: int) -> float:
        """How much of the mean of the iterates is kept at each of `steps` steps."""
        if self.options.averaging is not None:
            return self.options.averaging
        return min(0.99, max(0.0, 1 - 5 / steps))

    def finished(self, picture: Tensor, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The 8-bit picture (H, W, C), with the content's colours if they are kept by light."""
        from fovea.engine.make.match.colours import with_colours_of
        from fovea.engine.make.optimise.canvas import to_pixels

        pixels = to_pixels(picture)[0]
        return with_colours_of(pixels, content) if self.options.colours == "luminance" else pixels


def report(job: Job[StyleOptions], findings: StyleFindings) -> Result:
    """Image `style`, array `loss` by step, table `losses` by term with the size of each step."""
    from fovea.engine.make.match.style_panels import add_grid, panels, sources, style_photos
    from fovea.engine.make.optimise.canvas import to_image

    losses, picture = findings.losses, to_image(findings.picture)
    height, width = findings.picture.shape[:2]
    assert job.photo is not None, "computed from it"
    sheet, captions = sources(job, job.photo, findings.styles)
    result = Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, "sources": captions},
        images={
            "style": picture,
            "sources": sheet,
            "content_photo": to_image(findings.content),
            **style_photos(job, findings.styles, max(height, width)),
            "growth.gif": findings.animation.gif(picture),
        },
        summary={
            "content_weight": job.options.content_weight,
            "style_weight": job.options.style_weight,
            "loss": float(losses["loss"].iloc[-1]),
            "width": width,
            "height": height,
        },
        panels=panels(len(captions), losses),
        preview="style",
    )
    if findings.grid:
        add_grid(result, findings.grid)
    return result


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
    summary="Repaints the content of one photo in the style of another (Gatys et al. 2016).",
    options=StyleOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=4,
    check=check,
    example="sample:temple",
)
