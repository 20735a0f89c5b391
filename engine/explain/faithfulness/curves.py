"""Deletion and insertion: change the pixels of a photo in a map's order and watch the score, inside ONNX Runtime.

Petsiuk et al. 2018 (RISE), section 4.3. One graph serves both: input n is one picture with the first counts[n]
pixels of an order taken from another, photo to cover for deletion, blurred photo to photo for insertion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.probing.probe import Probe, batch_size
from fovea.engine.look.probing.reducers import Editor, as_maps, class_scores, read_layer

if TYPE_CHECKING:
    from fovea.engine.maps import ClassOrUnit
    from fovea.engine.method import Job


class PixelCurves:
    """A session that scores a photo with part of its pixels replaced, for one class or unit of a network.

    `score`: "probability" or "logit" of a class; of a unit it is its value. Raises UnsupportedError where the
    network does not know that score.
    """

    def __init__(self, job: Job[Any], explained: ClassOrUnit, score: str) -> None:
        self._probe = Probe(job, [explained.tap], _question(job, explained, score))

    def run(
        self,
        start: NDArray[np.float32],
        end: NDArray[np.float32],
        ranks: NDArray[np.int64],
        counts: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """The scores (N,) of `start` with the pixels of rank below counts[n] taken from `end`, both (1, C, H, W)."""
        size = batch_size(self._probe.provider)
        scores = []
        for first in range(0, len(counts), size):
            part = counts[first : first + size]
            feeds: dict[str, NDArray[Any]] = {"start": start, "end": end, "ranks": ranks[None, None], "counts": part}
            scores.append(self._probe.run(feeds, batched=("counts",))["score"])
        return np.concatenate(scores).astype(np.float64)


def _question(job: Job[Any], explained: ClassOrUnit, score: str) -> Callable[[Editor, Mapping[str, str]], None]:
    card = job.card

    def build(editor: Editor, tensors: Mapping[str, str]) -> None:
        _mixed_input(editor, job)
        tensor = tensors[explained.tap]
        if not explained.layer:
            scores = class_scores(editor, tensor, card, score)
            editor.answer(_picked(editor, scores, card.class_index(explained.target), axis=1), "score")
            return
        assert explained.unit is not None, "what is explained of a layer names its unit"
        maps = as_maps(editor, tensor, read_layer(card, explained.tap))
        maps_of_unit = _picked(editor, maps, explained.unit, axis=1)
        if explained.position is None:
            editor.answer(editor.reduce("ReduceSum", maps_of_unit, [1, 2]), "score")
        else:
            row = _picked(editor, maps_of_unit, explained.position[0], axis=1)
            editor.answer(_picked(editor, row, explained.position[1], axis=1), "score")

    return build


def _picked(editor: Editor, tensor: str, index: int, axis: int) -> str:
    return editor.node("Gather", tensor, editor.constant(index), axis=axis)


def _mixed_input(editor: Editor, job: Job[Any]) -> None:
    """Feeds `start` and `end` (1, C, H, W), `ranks` (1, 1, H, W) and `counts` (N,), mixed as the class says."""
    (height, width), channels = job.card.preprocessing.size, job.card.preprocessing.channels
    start = editor.feed("start", "float32", [1, channels, height, width])
    end = editor.feed("end", "float32", [1, channels, height, width])
    ranks = editor.feed("ranks", "int64", [1, 1, height, width])
    counts = editor.feed("counts", "int64", ["N"])
    counts = editor.node("Reshape", counts, editor.constant([-1, 1, 1, 1]), front=True)
    changed = editor.node("Less", ranks, counts, front=True)
    editor.replace_input(editor.node("Where", changed, end, start, front=True))


def cover(job: Job[Any], fill: str) -> NDArray[np.float32]:
    """What stands for a missing pixel, as network input (1, C, H, W): "black", the network's "mean", or "blur".

    The blur's deviation is a sixteenth of the short side, 14 px of 224: RISE's 5 px leaves most photos legible.
    """
    from scipy.ndimage import gaussian_filter

    preprocessing = job.card.preprocessing
    if fill == "mean":
        return np.zeros_like(job.input)
    if fill == "black":
        return preprocessing.normalise_unit(np.zeros_like(job.input))
    radius = min(preprocessing.size) / 16
    smooth = gaussian_filter(job.frame.astype(np.float32), (radius, radius, 0), mode="nearest")
    return preprocessing.normalise(np.clip(np.rint(smooth), 0, 255).astype(np.uint8))[None]
