"""Fooling images: they mean nothing to a person, and the network is all but certain of them.

Nguyen, Yosinski and Clune 2015: gradient ascent on a class from noise with L2 decay (section 2.3), and evolution
(section 2.2, here patch by patch, see engine/make/attack/evolution.py). A probability counts only on the 8-bit picture
as it is saved.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassesKind, Options, class_indices, option
from fovea.engine.panels import CurvePanel, GalleryPanel, TablePanel

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from fovea.models.card import Card

CHOSEN = 4
MOST = 100
"""At most so many classes in one grid."""
ROUND = 5
"""Steps of ascent between two looks at the 8-bit pictures."""
OVERALL = ("the least certain", "mean")
PREVIEW_SECONDS = 0.5
STEPS, GENERATIONS = 2000, 150
"""At most so many of each way, unless told."""


class FoolingOptions(Options):
    """Which classes, and how their pictures are found."""

    classes: str = option(
        "", f"Classes, with commas; empty: {CHOSEN} spread over the network's list", kind=ClassesKind()
    )
    way: Literal["ascent", "evolution"] = option(
        "ascent", "ascent: by gradient from noise; evolution: by forward passes alone (both Nguyen 2015)"
    )
    confidence: float = option(0.99, "The probability at which a picture is finished (Nguyen 2015: 0.99)", gt=0, lt=1)
    steps: int | None = option(
        None,
        f"Most steps; it ends when it is sure. Empty: {STEPS} of ascent, {GENERATIONS} generations of evolution",
        ge=1,
        le=20000,
        unit="steps",
        advanced=True,
    )
    decay: float = option(
        0.01, "Ascent: how far each step draws every pixel to the mean colour (Nguyen 2015)", ge=0, lt=1, advanced=True
    )
    step_size: float = option(
        0.01, "Ascent: root mean square change of a step, of pixel values from 0 to 1", gt=0, le=1, advanced=True
    )
    population: int = option(40, "Evolution: children of each generation", ge=4, le=4096, advanced=True)


def _wanted(card: Card, options: FoolingOptions) -> list[int]:
    """The classes to be fooled, by index."""
    import numpy as np

    chosen = class_indices(card, options.classes)
    count = len(card.classes)
    return chosen or sorted({int(place) for place in np.linspace(0, count - 1, min(CHOSEN, count)).round()})


def check(card: Card, options: FoolingOptions) -> None:
    """Raise in one line where there is no class, or too many of them."""
    if not card.classes or card.output == "features":
        raise UnsupportedError(f"{card.name} has no classes, so there is nothing to fool it about")
    count = len(class_indices(card, options.classes))
    if count > MOST:
        raise OptionsError(f"{count} classes are too many for one grid: name at most {MOST}")


def _ascent(job: Job, wanted: list[int], ask: Any) -> tuple[NDArray[Any], list[dict[str, float]]]:
    """All classes at once from noise: the best 8-bit frames (N, H, W, C) and the probabilities after each round."""
    import numpy as np
    import torch

    from fovea.engine.make.attack.gradient import CrossEntropy
    from fovea.engine.make.optimise.canvas import PixelCanvas, to_pixels
    from fovea.engine.make.optimise.growth import Growth, Iterate
    from fovea.engine.make.optimise.loop import optimise
    from fovea.engine.make.optimise.losses import Term
    from fovea.engine.make.optimise.optimisers import gradient_steps
    from fovea.engine.make.optimise.projection import Chain, Decay, box

    options, preprocessing = job.options, job.card.preprocessing
    height, width = preprocessing.size
    mean = _mean_colour(job)
    generator = torch.Generator().manual_seed(job.seed)
    shape = (len(wanted), preprocessing.channels, height, width)
    start = mean + 0.1 * torch.randn(shape, generator=generator).to(job.device)
    canvas = PixelCanvas(start.clamp(0, 1))
    term = Term(
        "cross-entropy", CrossEntropy(torch.tensor(wanted, device=job.device), job.card.output == "probabilities")
    )
    size = options.step_size * float(np.sqrt(start[0].numel()))
    best = Best(len(wanted))
    first = to_pixels(canvas.picture())
    best.see(0, first, ask(first)[np.arange(len(wanted)), wanted])
    steps = options.steps or STEPS

    growth = Growth(job.progress, draw=_grid_preview)

    def enough(iterate: Iterate) -> bool:
        growth(iterate)
        done = iterate.step
        if done % ROUND and done < steps:
            return False
        frames = to_pixels(iterate.canvas.picture())
        best.see(done, frames, ask(frames)[np.arange(len(wanted)), wanted])
        return best.all_above(options.confidence)

    optimise(
        job,
        canvas,
        [term],
        steps=steps,
        optimiser=gradient_steps(size, "l2"),
        projection=Chain((Decay(mean, options.decay), box)),
        callback=enough,
    )
    return best.frames, best.rows


class Best:
    """The best frame and probability of each class so far, and a row for each look."""

    def __init__(self, count: int) -> None:
        self.found: list[NDArray[Any] | None] = [None] * count
        self.probabilities = [-1.0] * count
        self.rows: list[dict[str, float]] = []

    def see(self, step: int, frames: NDArray[Any], probabilities: NDArray[Any]) -> None:
        """Look at the frames of all classes after a step."""
        for place, (frame, probability) in enumerate(zip(frames, probabilities.tolist(), strict=True)):
            if probability > self.probabilities[place]:
                self.found[place], self.probabilities[place] = frame.copy(), probability
        self.rows.append(
            {
                "step": step,
                "the least certain": min(self.probabilities),
                "mean": sum(self.probabilities) / len(self.probabilities),
            }
        )

    def all_above(self, enough: float) -> bool:
        """Whether every class is done."""
        return min(self.probabilities) > enough

    @property
    def frames(self) -> NDArray[Any]:
        """The best frames (N, H, W, C)."""
        import numpy as np

        return np.stack([frame for frame in self.found if frame is not None])


def _mean_colour(job: Job) -> Any:
    """The colour that the network's normalisation takes for zero, (1, C, 1, 1) of pixel values."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    normalise = Normalise(job.card.preprocessing, job.device)
    zero = torch.zeros(1, job.card.preprocessing.channels, 1, 1, device=job.device)
    return normalise.inverse(zero).clamp(0, 1)


def _grid_preview(picture: Any) -> NDArray[Any]:
    from fovea.engine.make.optimise.canvas import to_pixels

    return _grid(to_pixels(picture))[0]


def _grid(frames: NDArray[Any]) -> tuple[NDArray[Any], int, int]:
    """Frames (N, H, W, C) as one sheet of square tiles; the tile's side and the columns."""
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

    tile, columns = max(64, *frames.shape[1:3]), square_columns(len(frames), 10)
    return Sheet(tile, columns).compose(fit_tile(as_colour(frame), tile) for frame in frames), tile, columns


def _evolution(job: Job, wanted: list[int]) -> tuple[NDArray[Any], list[dict[str, float]]]:
    """All classes by forward passes: the best frames (N, H, W, C), and their probabilities by generation."""
    import numpy as np

    from fovea.engine.make.attack.evolution import Elites, evolve
    from fovea.engine.make.judge.classifier import RuntimeClassifier

    options, preprocessing = job.options, job.card.preprocessing
    steps = options.steps or GENERATIONS
    names = [f"probability of {job.card.classes[target]}" for target in wanted]
    rows: list[dict[str, float]] = []
    shown = 0.0

    def told(generation: int, best: Elites) -> None:
        nonlocal shown
        if generation + 1 > len(rows) or not rows:
            rows.append({})
        each = dict(zip(names, best.probabilities.tolist(), strict=True))
        curve = dict(zip(OVERALL, (float(best.probabilities.min()), float(best.probabilities.mean())), strict=True))
        rows[-1] = {"step": generation + 1, **curve, **each}
        done = int((best.probabilities > options.confidence).sum())
        words = f"generation {generation + 1}, {done} of {len(wanted)} are certain"
        due = time.monotonic() - shown >= PREVIEW_SECONDS
        job.progress((generation + 1) / steps, words, _grid(best.frames)[0] if due else None, curve)
        shown = time.monotonic() if due else shown

    found = evolve(
        RuntimeClassifier(job),
        wanted,
        preprocessing.size,
        preprocessing.channels,
        population=options.population,
        generations=steps,
        enough=float(np.nextafter(options.confidence, 1)),
        seed=job.seed,
        told=told,
    )
    if not rows:  # the mosaics of the start were enough
        told(-1, found)
    return found.frames, rows


def _shown(history: pd.DataFrame) -> tuple[str, ...]:
    """The columns of the curve: each class while they are few, else the least certain and the mean."""
    each = tuple(str(column) for column in history.columns if column not in ("step", *OVERALL))
    return each if 0 < len(each) <= CHOSEN else OVERALL


def fooling(job: Job) -> Result:
    """Image `fooling` (a grid of all classes), and `fooling_NUMBER` (8-bit, input-sized) for each class.

    Tables `classes` (class, index, probability as saved, fools, told: both in words) and `steps`.
    """
    import numpy as np
    import pandas as pd

    from fovea.engine.make.attack.survival import saved_and_read
    from fovea.engine.make.judge.classifier import classifier
    from fovea.engine.make.optimise.canvas import to_image

    options, card = job.options, job.card
    wanted = _wanted(card, options)
    ask = classifier(job)
    frames, rows = _ascent(job, wanted, ask) if options.way == "ascent" else _evolution(job, wanted)
    frames = np.stack([saved_and_read(frame) for frame in frames])
    found = ask(frames)
    probabilities = found[np.arange(len(wanted)), wanted]
    fools = (found.argmax(1) == wanted) & (probabilities > options.confidence)
    table = pd.DataFrame(
        {
            "class": [card.classes[index] for index in wanted],
            "index": wanted,
            "probability": probabilities.astype(float),
            "fools": fools,
            "told": [f"{card.classes[i]} {found:.1%}" for i, found in zip(wanted, probabilities, strict=True)],
        }
    )
    if not fools.all():
        missed = table.loc[~table["fools"], "class"].tolist()
        job.warn(
            f"{len(missed)} of {len(wanted)} did not reach {options.confidence:g} ({', '.join(missed[:3])}"
            f"{' …' if len(missed) > 3 else ''}): raise steps"
        )
    sheet, tile, columns = _grid(frames)
    if options.way == "ascent":
        job.record(provider="torch", precision="fp32")
    history = pd.DataFrame(rows)
    images: dict[str, Any] = {"fooling": sheet}
    images |= {f"fooling_{index}": to_image(frame) for index, frame in zip(wanted, frames, strict=True)}
    return Result(
        tables={"classes": table, "steps": history},
        images=images,
        summary={
            "classes": len(wanted),
            "fooled": int(fools.sum()),
            "least": float(probabilities.min()),
            "mean": float(probabilities.mean()),
        },
        panels=[
            GalleryPanel(
                title="What it is certain of",
                help=f"Each picture is made from noise by {options.way}, rounded to 8 bits, saved and read back; the "
                "number is the network's probability of the class then.",
                image="fooling",
                table="classes",
                tile=tile,
                columns=columns,
                caption=("told",),
            ),
            CurvePanel(
                title="How it went",
                help="Probability of the best 8-bit picture so far.",
                table="steps",
                x="step",
                y=_shown(history),
                units="probability",
            ),
            TablePanel(
                title="Class by class",
                help="As saved.",
                table="classes",
                beside=True,
            ),
        ],
        preview="fooling",
    )


def work(card: Card, options: FoolingOptions, images: int) -> float:
    """Forward passes: three a step and class by ascent; a generation and class by evolution."""
    count = len(_wanted(card, options))
    if options.way == "ascent":
        return 3.0 * count * min(options.steps or STEPS, 100)
    return float(count * (options.population + 6) * min(options.steps or GENERATIONS, 30))


METHOD = Method(
    name="fooling",
    title="Fooling images",
    verb="make",
    family="Fooling images",
    question="What nonsense is it certain of?",
    summary="Pictures that mean nothing to a person and are a class with a probability over 0.99, made from noise "
    "by ascent or by evolution (Nguyen et al. 2015).",
    options=FoolingOptions,
    compute=fooling,
    work=work,
    photo=False,
    gradients=True,
    gradient_free={"way": ("evolution",)},
    version=2,
    check=check,
)
