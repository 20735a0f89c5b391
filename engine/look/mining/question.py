"""What mining asks of every batch: each unit's spatial maximum with its place, and the mean of its map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fovea.engine.look.probing.probe import Probe
    from fovea.engine.look.probing.reducers import Editor
    from fovea.engine.method import Job
    from fovea.models.card import Layer


class Maxima(NamedTuple):
    """What some images say of a layer: every unit's `scores` (n, C), the maxima of its maps; their `places` (n, C) in
    the flattened map; and the `means` (n, C) of its maps."""

    scores: NDArray[np.float32]
    places: NDArray[np.int64]
    means: NDArray[np.float32]


def no_maxima(units: int) -> Maxima:
    """What no image says of a layer of so many units."""
    nothing = np.empty((0, units), np.float32)
    return Maxima(nothing, nothing.astype(np.int64), nothing)


def joined(parts: Sequence[Maxima]) -> Maxima:
    """What all images together say of a layer."""
    return Maxima(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


class MaximaProbe:
    """The session that answers with the maxima of some layers, all taken inside the graph."""

    def __init__(self, job: Job[Any], layers: Sequence[Layer]) -> None:
        from fovea.engine.look.probing import reducers
        from fovea.engine.look.probing.probe import Probe, parallel_batches

        self._job, self._layers = job, layers
        self._maps_probe: Probe | None = None

        def build(editor: Editor, tensors: Mapping[str, str]) -> None:
            reducers.normalised_input(editor, job.card.preprocessing)
            for index, layer in enumerate(layers):
                maps = reducers.as_maps(editor, tensors[layer.name], layer)
                maximum = reducers.spatial_maximum(editor, maps, layer)
                editor.answer(maximum.score, f"score.{index}")
                editor.answer(maximum.row, f"row.{index}", "int64")
                editor.answer(maximum.column, f"column.{index}", "int64")
                editor.answer(reducers.spatial_mean(editor, maps), f"mean.{index}")

        self.probe = Probe(job, [layer.name for layer in layers], build, parallel=parallel_batches(), holes=True)

    def maxima(self, answers: Mapping[str, NDArray[Any]], frames: NDArray[np.uint8]) -> list[Maxima]:
        """What the answers to a batch of frames (n, H, W, C) say of every layer."""
        each = []
        for index, layer in enumerate(self._layers):
            scores, means = np.array(answers[f"score.{index}"]), np.array(answers[f"mean.{index}"])
            places = answers[f"row.{index}"] * layer.grid[1] + answers[f"column.{index}"]
            # A NaN anywhere in a map makes its mean NaN; what a maximum does with it differs between providers.
            for n in np.nonzero(np.isnan(means).any(axis=1))[0]:
                scores[n], places[n], means[n] = self._without_nan(frames[n : n + 1], index)
            each.append(Maxima(scores, places, means))
        return each

    def _without_nan(self, frame: NDArray[np.uint8], index: int) -> Maxima:
        """Of one image (C,) with what is NaN dropped; NaN for a unit that has nothing else."""
        maps = self._whole_maps().run({"pixels": frame}, batched=("pixels",))[f"maps.{index}"][0]
        flat = maps.reshape(len(maps), -1)
        missing = np.isnan(flat)
        places = np.where(missing, -np.inf, flat).argmax(axis=1)
        # Where the rest is -inf, argmax may have stopped at a NaN: take the first value that is one.
        places = np.where(np.take_along_axis(missing, places[:, None], 1)[:, 0], (~missing).argmax(axis=1), places)
        with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
            means = np.where(missing, 0, flat).sum(axis=1) / (~missing).sum(axis=1)
        return Maxima(np.take_along_axis(flat, places[:, None], 1)[:, 0], places, means.astype(np.float32))

    def _whole_maps(self) -> Probe:
        """The session that answers with the maps themselves; opened on first use, since few networks make NaN."""
        if self._maps_probe is None:
            from fovea.engine.look.probing import reducers
            from fovea.engine.look.probing.probe import Probe

            def build(editor: Editor, tensors: Mapping[str, str]) -> None:
                reducers.normalised_input(editor, self._job.card.preprocessing)
                for place, layer in enumerate(self._layers):
                    editor.answer(reducers.as_maps(editor, tensors[layer.name], layer), f"maps.{place}")

            self._maps_probe = Probe(self._job, [layer.name for layer in self._layers], build, holes=True)
        return self._maps_probe
