"""Occlusion: cover one window of the photo after another and watch a score fall.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2. They cover with
grey; here a fill is chosen, the network's mean unless told, and the photo is occluded after normalisation, so
that the mean is exactly 0. Windows at the right and lower edge are clipped, never left out.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.explain.maps.family import trust_lead
from fovea.engine.look.probing.layers import with_units
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, DatasetKind, LayerKind, Options, UnitKind, option
from fovea.engine.panels import BarsPanel, Cells, OverlayPanel, Panel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.engine.look.probing.probe import Probe
    from fovea.models.card import Card

BEST = 5
"""How many of the best classes are kept for each window."""

PREVIEW_SECONDS = 1.0
"""A running map is drawn this often."""


class OcclusionOptions(Options):
    """Which windows are covered, with what, and which score is watched."""

    window: int = option(32, "side of the covered square, in pixels of the network's input", unit="px", ge=1, le=4096)
    stride: int = option(16, "step from one window to the next", unit="px", ge=1, le=4096)
    fill: Literal["mean", "photo", "black", "grey", "noise", "blur", "dataset"] = option(
        "mean",
        "what covers the window: the network's mean, the photo's mean colour, black, grey, noise, the photo "
        "blurred, or the mean image of a data set",
    )
    target: str = option(
        "", "class to watch, by name or number (default: the top class)", kind=ClassKind(), coerce_numbers_to_str=True
    )
    score: Literal["probability", "logit"] = option("probability", "what is watched of the class")
    layer: str = option("", "watch a unit of this layer instead of a class", kind=LayerKind(), advanced=True)
    unit: int | None = option(
        None, "the unit of that layer; its largest value is watched", kind=UnitKind(), advanced=True
    )
    dataset: str = option(
        "",
        "the data set whose mean image fills, with fill dataset (default: sample)",
        kind=DatasetKind(),
        advanced=True,
    )


def corners(length: int, window: int, stride: int) -> NDArray[np.int64]:
    """The first pixels of the windows along one side of the frame; the last window is clipped at the edge."""
    steps = -(-(length - window) // stride)
    return np.arange(steps + 1, dtype=np.int64) * stride


def mean_drop(
    drop: NDArray[np.float32], ys: NDArray[np.int64], xs: NDArray[np.int64], window: int, size: tuple[int, int]
) -> NDArray[np.float32]:
    """For every pixel of a (H, W) frame the mean drop of the windows that cover it, float32 (H, W).

    Windows whose drop is not known yet (NaN) are left out; a pixel under no known window is 0.
    """
    total, count = np.zeros(size), np.zeros(size)
    for row, y in enumerate(ys):
        for column, x in enumerate(xs):
            if not np.isnan(drop[row, column]):
                total[y : y + window, x : x + window] += drop[row, column]
                count[y : y + window, x : x + window] += 1
    return (total / np.maximum(count, 1)).astype(np.float32)


def cover_picture(job: Job) -> NDArray[np.float32]:
    """What fills the windows, as network input float32 (1, C, H, W)."""
    preprocessing, fill = job.card.preprocessing, job.options.fill
    shape = job.input.shape
    if fill == "mean":
        return np.zeros(shape, np.float32)
    if fill == "photo":
        return np.broadcast_to(job.input.mean(axis=(2, 3), keepdims=True, dtype=np.float64), shape).astype(np.float32)
    if fill in ("black", "grey"):
        values = np.full(shape, 0.0 if fill == "black" else 0.5, np.float32)
        return preprocessing.normalise_unit(values)
    if fill == "noise":
        noise = np.random.default_rng(job.seed).integers(0, 256, job.frame.shape, dtype=np.uint8)
        return preprocessing.normalise(noise)[None]
    if fill == "blur":
        return preprocessing.normalise(_blurred(job.frame, job.options.window / 2))[None]
    return preprocessing.normalise_unit(_dataset_mean(job))[None]


def _blurred(frame: NDArray[np.uint8], radius: float) -> NDArray[np.uint8]:
    """The frame so blurred that nothing of a window's size is left in it."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(frame.astype(np.float32), (radius, radius, 0), mode="nearest")
    return np.asarray(np.clip(np.rint(smooth), 0, 255), np.uint8)


def _dataset_mean(job: Job) -> NDArray[np.float32]:
    """The mean frame of the data set, float32 (C, H, W) in [0, 1]."""
    from fovea.engine.data.survey import mean_image

    job.progress(0.0, "taking the mean of the data set")
    mean = mean_image(job.dataset(job.options.dataset or "sample"), job.card.preprocessing)
    return np.moveaxis(mean / np.float32(255), -1, 0)


def check(card: Card, options: Any) -> None:
    """Raises OptionsError or UnsupportedError if the windows or the target do not go with the network."""
    height, width = card.preprocessing.size
    if options.window > min(height, width):
        raise OptionsError(
            f"window: at most {min(height, width)}, the short side of the input of {card.name}, not {options.window}"
        )
    if options.stride > options.window:
        raise OptionsError(
            f"stride: at most the window, {options.window}, or pixels between windows would never be covered, "
            f"not {options.stride}"
        )
    if options.layer and options.unit is None:
        raise OptionsError(f"unit: choose one of layer {options.layer}, 0 to {card.layer(options.layer).units - 1}")
    if options.unit is not None and not options.layer:
        raise OptionsError(f"layer: choose the layer of unit {options.unit}, or give a target class instead")
    if options.dataset and options.fill != "dataset":
        raise OptionsError(f"dataset: it fills the windows only with fill dataset, not with fill {options.fill}")
    if options.layer and options.target:
        raise OptionsError("target: give a class or a layer with a unit, not both")
    if options.layer:
        with_units(card, options.layer)
    if not options.layer and (not card.classes or card.output == "features"):
        raise UnsupportedError(f"{card.name} has no classes to watch: choose a layer and a unit instead")
    if not options.layer and options.score == "logit" and card.output == "probabilities":
        raise OptionsError(f"score: {card.name} returns probabilities and its logits are not known: use probability")


def run(job: Job) -> Result:
    """Score every window. Arrays `score`, `drop` (rows, cols), `heatmap` (H, W), `ys`, `xs`.

    `drop` is the clean score minus `score`. Table `top` (a class is watched): row, column, rank, class,
    probability of the five best classes under every window; table `clean` the same of the photo as it is.
    """
    options, card = job.options, job.card
    height, width = card.preprocessing.size
    ys, xs = corners(height, options.window, options.stride), corners(width, options.window, options.stride)
    cover = cover_picture(job)
    job.progress(0.0, "opening the network")
    found = watch_windows(job, open_probe(job, ys, xs), cover, ys, xs)
    drop = np.float32(found.clean) - found.score
    heatmap = mean_drop(drop, ys, xs, options.window, (height, width))
    result = Result(
        arrays={"score": found.score, "drop": drop, "heatmap": heatmap, "ys": ys, "xs": xs},
        images={"cover": _picture(card.preprocessing.pixels(cover[0]))},
        summary=_summary(card, options, found, drop, ys, xs),
        preview=overlay(job.frame, heatmap),
    )
    if found.best is not None and found.clean_best is not None:
        result.tables["top"] = _top_table(card, found.best)
        result.tables["clean"] = _top_table(card, found.clean_best[None, None])[["rank", "class", "probability"]]
    result.panels = _panels(card, options, result)
    return result


def open_probe(job: Job, ys: NDArray[np.int64], xs: NDArray[np.int64]) -> Probe:
    """What takes the photo, the cover and window corners, and answers with the watched scores.

    On a CPU only what a window can change is computed, where that saves work; else the photo is occluded inside
    the graph and goes through the whole of it.
    """
    from fovea.engine.look.occluding.incremental import IncrementalProbe, plan_for
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    options, taps, answer = job.options, [_tap(job.options)], _question(job.card, job.options)
    plan = plan_for(job, taps, options.window, ys, xs)
    if plan:
        return IncrementalProbe(job, plan, options.window, taps, answer)

    def occlude_and_answer(editor: reducers.Editor, tensors: Any) -> None:
        reducers.occluded_input(editor, job.card.preprocessing, options.window)
        answer(editor, tensors)

    return Probe(job, taps, occlude_and_answer)


@dataclass
class Watched:
    """What was seen under the windows: the class's index (-1: a unit), the clean score, `score` (rows, cols),
    and index and probability of the best classes, `best` (rows, cols, five, 2), `clean_best` (five, 2)."""

    index: int
    clean: float
    score: NDArray[np.float32]
    best: NDArray[np.float64] | None = None
    clean_best: NDArray[np.float64] | None = None


def watch_windows(
    job: Job, probe: Probe, cover: NDArray[np.float32], ys: NDArray[np.int64], xs: NDArray[np.int64]
) -> Watched:
    """Run every window of the grid `ys` × `xs`, and the photo as it is."""
    from fovea.engine.look.probing import probe as probes

    options, card = job.options, job.card
    height, width = card.preprocessing.size

    def ask(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        feeds: dict[str, NDArray[Any]] = {"photo": job.input, "cover": cover, "ys": rows, "xs": columns}
        return probe.run(feeds, batched=("ys", "xs"))

    # A window wholly below the frame covers nothing: the clean photo, through the very same graph.
    clean = ask(np.array([height], np.int64), np.zeros(1, np.int64))
    index = _watched_class(card, options, clean)
    found = Watched(index, float(_values(clean, index)[0]), np.full((len(ys), len(xs)), np.nan, np.float32))
    if index >= 0:
        found.clean_best = _best_classes(clean["probabilities"])[0]
        found.best = np.empty((len(ys), len(xs), *found.clean_best.shape), np.float64)
    # Column by column: a graph that occludes prepares each distinct x of a batch once.
    order = [(row, column) for column in range(len(xs)) for row in range(len(ys))]
    size = probes.batch_size(probe.provider)
    draw_next = time.monotonic() + PREVIEW_SECONDS
    for start in range(0, len(order), size):
        rows, columns = np.array(order[start : start + size]).T
        answers = ask(ys[rows], xs[columns])
        found.score[rows, columns] = _values(answers, index)
        if found.best is not None:
            found.best[rows, columns] = _best_classes(answers["probabilities"])
        preview, now = None, time.monotonic()
        if now > draw_next:
            drop = np.float32(found.clean) - found.score
            preview = overlay(job.frame, mean_drop(drop, ys, xs, options.window, (height, width)))
            # A map of many windows takes long to draw: never more than a small share of the time goes there.
            draw_next = time.monotonic() + PREVIEW_SECONDS + 30 * (time.monotonic() - now)
        done = min(start + size, len(order))
        job.progress(done / len(order), f"window {done} of {len(order)}", preview)
    return found


def _values(answers: dict[str, NDArray[Any]], index: int) -> NDArray[np.float32]:
    """The watched value of each picture of a batch."""
    return np.asarray(answers["unit"] if index < 0 else answers["scores"][:, index], np.float32)


def _tap(options: Any) -> str:
    from fovea.models.card import OUTPUT

    return options.layer or OUTPUT


def _question(card: Card, options: Any) -> Any:
    """The nodes of the question: the watched scores."""
    from fovea.engine.look.probing import reducers

    def build(editor: reducers.Editor, tensors: Any) -> None:
        tap = _tap(options)
        if options.layer:
            layer = reducers.read_layer(card, tap)
            maximum = editor.reduce("ReduceMax", reducers.as_maps(editor, tensors[tap], layer), [2, 3])
            editor.answer(reducers.unit_values(editor, maximum, card.unit(tap, options.unit)), "unit")
            return
        logits_known = card.output == "logits"
        probabilities = reducers.class_scores(editor, tensors[tap], card, "probability")
        editor.answer(probabilities, "probabilities")
        watched = tensors[tap] if options.score == "logit" and logits_known else probabilities
        editor.answer(editor.float32(watched), "scores")

    return build


def _watched_class(card: Card, options: Any, clean: dict[str, NDArray[Any]]) -> int:
    """The class that is watched: the target, or the clean photo's top class; -1 if it is a unit."""
    if options.layer:
        return -1
    if options.target:
        return card.class_index(options.target)
    return int(clean["probabilities"][0].argmax())


def _best_classes(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """The best classes of (N, K) probabilities: (N, five, 2) of class index and probability, best first."""
    indices = np.argsort(-probabilities, axis=1, kind="stable")[:, :BEST]
    return np.stack([indices.astype(np.float64), np.take_along_axis(probabilities, indices, 1)], axis=-1)


def _top_table(card: Card, best: NDArray[np.float64]) -> pd.DataFrame:
    import pandas as pd

    rows, columns, ranks, _ = best.shape
    row, column, rank = (grid.ravel() for grid in np.meshgrid(range(rows), range(columns), range(ranks), indexing="ij"))
    names = [card.classes[int(index)] for index in best[..., 0].ravel()]
    return pd.DataFrame(
        {"row": row, "column": column, "rank": rank, "class": names, "probability": best[..., 1].ravel()}
    )


def _summary(
    card: Card,
    options: Any,
    found: Watched,
    drop: NDArray[np.float32],
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
) -> dict[str, Any]:
    row, column = np.unravel_index(int(np.argmax(drop)), drop.shape)
    return {
        "target": f"{options.layer} unit {options.unit}" if found.index < 0 else card.classes[found.index],
        f"clean {_measure(options)}": round(found.clean, 6),
        "largest drop": round(float(drop[row, column]), 6),
        "at": f"x {xs[column]}, y {ys[row]}",
        "windows": int(drop.size),
    }


def _measure(options: Any) -> str:
    """What is watched, in a word: of a unit its value, of a class its probability or logit."""
    return "value" if options.layer else str(options.score)


def _panels(card: Card, options: Any, result: Result) -> list[Panel]:
    measure = _measure(options)
    target = result.summary["target"]
    cells = Cells(
        ys="ys",
        xs="xs",
        height=options.window,
        width=options.window,
        values="score",
        label=measure,
        cover="cover",
        table="" if options.layer else "top",
    )
    panels: list[Panel] = [
        OverlayPanel(
            title=f"Where {card.name} looks for {target}",
            help=f"How far the {measure} falls, on average, when a window over the pixel is covered; "
            f"without a cover it is {result.summary[f'clean {measure}']:.4g}. Click a place to see it covered.",
            array="heatmap",
            image="photo",
            scale="diverging",
            units=f"drop of {measure}",
            cells=cells,
        )
    ]
    if not options.layer:
        panels.append(
            BarsPanel(
                title="The photo as it is",
                help="The five classes that the network finds most likely.",
                table="clean",
                x="class",
                y=("probability",),
            )
        )
    return panels


def overlay(frame: NDArray[np.uint8], heatmap: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The frame in grey with a map over it, uint8 (H, W, 3): red where the score falls, blue where it rises."""
    grey = frame[..., :3].mean(axis=-1, keepdims=True)
    strength = heatmap / max(float(np.abs(heatmap).max()), 1e-12)
    colour = np.where(strength[..., None] >= 0, np.array([214, 39, 40]), np.array([31, 119, 180]))
    alpha = 0.75 * np.abs(strength)[..., None]
    return np.asarray(np.rint(grey * (1 - alpha) + colour * alpha), np.uint8)


def _picture(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as a picture that can be saved: one channel without its axis."""
    return frame[..., 0] if frame.shape[-1] == 1 else frame


def work(card: Card, options: Any, images: int) -> float:
    """Forward passes: one for each window, one for the photo, one for each image of a mean."""
    height, width = card.preprocessing.size
    windows = len(corners(height, options.window, options.stride)) * len(corners(width, options.window, options.stride))
    return float(windows + 1)


METHOD = Method(
    name="occlusion",
    title="Occlusion",
    verb="look",
    family="Occlusion",
    question="Where does it look?",
    home="Where does it look?",
    summary="Covers one window of the photo after another and maps how far the score falls (Zeiler and Fergus 2014).",
    options=OcclusionOptions,
    compute=run,
    work=work,
    check=check,
    leads=(trust_lead("occlusion"),),
)
