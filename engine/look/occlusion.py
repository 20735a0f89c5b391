"""Occlusion: cover one window of the photo after another and watch a score fall.

Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2014), section 4.2. They cover with
grey; here a fill is chosen, the network's mean unless told, and the photo is occluded after normalisation, so
that the mean is exactly 0. Windows at the right and lower edge are clipped, never left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import OptionsError, UnsupportedError
from fovea.engine.look.occluding.covers import cover_picture
from fovea.engine.look.occluding.watching import Watched, open_probe, watch_windows
from fovea.engine.look.occluding.windows import corners, mean_drop, overlay
from fovea.engine.look.probing.layers import with_units
from fovea.engine.maps import ClassOrUnit, Map
from fovea.engine.method import Job, Method, Result
from fovea.engine.options import ClassKind, DatasetKind, LayerKind, Options, UnitKind, option
from fovea.engine.panels import BarsPanel, Cells, OverlayPanel, Panel

if TYPE_CHECKING:
    import pandas as pd

    from fovea.models.card import Card


class OcclusionOptions(Options):
    """Which windows are covered, with what, and which score is watched."""

    window: int = option(
        32,
        "The side of the covered square. A small window shows details, a large one covers whole objects.",
        unit="px",
        ge=1,
        le=4096,
    )
    stride: int = option(
        16,
        "The step from one window to the next. Half of the step makes a finer map and takes four times as long.",
        unit="px",
        ge=1,
        le=4096,
    )
    fill: Literal["mean", "photo", "black", "grey", "noise", "blur", "dataset"] = option(
        "mean",
        "What covers the window: the network's mean colour, the photo's mean colour, black, grey, random noise, the "
        "photo itself but blurred, or the mean image of a data set. The network's mean is zero after normalisation, so "
        "that it adds no pattern of its own.",
    )
    target: str = option(
        "",
        "The class that is watched, by its name or number.",
        kind=ClassKind(),
        coerce_numbers_to_str=True,
        empty="the network's top class for the photo",
    )
    score: Literal["probability", "logit"] = option(
        "probability",
        "What is watched of the class. A probability also falls when another class rises; a logit does not.",
    )
    layer: str = option(
        "",
        "Watch a unit of this layer instead of a class.",
        kind=LayerKind(),
        advanced=True,
        empty="a class is watched",
    )
    unit: int | None = option(
        None,
        "The unit of that layer that is watched, by the largest value in its map.",
        kind=UnitKind(),
        advanced=True,
        empty="a class is watched",
    )
    dataset: str = option(
        "",
        "The data set whose mean image covers the windows. It is read with fill dataset only.",
        kind=DatasetKind(),
        advanced=True,
        empty="the sample photos",
    )


def check(card: Card, options: OcclusionOptions) -> None:
    """Raises OptionsError or UnsupportedError if the windows or the target do not go with the network."""
    short = min(card.preprocessing.size)
    if options.window > short:
        raise OptionsError(
            f"window must be at most {short}, the short side of the input of {card.name}, not {options.window}"
        )
    if options.stride > options.window:
        raise OptionsError(
            f"stride must be at most the window, {options.window}, not {options.stride}: else pixels between the "
            "windows would never be covered"
        )
    if options.layer and options.unit is None:
        last = card.layer(options.layer).units - 1
        raise OptionsError(f"unit is missing: choose one of layer {options.layer}, 0 to {last}")
    if options.unit is not None and not options.layer:
        raise OptionsError(f"layer is missing: choose the layer of unit {options.unit}, or give a target class instead")
    if options.dataset and options.fill != "dataset":
        raise OptionsError(f"dataset is read only with fill dataset, not with fill {options.fill}: leave it empty")
    if options.layer and options.target:
        raise OptionsError("target must be empty where a layer is given: watch a class or a unit, not both")
    if options.layer:
        with_units(card, options.layer)
    if not options.layer and not card.has_classes:
        raise UnsupportedError(f"{card.name} has no classes to watch: choose a layer and a unit instead")
    if not options.layer and options.score == "logit" and not card.meaning.knows_logits:
        raise OptionsError(
            f"score must be probability for {card.name}: it returns probabilities, and its logits are not known"
        )


@dataclass(frozen=True)
class Findings:
    """What the windows told: their corners `ys` (rows,) and `xs` (cols,), the `cover` (1, C, H, W) that filled them,
    the scores under them, their `drop` (rows, cols), and the mean drop of every pixel, `heatmap` (H, W)."""

    ys: NDArray[np.int64]
    xs: NDArray[np.int64]
    cover: NDArray[np.float32]
    watched: Watched
    drop: NDArray[np.float32]
    heatmap: NDArray[np.float32]


def compute(job: Job[OcclusionOptions]) -> Findings:
    """Cover every window in turn: its drop is the clean score minus the score under it."""
    options, (height, width) = job.options, job.card.preprocessing.size
    ys, xs = corners(height, options.window, options.stride), corners(width, options.window, options.stride)
    cover = cover_picture(job)
    job.progress(0.0, "opening the network")
    watched = watch_windows(job, open_probe(job, ys, xs), cover, ys, xs)
    drop = np.float32(watched.clean) - watched.score
    return Findings(ys, xs, cover, watched, drop, mean_drop(drop, ys, xs, options.window, (height, width)))


def report(job: Job[OcclusionOptions], findings: Findings) -> Result:
    """Arrays `score`, `drop` (rows, cols), `heatmap` (H, W), `ys`, `xs`; image `cover`.

    Where a class is watched, table `top`: row, column, rank, class, probability of the five best classes under every
    window; and table `clean`, the same of the photo as it is.
    """
    card, watched = job.card, findings.watched
    summary = _summary(card, job.options, findings)
    result = Result(
        arrays={
            "score": watched.score,
            "drop": findings.drop,
            "heatmap": findings.heatmap,
            "ys": findings.ys,
            "xs": findings.xs,
        },
        images={"cover": _picture(card.preprocessing.pixels(findings.cover[0]))},
        summary=summary,
        panels=_panels(card, job.options, summary),
        preview=overlay(job.frame, findings.heatmap),
    )
    if watched.best is not None and watched.clean_best is not None:
        result.tables["top"] = _best_table(card, watched.best)
        result.tables["clean"] = _best_table(card, watched.clean_best[None, None])[["rank", "class", "probability"]]
    return result


def _best_table(card: Card, best: NDArray[np.float64]) -> pd.DataFrame:
    import pandas as pd

    rows, columns, ranks, _ = best.shape
    row, column, rank = (grid.ravel() for grid in np.meshgrid(range(rows), range(columns), range(ranks), indexing="ij"))
    names = [card.classes[int(index)] for index in best[..., 0].ravel()]
    return pd.DataFrame(
        {"row": row, "column": column, "rank": rank, "class": names, "probability": best[..., 1].ravel()}
    )


def _summary(card: Card, options: OcclusionOptions, findings: Findings) -> dict[str, Any]:
    watched, drop = findings.watched, findings.drop
    row, column = np.unravel_index(int(np.argmax(drop)), drop.shape)
    return {
        "target": f"{options.layer} unit {options.unit}" if watched.index < 0 else card.classes[watched.index],
        f"clean {_measure(options)}": round(watched.clean, 6),
        "largest drop": round(float(drop[row, column]), 6),
        "at": f"x {findings.xs[column]}, y {findings.ys[row]}",
        "windows": int(drop.size),
    }


def _measure(options: OcclusionOptions) -> str:
    """What is watched, in a word: of a unit its value, of a class its probability or logit."""
    return "value" if options.layer else str(options.score)


def _panels(card: Card, options: OcclusionOptions, summary: dict[str, Any]) -> list[Panel]:
    measure = _measure(options)
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
            title=f"Where {card.name} looks for {summary['target']}",
            help=f"Each pixel shows how far the {measure} falls, on average, when a window over the pixel is covered; "
            f"without a cover it is {summary[f'clean {measure}']:.4g}. Click a place to see it covered.",
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
                help="These are the five classes that the network finds most likely for the uncovered photo.",
                table="clean",
                x="class",
                y=("probability",),
            )
        )
    return panels


def _picture(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame as a picture that can be saved: one channel without its axis."""
    return frame[..., 0] if frame.shape[-1] == 1 else frame


def work(card: Card, options: OcclusionOptions, images: int) -> float:
    """Forward passes: one for each window, and one for the photo."""
    height, width = card.preprocessing.size
    windows = len(corners(height, options.window, options.stride)) * len(corners(width, options.window, options.stride))
    return float(windows + 1)


def _few_windows(card: Card) -> dict[str, int]:
    """Seven windows a side, whatever the size of the input."""
    window = max(1, min(card.preprocessing.size) // 4)
    return {"window": window, "stride": max(1, window // 2)}


def _draw_copy(job: Job[OcclusionOptions], explained: ClassOrUnit) -> NDArray[np.float32]:
    from fovea.engine.look.occluding.in_torch import occlude_in_torch

    return occlude_in_torch(job, explained)


METHOD = Method(
    name="occlusion",
    title="Occlusion",
    verb="look",
    family="Occlusion",
    question="Where does it look?",
    home="Where does it look?",
    summary="Covers one window of the photo after another and maps how far the score falls (Zeiler and Fergus 2014).",
    options=OcclusionOptions,
    compute=compute,
    report=report,
    work=work,
    check=check,
    maps=(Map("occlusion", "Occlusion", "heatmap", order=40, quick=_few_windows, draw_copy=_draw_copy),),
)
