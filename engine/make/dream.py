"""DeepDream: what a layer sees in a photo is made stronger, from coarse to fine.

Mordvintsev, Olah, Tyka 2015, "Inceptionism", and their notebook: 4 octaves of 1.4, 10 steps each, jitter 32 pixels at
224, steps of 1.5 grey levels along the gradient divided by its mean |·|. Departures: jitter shrinks with small
pictures, and the pixels stay in the box of real values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import OptionsError, UnsupportedError
from engine.method import Job, Method, Options, Panel, Result, option

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from engine.make.losses import Term
    from models.card import Card, Layer


class DreamOptions(Options):
    """What a dream can be told."""

    layer: str = option("", "Layer whose features grow; empty: one past the middle", kind="layer")
    unit: int | None = option(None, "One unit of it; empty: all, by their mean square", kind="unit", ge=0)
    guide: str = option("", "Photo whose features of that layer are grown into this one", kind="photo")
    size: int | None = option(
        None, "Long side of the picture; empty: twice the network's input", ge=32, le=4096, unit="px"
    )
    octaves: int = option(4, "How many sizes, small to large (2015 notebook: 4)", ge=1, le=12)
    octave_scale: float = option(1.4, "From one size to the next (2015 notebook: 1.4)", gt=1, le=2, advanced=True)
    steps: int = option(10, "Steps at each size (2015 notebook: 10)", ge=1, le=1000, unit="steps")
    step_size: float = option(1.5, "Mean change of a pixel in a step, in grey levels", gt=0, le=64, advanced=True)
    jitter: int = option(
        32, "Random shift before each step (2015 notebook: 32)", ge=0, le=256, unit="px", advanced=True
    )


def check(card: Card, options: DreamOptions) -> None:
    """Raise in one line where the options do not go together or the network has no layer with maps."""
    from engine.make.layers import stage_layers

    if options.unit is not None and not options.layer:
        raise OptionsError(f"unit {options.unit} of which layer? choose a layer as well")
    if options.unit is not None and options.guide:
        raise OptionsError("choose a unit or a guide photo, not both")
    if options.layer and card.layer(options.layer).axes == "none":
        raise UnsupportedError(f"layer {options.layer} has no units: choose a layer whose output has channels")
    if not options.layer or options.guide:
        stage_layers(card)
    if options.layer and options.guide and not card.layer(options.layer).spatial:
        raise UnsupportedError(f"a guide needs a layer whose units are maps, and {options.layer} has one position")


def octave_sizes(height: int, width: int, count: int, scale: float, least: int) -> list[tuple[int, int]]:
    """The sizes small to large, the last the whole; those with a side under `least` pixels are left out."""
    sizes = [(round(height / scale**i), round(width / scale**i)) for i in range(count)]
    return [size for i, size in enumerate(sizes) if i == 0 or min(size) >= least][::-1]


def _term(job: Job, layer: Layer) -> Term:
    from engine.features import unit_maps
    from engine.make.canvas import to_picture
    from engine.make.losses import GuideSimilarity, LayerEnergy, UnitActivation, ascend
    from engine.make.sizes import features_of

    options: DreamOptions = job.options
    if options.unit is not None:
        return ascend("activation", UnitActivation(layer, options.unit, "mean"))
    if not options.guide:
        return ascend("energy", LayerEnergy(layer))
    frame = job.card.preprocessing.frame(job.read_photo(options.guide))
    features = features_of(job, to_picture(frame, job.device), [layer.name])[layer.name]
    return ascend("similarity", GuideSimilarity(layer, unit_maps(features, layer)[0].flatten(1).T.contiguous()))


def dream(job: Job) -> Result:
    """Image `dream`, array `loss` by step, table `losses` with octave, step, loss and the term."""
    import pandas as pd
    import torch

    from engine.make.canvas import PixelCanvas, resized, to_image, to_picture, to_pixels, to_preview
    from engine.make.layers import layer_at
    from engine.make.loop import gradient_steps, optimise
    from engine.make.projection import box
    from engine.make.sizes import features_of, photo_pixels
    from engine.make.transforms import Roll

    options: DreamOptions = job.options
    card = job.card
    if job.photo is None:
        raise OptionsError("a dream needs a photo: give --image PATH or --image sample:cat")
    layer = card.layer(options.layer) if options.layer else layer_at(card, 0.65)
    long_side = options.size or 2 * max(card.preprocessing.size)
    whole = to_picture(photo_pixels(job, job.photo, long_side), job.device)
    height, width = whole.shape[-2:]
    features_of(job, whole, [layer.name])
    term = _term(job, layer)
    sizes = octave_sizes(height, width, options.octaves, options.octave_scale, least=32)
    if len(sizes) < options.octaves:
        job.warn(f"{len(sizes)} of {options.octaves} octaves: smaller ones would be under 32 pixels")
    costs = [h * w for h, w in sizes]
    detail: Tensor | None = None
    frames: list[NDArray[Any]] = []
    tables: list[pd.DataFrame] = []
    for octave, (h, w) in enumerate(sizes):
        base = resized(whole, h, w)
        start = base if detail is None else (base + resized(detail, h, w)).clamp(0, 1)
        jitter = min(options.jitter, min(h, w) // 4)
        made = optimise(
            job,
            PixelCanvas(start),
            [term],
            steps=options.steps,
            optimiser=gradient_steps(options.step_size / 255),
            transforms=[Roll(jitter)] if jitter else [],
            projection=box,
            seed=job.seed + octave,
            portion=(sum(costs[:octave]) / sum(costs), sum(costs[: octave + 1]) / sum(costs)),
            message=f"octave {octave + 1} of {len(sizes)}, step",
            preview=lambda picture: to_preview(resized(picture, height, width)),
        )
        detail = made.picture - base
        tables.append(made.losses.assign(octave=octave))
        frames.append(to_pixels(resized(made.picture, height, width))[0])
        if made.stopped:
            break
    losses = pd.concat(tables, ignore_index=True)
    losses["step"] = range(len(losses))
    job.record(provider="torch", precision="fp32")
    about = f"{layer.name}" if options.unit is None else f"{layer.name} unit {options.unit}"
    change = float(torch.from_numpy(frames[-1].astype("float32") - to_pixels(whole)[0]).abs().mean())
    return Result(
        arrays={"loss": losses["loss"].to_numpy()},
        tables={"losses": losses},
        images={"dream": to_image(frames[-1]), "photo_whole": to_image(to_pixels(whole)[0])},
        summary={
            "layer": layer.name,
            **({} if options.unit is None else {"unit": options.unit}),
            term.name: float(losses[term.name].iloc[-1]),
            "mean_change": change,
            "width": width,
            "height": height,
        },
        panels=[
            Panel(
                kind="image",
                title=f"What {about} dreams of this photo",
                help="Whatever the layer saw a trace of was made stronger, large shapes first.",
                image="dream",
            ),
            Panel(kind="image", title="The photo", help="As it was.", image="photo_whole"),
            Panel(
                kind="curve",
                title="How it grew",
                help="Each size starts lower than the one before ended: fine detail is new to it.",
                table="losses",
                x="step",
                y=(term.name,),
            ),
        ],
        preview="dream",
    )


def work(card: Card, options: DreamOptions, images: int) -> float:
    """Forward passes of the input's size: a step is a forward and a backward of the octave's size."""
    side = (options.size or 2 * max(card.preprocessing.size)) / max(card.preprocessing.size)
    areas = sum(side**2 / options.octave_scale ** (2 * i) for i in range(options.octaves))
    return 3.0 * options.steps * areas * 0.75


METHOD = Method(
    name="dream",
    title="DeepDream",
    verb="make",
    family="DeepDream",
    question="What does it dream of?",
    summary="What a layer sees in a photo is made stronger, coarse to fine (Mordvintsev et al. 2015).",
    options=DreamOptions,
    run=dream,
    work=work,
    gradients=True,
    check=check,
)
