"""Fooling images: they mean nothing to a person, and the network is all but certain of them.

Nguyen, Yosinski and Clune 2015: gradient ascent on a class from noise with L2 decay (section 2.3), and evolution
(section 2.2, here patch by patch, see engine/make/fool/evolution.py). A probability counts only on the 8-bit picture
as it is saved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassesKind, Options, class_indices, option
from fovea.engine.panels import CurvePanel, GalleryPanel, TablePanel

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

    from fovea.engine.make.judge.classifier import Ask
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
        "",
        "The classes that the pictures are to be, with commas: by name or number.",
        kind=ClassesKind(),
        empty=f"{CHOSEN} classes spread over the network's list",
    )
    way: Literal["ascent", "evolution"] = option(
        "ascent",
        "How the pictures are found. ascent follows the gradient from noise and is faster; evolution needs forward "
        "passes alone, so it also works on an ONNX file. Both are of Nguyen et al. 2015.",
    )
    confidence: float = option(
        0.99,
        "The probability at which a picture is finished. Nguyen et al. 2015 call a network fooled from 0.99 on.",
        gt=0,
        lt=1,
    )
    steps: int | None = option(
        None,
        "How many steps are taken at most; it ends sooner where every picture is finished. Raise it where a class is "
        "not reached.",
        ge=1,
        le=20000,
        unit="steps",
        advanced=True,
        empty=f"{STEPS} steps of ascent, {GENERATIONS} generations of evolution",
    )
    decay: float = option(
        0.01,
        "How far each step draws every pixel to the mean colour, as a part of the difference (L2 decay, Nguyen et al. "
        "2015). A larger one gives softer pictures that are harder to finish. Only ascent reads it.",
        ge=0,
        lt=1,
        advanced=True,
    )
    step_size: float = option(
        0.01,
        "How much a step changes the picture: the root mean square over all pixel values, which go from 0 to 1. Only "
        "ascent reads it.",
        gt=0,
        le=1,
        advanced=True,
    )
    population: int = option(
        40, "How many children each generation has. Only evolution reads it.", ge=4, le=4096, advanced=True
    )


def _wanted(card: Card, options: FoolingOptions) -> list[int]:
    """The classes to be fooled, by index."""
    import numpy as np

    chosen = class_indices(card, options.classes)
    count = len(card.classes)
    return chosen or sorted({int(place) for place in np.linspace(0, count - 1, min(CHOSEN, count)).round()})


def check(card: Card, options: FoolingOptions) -> None:
    """Raise in one line where there is no class, or too many of them."""
    if not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes, so there is nothing to fool it about.")
    count = len(class_indices(card, options.classes))
    if count > MOST:
        raise OptionsError(f"{count} classes are too many for one grid: name at most {MOST}.")


class Made(NamedTuple):
    """The best 8-bit frames (N, H, W, C) of all classes, and the probabilities on the way to them."""

    frames: NDArray[np.uint8]
    rows: list[dict[str, float]]


def _ascent(job: Job[FoolingOptions], wanted: list[int], ask: Ask) -> Made:
    """All classes at once from noise: the best 8-bit frames, and the probabilities after each round."""
    import numpy as np
    import torch

    from fovea.engine.make.attack.shared.scores import CrossEntropy
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
    term = Term("cross-entropy", CrossEntropy(torch.tensor(wanted, device=job.device), job.card.meaning))
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
    return Made(best.frames, best.rows)


class Best:
    """The best frame and probability of each class so far, and a row for each look."""

    def __init__(self, count: int) -> None:
        self._best: list[NDArray[np.uint8] | None] = [None] * count
        self.probabilities = [-1.0] * count
        self.rows: list[dict[str, float]] = []

    def see(self, step: int, frames: NDArray[np.uint8], probabilities: NDArray[np.float64]) -> None:
        """Look at the frames of all classes after a step."""
        for place, (frame, probability) in enumerate(zip(frames, probabilities.tolist(), strict=True)):
            if probability > self.probabilities[place]:
                self._best[place], self.probabilities[place] = frame.copy(), probability
        least, mean = min(self.probabilities), sum(self.probabilities) / len(self.probabilities)
        self.rows.append({"step": step, **dict(zip(OVERALL, (least, mean), strict=True))})

    def all_above(self, enough: float) -> bool:
        """Whether every class is done."""
        return min(self.probabilities) > enough

    @property
    def frames(self) -> NDArray[np.uint8]:
        """The best frames (N, H, W, C)."""
        import numpy as np

        return np.stack([frame for frame in self._best if frame is not None])


def _mean_colour(job: Job[FoolingOptions]) -> Tensor:
    """The colour that the network's normalisation takes for zero, (1, C, 1, 1) of pixel values."""
    import torch

    from fovea.engine.make.optimise.canvas import Normalise

    normalise = Normalise(job.card.preprocessing, job.device)
    zero = torch.zeros(1, job.card.preprocessing.channels, 1, 1, device=job.device)
    return normalise.inverse(zero).clamp(0, 1)


def _grid_preview(picture: Tensor) -> NDArray[np.uint8]:
    from fovea.engine.make.optimise.canvas import to_pixels

    return _grid(to_pixels(picture))[0]


def _grid(frames: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], int, int]:
    """Frames (N, H, W, C) as one sheet of square tiles; the tile's side and the columns."""
    from fovea.engine.explain.maps.pictures import as_colour
    from fovea.engine.panels.sheet import Sheet, fit_tile, square_columns

    tile, columns = max(64, *frames.shape[1:3]), square_columns(len(frames), 10)
    return Sheet(tile, columns).compose(fit_tile(as_colour(frame), tile) for frame in frames), tile, columns


def _evolution(job: Job[FoolingOptions], wanted: list[int]) -> Made:
    """All classes by forward passes: the best frames, and their probabilities by generation."""
    import numpy as np

    from fovea.engine.make.fool.evolution import Elites, evolve
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

    best = evolve(
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
        told(-1, best)
    return Made(best.frames, rows)


def _shown(history: pd.DataFrame) -> tuple[str, ...]:
    """The columns of the curve: each class while they are few, else the least certain and the mean."""
    each = tuple(str(column) for column in history.columns if column not in ("step", *OVERALL))
    return each if 0 < len(each) <= CHOSEN else OVERALL


@dataclass(frozen=True)
class Findings:
    """The fooling images of the classes `wanted` (indices), as they are saved.

    `frames` (N, H, W, C), uint8, and the `probabilities` (N,) of their classes; `fools` (N,) which of them are their
    class to the network, surely enough. `rows`: the probabilities on the way.
    """

    wanted: list[int]
    frames: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    fools: NDArray[np.bool_]
    rows: list[dict[str, float]]


def compute(job: Job[FoolingOptions]) -> Findings:
    """Make a picture for each class, save it, and ask the network what it is."""
    import numpy as np

    from fovea.engine.make.attack.outcome.survival import saved_and_read
    from fovea.engine.make.judge.classifier import classifier

    options, wanted, ask = job.options, _wanted(job.card, job.options), classifier(job)
    if options.way == "ascent":
        made = _ascent(job, wanted, ask)
        job.record(provider="torch", precision="fp32")
    else:
        made = _evolution(job, wanted)
    frames = np.stack([saved_and_read(frame) for frame in made.frames])
    answers = ask(frames)
    probabilities = answers[np.arange(len(wanted)), wanted]
    fools = (answers.argmax(1) == wanted) & (probabilities > options.confidence)
    return Findings(wanted, frames, probabilities, fools, made.rows)


def report(job: Job[FoolingOptions], findings: Findings) -> Result:
    """Image `fooling` (a grid of all classes), and `fooling_NUMBER` (8-bit, input-sized) for each class.

    Tables `classes` (class, index, probability as saved, fools, told: both in words) and `steps`.
    """
    import pandas as pd

    from fovea.engine.make.optimise.canvas import to_image

    options, wanted, probabilities, fools = job.options, findings.wanted, findings.probabilities, findings.fools
    names = [job.card.classes[index] for index in wanted]
    table = pd.DataFrame(
        {
            "class": names,
            "index": wanted,
            "probability": probabilities.astype(float),
            "fools": fools,
            "told": [f"{name} {probability:.1%}" for name, probability in zip(names, probabilities, strict=True)],
        }
    )
    if not fools.all():
        missed = table.loc[~table["fools"], "class"].tolist()
        job.warn(
            f"{len(missed)} of {len(wanted)} classes did not reach {options.confidence:g} ({', '.join(missed[:3])}"
            f"{' …' if len(missed) > 3 else ''}): raise steps."
        )
    sheet, tile, columns = _grid(findings.frames)
    history = pd.DataFrame(findings.rows)
    images: dict[str, Any] = {"fooling": sheet}
    images |= {f"fooling_{index}": to_image(frame) for index, frame in zip(wanted, findings.frames, strict=True)}
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
                help=f"Each picture was made from noise by {options.way}, rounded to 8 bits, saved and read back. The "
                "number is the network's probability of the class then.",
                image="fooling",
                table="classes",
                tile=tile,
                columns=columns,
                caption=("told",),
            ),
            CurvePanel(
                title="How it went",
                help="The curves show the probability of the best 8-bit picture so far.",
                table="steps",
                x="step",
                y=_shown(history),
                units="probability",
            ),
            TablePanel(
                title="Class by class",
                help="The probabilities are those of the pictures as they are saved, in 8 bits. A class counts as "
                f"fooled if the network prefers it with more than {options.confidence:g}.",
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
    compute=compute,
    report=report,
    work=work,
    photo=False,
    gradients=True,
    gradient_free={"way": ("evolution",)},
    version=2,
    check=check,
)
