"""DeepDream: what layers see in a photo is made stronger, from coarse to fine.

Mordvintsev, Olah, Tyka 2015, "Inceptionism", and their notebook: 4 octaves of 1.4, 10 steps each, jitter 32 pixels at
224, steps of 1.5 grey levels along the gradient divided by its mean |·|. Departures: jitter shrinks with small
pictures, the pixels stay in the box of real values, and large octaves are worked through in tiles that lie elsewhere
at each step, as in the tiled gradients of TensorFlow's tutorial.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import LayerKind, LayersKind, Options, PhotoKind, UnitKind, option
from fovea.engine.panels import CurvePanel, ImagePanel, Panel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.optimise.animation import Film
    from fovea.engine.make.optimise.losses import Term
    from fovea.models.card import Card, Layer


LOWER, HIGHER = 0.25, 0.75
"""Depths of the two layers that dream when none is named: strokes, and parts of things."""
TILE = 640
"""Longest side of a tile unless told."""
PREVIEW = 768
"""Longest side of a picture on its way to the screen."""
LEAST = 32
"""Octaves with a shorter side are left out."""


class DreamOptions(Options):
    """What a dream can be told."""

    layer: str = option(
        "", "Layer whose features grow; empty: a lower and a higher one, side by side", kind=LayerKind()
    )
    unit: int | None = option(None, "One unit of it; empty: all, by their mean square", kind=UnitKind(), ge=0)
    guide: str = option("", "Photo whose features of that layer are grown into this one", kind=PhotoKind())
    layers: str = option("", "Several layers, each with a dream of its own, side by side", kind=LayersKind())
    size: int | None = option(
        None, "Long side of the picture; empty: twice the network's input", ge=32, le=8192, unit="px"
    )
    octaves: int = option(4, "How many sizes, small to large (2015 notebook: 4)", ge=1, le=12)
    octave_scale: float = option(1.4, "From one size to the next (2015 notebook: 1.4)", gt=1, le=2, advanced=True)
    steps: int = option(10, "Steps at each size (2015 notebook: 10)", ge=1, le=1000, unit="steps")
    step_size: float = option(1.5, "Mean change of a pixel in a step, in grey levels", gt=0, le=64, advanced=True)
    jitter: int = option(
        32, "Random shift before each step (2015 notebook: 32)", ge=0, le=256, unit="px", advanced=True
    )
    tile_side: int | None = option(
        None,
        "Larger octaves are worked through in tiles of at most this side, for flat memory; empty: 640",
        ge=64,
        le=8192,
        unit="px",
        advanced=True,
    )

    @property
    def tile(self) -> int:
        """The longest side of a tile."""
        return self.tile_side or TILE


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


_NAMES = {"unit": "activation", "guide": "similarity", "layer": "energy"}
"""What grows, by what was chosen."""


def _kind(options: DreamOptions) -> str:
    return "unit" if options.unit is not None else "guide" if options.guide else "layer"


def _term(job: Job, layer: Layer) -> Term:
    from fovea.engine.make.optimise.canvas import to_picture
    from fovea.engine.make.optimise.losses import GuideSimilarity, LayerEnergy, UnitActivation, ascend
    from fovea.engine.make.optimise.picture_size import features_of
    from fovea.engine.unit_maps import unit_maps

    options: DreamOptions = job.options
    name = _NAMES[_kind(options)]
    if options.unit is not None:
        return ascend(name, UnitActivation(layer, options.unit, "mean"))
    if not options.guide:
        return ascend(name, LayerEnergy(layer))
    frame = job.card.preprocessing.frame(job.read_photo(options.guide))
    features = features_of(job, to_picture(frame, job.device), [layer.name])[layer.name]
    return ascend(name, GuideSimilarity(layer, unit_maps(features, layer)[0].flatten(1).T.contiguous()))


def _octaves(job: Job, height: int, width: int, layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """The sizes that are neither too small nor refused by the network; warns of those left out."""
    import torch

    from fovea.engine.make.optimise.picture_size import features_of

    options: DreamOptions = job.options
    sizes = octave_sizes(height, width, options.octaves, options.octave_scale, least=LEAST)
    if len(sizes) < options.octaves:
        job.warn(f"{len(sizes)} of {options.octaves} octaves: smaller ones would be under {LEAST} pixels")
    names = [layer.name for layer in layers]
    while True:
        h, w = (min(side, options.tile) for side in sizes[0])
        try:
            features_of(job, torch.zeros(1, job.card.preprocessing.channels, h, w, device=job.device), names)
            return sizes
        except UnsupportedError:
            if len(sizes) == 1:
                raise
            job.warn(f"no octave of {w} x {h} pixels: {job.card.name} does not take pictures as small")
            sizes = sizes[1:]


def _dream_of(
    job: Job, layer: Layer, whole: Tensor, sizes: list[tuple[int, int]], film: Film, portion: tuple[float, float]
) -> tuple[Tensor, pd.DataFrame]:
    """One layer's dream, as large as the photo `whole`, and its losses by octave and step."""
    import pandas as pd

    from fovea.engine.make.optimise.canvas import PixelCanvas, resized
    from fovea.engine.make.optimise.loop import gradient_steps, optimise
    from fovea.engine.make.optimise.projection import box
    from fovea.engine.make.optimise.transforms import Roll

    options: DreamOptions = job.options
    term = _term(job, layer)
    ends = [0.0, *itertools.accumulate(h * w for h, w in sizes)]
    ends = [portion[0] + (portion[1] - portion[0]) * end / ends[-1] for end in ends]
    detail, picture = None, whole
    tables: list[pd.DataFrame] = []
    for octave, (h, w) in enumerate(sizes):
        base = resized(whole, h, w)
        start = base if detail is None else (base + resized(detail, h, w)).clamp_(0, 1)
        tiled = max(h, w) > options.tile
        jitter = options.tile if tiled else min(options.jitter, min(h, w) // 4)
        made = optimise(
            job,
            PixelCanvas(start),
            [term],
            steps=options.steps,
            optimiser=gradient_steps(options.step_size / 255),
            transforms=[Roll(jitter)] if jitter else [],
            projection=box,
            seed=job.seed + octave,
            portion=(ends[octave], ends[octave + 1]),
            message=f"{layer.name}: octave {octave + 1} of {len(sizes)}, step",
            preview=_preview(whole),
            film=film,
            tile=options.tile if tiled else None,
            resumed=octave > 0,
        )
        picture, detail = made.picture, made.picture - base
        tables.append(made.losses.assign(octave=octave, layer=layer.name))
        if made.stopped:
            break
    height, width = whole.shape[-2:]
    return resized(picture, height, width).clamp_(0, 1), pd.concat(tables, ignore_index=True)


def _preview(whole: Tensor) -> Callable[[Tensor], Any]:
    """A picture of any octave at the size of the last one, or small enough for a screen."""
    from fovea.engine.make.optimise.canvas import resized, to_preview

    height, width = whole.shape[-2:]
    scale = min(1.0, PREVIEW / max(height, width))
    return lambda picture: to_preview(resized(picture, round(height * scale), round(width * scale)))


def dream(job: Job) -> Result:
    """Image `dream` (the deepest layer's), `dream_1` … of several, `photo_whole`, the animation `dream.gif`.

    Array `loss` by step, table `losses` with layer, octave, step, loss and the term.
    """
    import pandas as pd

    from fovea.engine.make.optimise.animation import SIDE, Film, in_a_row, side_by_side
    from fovea.engine.make.optimise.canvas import to_image, to_picture, to_pixels
    from fovea.engine.make.optimise.memory import check_memory
    from fovea.engine.make.optimise.picture_size import large_enough, photo_pixels

    options: DreamOptions = job.options
    card = job.card
    if job.photo is None:
        raise OptionsError("a dream needs a photo: give --image PATH or --image sample:cat")
    large_enough(job.photo, "a dream")
    layers = layers_of(card, options)
    pixels = photo_pixels(job, job.photo, options.size or 2 * max(card.preprocessing.size))
    height, width = pixels.shape[:2]
    taps = [layer.name for layer in layers]
    check_memory(card, taps, min(height, options.tile), min(width, options.tile), device=job.device)
    check_memory(card, (), height, width, device=job.device)
    sizes = _octaves(job, height, width, layers)
    whole = to_picture(pixels, job.device)
    films = [Film(options.steps * len(sizes), side=SIDE if len(layers) == 1 else SIDE // 2) for _ in layers]
    made: list[NDArray[np.uint8]] = []
    tables: list[pd.DataFrame] = []
    for place, (layer, film) in enumerate(zip(layers, films, strict=True)):
        part = (place / len(layers), (place + 1) / len(layers))
        picture, table = _dream_of(job, layer, whole, sizes, film, part)
        made.append(to_pixels(picture)[0])
        tables.append(table)
    losses = pd.concat(tables, ignore_index=True)
    losses["step"] = range(len(losses))
    job.record(provider="torch", precision="fp32")
    last = in_a_row([film.small(_rgb(one)) for film, one in zip(films, made, strict=True)])
    images: dict[str, Any] = {"dream": to_image(made[-1]), "photo_whole": to_image(pixels)}
    if len(layers) > 1:
        images |= {f"dream_{place + 1}": to_image(one) for place, one in enumerate(made)}
    images["dream.gif"] = side_by_side(films).gif(np.asarray(last))
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses, **_grown(losses, layers, _NAMES[_kind(options)])},
        images=images,
        summary=_summary(options, layers, losses, made[-1], pixels),
        panels=_panels(options, layers),
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
    grown = pd.DataFrame({one: curve / max(abs(curve.iloc[0]), 1e-12) for one, curve in curves.items()})
    return {"grown": grown.rename_axis("step").reset_index()}


def _summary(
    options: DreamOptions,
    layers: Sequence[Layer],
    losses: pd.DataFrame,
    made: NDArray[np.uint8],
    photo: NDArray[np.uint8],
) -> dict[str, Any]:
    name = _NAMES[_kind(options)]
    rows = range(0, len(made), 256)
    change = sum(float(np.abs(made[y : y + 256].astype(np.int16) - photo[y : y + 256]).sum()) for y in rows)
    about: dict[str, Any] = {"layer": layers[-1].name} if len(layers) == 1 else {}
    if len(layers) > 1:
        about = {"layers": ", ".join(layer.name for layer in layers)}
    if options.unit is not None:
        about["unit"] = options.unit
    return {
        **about,
        name: float(losses[name].iloc[-1]),
        "mean_change": change / made.size,
        "width": made.shape[1],
        "height": made.shape[0],
    }


def _told(options: DreamOptions, place: int) -> str:
    if not options.layer and not options.layers:
        return "A higher layer: parts of things." if place else "A lower layer: strokes and textures."
    return "Whatever the layer saw a trace of was made stronger, large shapes first."


def _panels(options: DreamOptions, layers: Sequence[Layer]) -> list[Panel]:
    unit = "" if options.unit is None else f" unit {options.unit}"
    several = len(layers) > 1
    guide = " towards the guide" if options.guide else ""
    panels = [
        ImagePanel(
            title=f"What {layer.name}{unit} dreams of this photo{guide}",
            help=_told(options, place),
            image=f"dream_{place + 1}" if several else "dream",
            beside=place % 2 == 1,
        )
        for place, layer in enumerate(layers)
    ]
    return [
        *panels,
        ImagePanel(title="The photo", help="As it was.", image="photo_whole"),
        ImagePanel(title="As it grew", help="From size to size.", image="dream.gif", beside=True),
        CurvePanel(
            title="How it grew",
            help="Each size starts lower than the one before ended: fine detail is new to it."
            + (" Each layer relative to its own start." if several else ""),
            table="grown" if several else "losses",
            x="step",
            y=tuple(layer.name for layer in layers) if several else (_NAMES[_kind(options)],),
        ),
    ]


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
    summary="What layers see in a photo is made stronger, coarse to fine (Mordvintsev et al. 2015).",
    options=DreamOptions,
    compute=dream,
    work=work,
    gradients=True,
    version=2,
    check=check,
)
