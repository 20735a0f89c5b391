"""The score that is watched while windows are covered: the question to the network, and its answer for every window."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.occluding.windows import mean_drop, overlay
from fovea.models.card import OUTPUT

if TYPE_CHECKING:
    from fovea.engine.look.occlusion import OcclusionOptions
    from fovea.engine.look.probing.probe import Build, Probe
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.models.card import Card

BEST = 5
"""How many of the best classes are kept for each window."""

PREVIEW_SECONDS = 1.0
"""A running map is drawn this often."""


@dataclass
class Watched:
    """What was seen under the windows: the class's index (-1: a unit), the clean score, `score` (rows, cols),
    and index and probability of the best classes, `best` (rows, cols, five, 2), `clean_best` (five, 2)."""

    index: int
    clean: float
    score: NDArray[np.float32]
    best: NDArray[np.float64] | None = None
    clean_best: NDArray[np.float64] | None = None


def open_probe(job: Job[OcclusionOptions], ys: NDArray[np.int64], xs: NDArray[np.int64]) -> Probe:
    """What takes the photo, the cover and window corners, and answers with the watched scores.

    On a CPU only what a window can change is computed, where that saves work; else the photo is occluded inside
    the graph and goes through the whole of it.
    """
    from fovea.engine.look.occluding.incremental import IncrementalProbe, plan_for
    from fovea.engine.look.probing import reducers
    from fovea.engine.look.probing.probe import Probe

    window, taps, question = job.options.window, [_tap(job.options)], _question(job.card, job.options)
    plan = plan_for(job, taps, window, ys, xs)
    if plan:
        return IncrementalProbe(job, plan, window, taps, question)

    def occlude_and_ask(editor: Editor, tensors: Mapping[str, str]) -> None:
        reducers.occluded_input(editor, job.card.preprocessing, window)
        question(editor, tensors)

    return Probe(job, taps, occlude_and_ask)


def _tap(options: OcclusionOptions) -> str:
    return options.layer or OUTPUT


def _question(card: Card, options: OcclusionOptions) -> Build:
    """The nodes of the question: the watched scores."""
    from fovea.engine.look.probing import reducers

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        tap = _tap(options)
        if options.unit is not None:
            layer = reducers.read_layer(card, tap)
            maximum = editor.reduce("ReduceMax", reducers.as_maps(editor, tensors[tap], layer), [2, 3])
            editor.answer(reducers.unit_values(editor, maximum, card.unit(tap, options.unit)), "unit")
            return
        logits_known = card.meaning.knows_logits
        probabilities = reducers.class_scores(editor, tensors[tap], card, "probability")
        editor.answer(probabilities, "probabilities")
        watched = tensors[tap] if options.score == "logit" and logits_known else probabilities
        editor.answer(editor.float32(watched), "scores")

    return build


def watch_windows(
    job: Job[OcclusionOptions],
    probe: Probe,
    cover: NDArray[np.float32],
    ys: NDArray[np.int64],
    xs: NDArray[np.int64],
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
    watched = Watched(index, float(_values(clean, index)[0]), np.full((len(ys), len(xs)), np.nan, np.float32))
    if index >= 0:
        watched.clean_best = _best_classes(clean["probabilities"])[0]
        watched.best = np.empty((len(ys), len(xs), *watched.clean_best.shape), np.float64)
    # Column by column: a graph that occludes prepares each distinct x of a batch once.
    order = [(row, column) for column in range(len(xs)) for row in range(len(ys))]
    size = probes.batch_size(probe.provider)
    draw_next = time.monotonic() + PREVIEW_SECONDS
    for start in range(0, len(order), size):
        rows, columns = np.array(order[start : start + size]).T
        answers = ask(ys[rows], xs[columns])
        watched.score[rows, columns] = _values(answers, index)
        if watched.best is not None:
            watched.best[rows, columns] = _best_classes(answers["probabilities"])
        preview, now = None, time.monotonic()
        if now > draw_next:
            drop = np.float32(watched.clean) - watched.score
            preview = overlay(job.frame, mean_drop(drop, ys, xs, options.window, (height, width)))
            # A map of many windows takes long to draw: never more than a small share of the time goes there.
            draw_next = time.monotonic() + PREVIEW_SECONDS + 30 * (time.monotonic() - now)
        done = min(start + size, len(order))
        job.progress(done / len(order), f"window {done} of {len(order)}", preview)
    return watched


def _values(answers: Mapping[str, NDArray[Any]], index: int) -> NDArray[np.float32]:
    """The watched value of each picture of a batch."""
    return np.asarray(answers["unit"] if index < 0 else answers["scores"][:, index], np.float32)


def _watched_class(card: Card, options: OcclusionOptions, clean: Mapping[str, NDArray[Any]]) -> int:
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
