"""DeepDream: what layers see in a photo is made stronger, from coarse to fine.

Mordvintsev, Olah, Tyka 2015, "Inceptionism", and their notebook: 4 octaves of 1.4, 10 steps each, jitter 32 pixels at
224, steps of 1.5 grey levels along the gradient divided by its mean |·|. Departures: jitter shrinks with small
pictures, the pixels stay in the box of real values, and large octaves are worked through in tiles that lie elsewhere
at each step, as in the tiled gradients of TensorFlow's tutorial.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fovea.engine.errors import OptionsError, UnsupportedError, needs_photo
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import CommaList, LayerKind, LayersKind, Options, PhotoKind, UnitKind, option
from fovea.engine.panels import CurvePanel, ImagePanel, Panel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.optimise.animation import Animation
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.progress import Progress
    from fovea.models.card import Card, Layer


LOWER, HIGHER = 0.25, 0.75
"""Depths of the two layers that dream when none is named: strokes, and parts of things."""
TILE = 640
"""Longest side of a tile unless told, in pixels."""
PREVIEW = 768
"""Longest side of a picture on its way to the screen, in pixels."""
LEAST = 32
"""Octaves with a side of fewer pixels are left out."""


class DreamOptions(Options):
    """What a dream can be told."""

    layer: str = option(
        "",
        "The layer whose features are made stronger. Shallow layers dream of strokes, deep ones of parts of things.",
        kind=LayerKind(),
        empty="two layers dream side by side, a lower and a higher one",
    )
    unit: int | None = option(
        None,
        "The one unit of that layer that is made stronger.",
        kind=UnitKind(),
        ge=0,
        empty="all units of the layer, by their mean square",
    )
    guide: str = option(
        "",
        "A second photo: what the layer saw there is grown into this one (guided dreams, Mordvintsev 2015).",
        kind=PhotoKind(),
        empty="whatever the layer saw in the photo itself grows",
    )
    layers: CommaList = option(
        (),
        "Several layers, each of which makes a dream of its own; the dreams are shown side by side.",
        kind=LayersKind(),
        empty="a lower and a higher layer",
    )
    size: int | None = option(
        None,
        "The long side of the dream. A larger picture has room for more things, and takes longer with its area.",
        ge=32,
        le=8192,
        unit="px",
        empty="twice the network's input size",
    )
    octaves: int = option(
        4,
        "At how many sizes the dream is made, from small to large. More octaves give larger shapes (the notebook of "
        "2015: 4).",
        ge=1,
        le=12,
        unit="sizes",
    )
    octave_scale: float = option(
        1.4,
        "How many times larger each size is than the one before (the notebook of 2015: 1.4).",
        gt=1,
        le=2,
        advanced=True,
    )
    steps: int = option(
        10,
        "How many steps are taken at each size. More steps change the photo more (the notebook of 2015: 10).",
        ge=1,
        le=1000,
        unit="steps",
    )
    step_size: float = option(
        1.5,
        "How far a step changes a pixel on average, in grey levels of 255 (the notebook of 2015: 1.5).",
        gt=0,
        le=64,
        unit="grey levels",
        advanced=True,
    )
    jitter: int = option(
        32,
        "By how much the picture is randomly shifted before each step, so that no traces of the layer's grid are left "
        "(the notebook of 2015: 32). Small pictures are shifted by at most a quarter of their side.",
        ge=0,
        le=256,
        unit="px",
        advanced=True,
    )
    tile_side: int | None = option(
        None,
        "Pictures larger than this are worked through in tiles of at most this side, so that memory does not grow with "
        "the picture. Make it smaller where the memory is too small.",
        ge=64,
        le=8192,
        unit="px",
        advanced=True,
        empty="640 px",
    )

    @property
    def tile(self) -> int:
        """The longest side of a tile."""
        return self.tile_side or TILE

    @property
    def term(self) -> str:
        """What grows, by what was chosen: the name of the term in tables and curves."""
        return "activation" if self.unit is not None else "similarity" if self.guide else "energy"


@dataclass
class DreamFindings:
    """Each layer's dream, uint8 (H, W, C), with its losses by octave and step, and how it grew; `photo` as large."""

    layers: list[Layer]
    photo: NDArray[np.uint8]
    dreams: list[NDArray[np.uint8]]
    losses: list[pd.DataFrame]
    animations: list[Animation]


def compute(job: Job[DreamOptions]) -> DreamFindings:
    """One dream for each layer."""
    from fovea.engine.make.optimise.animation import SIDE, Animation
    from fovea.engine.make.optimise.canvas import to_picture, to_pixels
    from fovea.engine.make.optimise.memory import check_memory
    from fovea.engine.make.optimise.picture_size import large_enough, photo_pixels

    options, card = job.options, job.card
    if job.photo is None:
        raise needs_photo("a dream")
    large_enough(job.photo, "a dream")
    layers = layers_of(card, options)
    photo = photo_pixels(job, job.photo, options.size or 2 * max(card.preprocessing.size))
    height, width = photo.shape[:2]
    taps = [layer.name for layer in layers]
    check_memory(card, taps, min(height, options.tile), min(width, options.tile), device=job.device)
    check_memory(card, (), height, width, device=job.device)
    sizes = _octaves(job, height, width, layers)
    whole = to_picture(photo, job.device)
    side = SIDE if len(layers) == 1 else SIDE // 2
    findings = DreamFindings(layers, photo, [], [], [])
    for number, layer in enumerate(layers):
        animation = Animation(options.steps * len(sizes), side=side)
        progress = job.progress.span(number / len(layers), (number + 1) / len(layers))
        picture, losses = dream_of(job, layer, whole, sizes, progress, animation)
        findings.dreams.append(to_pixels(picture)[0])
        findings.losses.append(losses)
        findings.animations.append(animation)
    job.record(provider="torch", precision="fp32")
    return findings


def dream_of(
    job: Job[DreamOptions],
    layer: Layer,
    whole: Tensor,
    sizes: Sequence[tuple[int, int]],
    progress: Progress,
    animation: Animation,
) -> tuple[Tensor, pd.DataFrame]:
    """One layer's dream, as large as the photo `whole`, and its losses by octave and step.

    At each size the photo is made anew, and what the smaller sizes added to it is laid over it.
    """
    import pandas as pd

    from fovea.engine.make.optimise.canvas import PixelCanvas, resized
    from fovea.engine.make.optimise.growth import Growth
    from fovea.engine.make.optimise.loop import LoopSettings, optimise
    from fovea.engine.make.optimise.optimisers import gradient_steps
    from fovea.engine.make.optimise.projection import box
    from fovea.engine.make.optimise.transforms import Roll

    options, term = job.options, _term(job, layer)
    ends = [0.0, *itertools.accumulate(h * w for h, w in sizes)]
    detail, picture = None, whole
    tables: list[pd.DataFrame] = []
    for octave, (h, w) in enumerate(sizes):
        base = resized(whole, h, w)
        start = base if detail is None else (base + resized(detail, h, w)).clamp_(0, 1)
        tiled = max(h, w) > options.tile
        jitter = options.tile if tiled else min(options.jitter, min(h, w) // 4)
        made = optimise(
            dataclasses.replace(job, seed=job.seed + octave),
            PixelCanvas(start),
            [term],
            steps=options.steps,
            optimiser=gradient_steps(options.step_size / 255),
            transforms=[Roll(jitter)] if jitter else [],
            projection=box,
            callback=Growth(
                progress.span(ends[octave] / ends[-1], ends[octave + 1] / ends[-1]),
                f"{layer.name}: octave {octave + 1} of {len(sizes)}, step",
                draw=_preview(whole),
                animation=animation,
            ),
            settings=LoopSettings(tile=options.tile if tiled else None, resumed=octave > 0),
        )
        picture, detail = made.picture, made.picture - base
        tables.append(made.losses.assign(octave=octave, layer=layer.name))
        if made.stopped:
            break
    height, width = whole.shape[-2:]
    return resized(picture, height, width).clamp_(0, 1), pd.concat(tables, ignore_index=True)


def _term(job: Job[DreamOptions], layer: Layer) -> Term:
    """What is raised: a unit's mean, the likeness to the guide, or the mean square of the whole layer."""
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.make.optimise.losses import GuideSimilarity, LayerEnergy, UnitActivation, ascend
    from fovea.engine.make.optimise.picture_size import features_of
    from fovea.engine.unit_maps import unit_maps

    options = job.options
    if options.unit is not None:
        return ascend(options.term, UnitActivation(layer, options.unit, "mean"))
    if not options.guide:
        return ascend(options.term, LayerEnergy(layer))
    frame = job.card.preprocessing.frame(job.read_photo(options.guide))
    features = features_of(job, to_picture(frame, job.device), [layer.name])[layer.name]
    return ascend(options.term, GuideSimilarity(layer, unit_maps(features, layer)[0].flatten(1).T.contiguous()))


def _octaves(job: Job[DreamOptions], height: int, width: int, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """The sizes that are neither too small nor refused by the network; warns of those left out."""
    import torch

    from fovea.engine.make.optimise.picture_size import features_of

    options = job.options
    sizes = octave_sizes(height, width, options.octaves, options.octave_scale, least=LEAST)
    if len(sizes) < options.octaves:
        job.warn(f"only {len(sizes)} of {options.octaves} octaves are made: smaller ones would be under {LEAST} pixels")
    names = [layer.name for layer in layers]
    while True:
        h, w = (min(side, options.tile) for side in sizes[0])
        try:
            features_of(job, torch.zeros(1, job.card.preprocessing.channels, h, w, device=job.device), names)
            return sizes
        except UnsupportedError:
            if len(sizes) == 1:
                raise
            job.warn(f"the octave of {w} x {h} pixels is left out: {job.card.name} does not take pictures as small")
            sizes = sizes[1:]


def _preview(whole: Tensor) -> Callable[[Tensor], NDArray[np.uint8]]:
    """A picture of any octave at the size of the last one, or small enough for a screen."""
    from fovea.engine.make.optimise.canvas import resized, to_preview

    height, width = whole.shape[-2:]
    scale = min(1.0, PREVIEW / max(height, width))
    return lambda picture: to_preview(resized(picture, round(height * scale), round(width * scale)))


def check(card: Card, options: DreamOptions) -> None:
    """Raise in one line where the options do not go together or the network has no layer with maps."""
    if options.unit is not None and not options.layer:
        raise OptionsError(f"unit {options.unit} of which layer? choose a layer as well")
    if options.layer and options.layers:
        raise OptionsError("choose one layer or several layers, not both")
    if options.unit is not None and options.guide:
        raise OptionsError("choose a unit or a guide photo, not both")
    if options.layer and card.layer(options.layer).axes == "none":
        raise UnsupportedError(f"layer {options.layer} has no units: choose a layer whose output has channels")
    for layer in layers_of(card, options):
        if options.guide and not layer.spatial:
            raise UnsupportedError(f"a guide needs a layer whose units are maps, and {layer.name} has one position")


def layers_of(card: Card, options: DreamOptions) -> list[Layer]:
    """The layers that dream: those that are named, else a lower and a higher one."""
    from fovea.engine.make.optimise.layers import layer_at, named_layers

    if options.layer:
        return [card.layer(options.layer)]
    if options.layers:
        return named_layers(card, options.layers, ())
    return list(dict.fromkeys((layer_at(card, LOWER), layer_at(card, HIGHER))))


def octave_sizes(height: int, width: int, count: int, scale: float, least: int) -> list[tuple[int, int]]:
    """The sizes small to large, the last the whole; those with a side under `least` pixels are left out."""
    sizes = [(round(height / scale**i), round(width / scale**i)) for i in range(count)]
    return [size for i, size in enumerate(sizes) if i == 0 or min(size) >= least][::-1]


def report(job: Job[DreamOptions], findings: DreamFindings) -> Result:
    """Image `dream` (the deepest layer's), `dream_1` … of several, `photo_whole`, the animation `dream.gif`.

    Array `loss` by step, table `losses` with layer, octave, step, loss and the term.
    """
    import pandas as pd

    from fovea.engine.make.optimise.animation import in_a_row, side_by_side
    from fovea.engine.make.optimise.canvas import to_image

    layers, dreams, animations = findings.layers, findings.dreams, findings.animations
    losses = pd.concat(findings.losses, ignore_index=True)
    losses["step"] = range(len(losses))
    pairs = zip(animations, dreams, strict=True)
    last = in_a_row([animation.small(_rgb(dream)) for animation, dream in pairs])
    images: dict[str, Any] = {"dream": to_image(dreams[-1]), "photo_whole": to_image(findings.photo)}
    if len(layers) > 1:
        images |= {f"dream_{number}": to_image(dream) for number, dream in enumerate(dreams, 1)}
    images["dream.gif"] = side_by_side(animations).gif(np.asarray(last))
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, **_grown(losses, layers, job.options.term)},
        images=images,
        summary=_summary(job.options, layers, losses, dreams[-1], findings.photo),
        panels=_panels(job.options, layers),
        preview="dream",
    )


def _rgb(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.broadcast_to(pixels[..., :3], (*pixels.shape[:2], 3)).copy())


def _grown(losses: pd.DataFrame, layers: Sequence[Layer], term: str) -> dict[str, pd.DataFrame]:
    """Each layer's term by step, relative to its first value, where there are several layers."""
    import pandas as pd

    if len(layers) < 2:
        return {}
    curves = {layer.name: losses.loc[losses["layer"] == layer.name, term].reset_index(drop=True) for layer in layers}
    grown = pd.DataFrame({name: curve / max(abs(curve.iloc[0]), 1e-12) for name, curve in curves.items()})
    return {"grown": grown.rename_axis("step").reset_index()}


def _summary(
    options: DreamOptions,
    layers: Sequence[Layer],
    losses: pd.DataFrame,
    dream: NDArray[np.uint8],
    photo: NDArray[np.uint8],
) -> dict[str, Any]:
    rows = range(0, len(dream), 256)
    change = sum(float(np.abs(dream[y : y + 256].astype(np.int16) - photo[y : y + 256]).sum()) for y in rows)
    about: dict[str, Any] = {"layer": layers[-1].name} if len(layers) == 1 else {}
    if len(layers) > 1:
        about = {"layers": ", ".join(layer.name for layer in layers)}
    if options.unit is not None:
        about["unit"] = options.unit
    return {
        **about,
        options.term: float(losses[options.term].iloc[-1]),
        "mean_change": change / dream.size,
        "width": dream.shape[1],
        "height": dream.shape[0],
    }


def _panels(options: DreamOptions, layers: Sequence[Layer]) -> list[Panel]:
    unit = "" if options.unit is None else f" unit {options.unit}"
    several = len(layers) > 1
    guide = " towards the guide" if options.guide else ""
    panels = [
        ImagePanel(
            title=f"What {layer.name}{unit} dreams of this photo{guide}",
            help=_told(options, number),
            image=f"dream_{number + 1}" if several else "dream",
            beside=number % 2 == 1,
        )
        for number, layer in enumerate(layers)
    ]
    relative = " Each layer's curve is relative to its own start." if several else ""
    return [
        *panels,
        ImagePanel(title="The photo", help="The photo before the dream, at the same size.", image="photo_whole"),
        ImagePanel(
            title="As it grew",
            help="The dream after each few steps, from size to size.",
            image="dream.gif",
            beside=True,
        ),
        CurvePanel(
            title="How it grew",
            help="Each size starts lower than the one before ended, because its fine detail is new to the dream."
            + relative,
            table="grown" if several else "losses",
            x="step",
            y=tuple(layer.name for layer in layers) if several else (options.term,),
        ),
    ]


def _told(options: DreamOptions, number: int) -> str:
    if not options.layer and not options.layers:
        seen = (
            "a higher layer, which sees parts of things" if number else "a lower layer, which sees strokes and textures"
        )
        return f"This is {seen}."
    return "Whatever the layer saw a trace of was made stronger, large shapes first."


def work(card: Card, options: DreamOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the octave's size, for each layer."""
    side = (options.size or 2 * max(card.preprocessing.size)) / max(card.preprocessing.size)
    areas = sum(side**2 / options.octave_scale ** (2 * i) for i in range(options.octaves))
    return 3.0 * options.steps * areas * 0.75 * len(layers_of(card, options))


METHOD = Method(
    name="dream",
    title="DeepDream",
    verb="make",
    family="DeepDream",
    question="What does it dream of?",
    summary="Makes stronger what layers see in a photo, from coarse to fine (Mordvintsev et al. 2015).",
    options=DreamOptions,
    compute=compute,
    report=report,
    work=work,
    gradients=True,
    version=2,
    check=check,
)
