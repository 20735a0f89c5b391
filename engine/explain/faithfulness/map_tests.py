"""The two tests of a map, as `trust` and `compare` put them: curves beside their baselines, and randomised layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.explain.faithfulness.curves import PixelCurves, cover
from fovea.engine.explain.faithfulness.metrics import (
    area,
    centre_blob,
    curve_counts,
    has_order,
    pixel_ranks,
    random_ranks,
    rank_correlation,
    similarity,
)
from fovea.engine.explain.maps.drawing import draw
from fovea.engine.explain.maps.family import family

if TYPE_CHECKING:
    from fovea.engine.maps import ClassOrUnit
    from fovea.engine.method import Job
    from fovea.engine.progress import Progress


@dataclass(frozen=True)
class Curves:
    """Scores while the pixels of one order are deleted and inserted, both (steps + 1,), and their areas."""

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion_area: float
    insertion_area: float


@dataclass
class CurveTest:
    """Deletion and insertion for one class or unit of one photo; the baselines are run once and serve every map.

    `score`: "probability" or "logit" of a class; `deletion_fill`, `insertion_fill` as `cover` takes them.
    `random` are the curves of each of `orders` random orders, `centre` those of a blob in the middle; `counts` the
    pixels that are changed at each point.
    """

    job: Job[Any]
    explained: ClassOrUnit
    score: str
    steps: int
    orders: int
    deletion_fill: str
    insertion_fill: str
    progress: Progress
    random: list[Curves] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the session and run the baselines."""
        height, width = self.job.card.preprocessing.size
        self.counts = curve_counts(height * width, self.steps)
        self._session = PixelCurves(self.job, self.explained, self.score)
        self._deleted, self._hidden = cover(self.job, self.deletion_fill), cover(self.job, self.insertion_fill)
        for order in range(self.orders):
            self.progress((order + 1) / (self.orders + 1), "random orders")
            self.random.append(self._curves(random_ranks((height, width), self.job.seed + order)))
        self.centre = self._curves(pixel_ranks(centre_blob((height, width))))

    @property
    def clean(self) -> float:
        """The score of the whole photo."""
        return float(self.centre.deletion[0])

    @property
    def span(self) -> float:
        """How far the score can fall: from the photo to nothing of it, at least a hair."""
        return max(abs(self.clean - float(self.centre.deletion[-1])), 1e-12)

    @property
    def random_deletions(self) -> list[float]:
        """The deletion area of each random order."""
        return [curves.deletion_area for curves in self.random]

    @property
    def random_insertions(self) -> list[float]:
        """The insertion area of each random order."""
        return [curves.insertion_area for curves in self.random]

    @property
    def random_deletion(self) -> float:
        """The mean deletion area of the random orders."""
        return float(np.mean(self.random_deletions))

    @property
    def random_insertion(self) -> float:
        """The mean insertion area of the random orders."""
        return float(np.mean(self.random_insertions))

    def run(self, values: NDArray[Any]) -> Curves | None:
        """The curves of a map (H, W); None for a constant one, which gives its pixels no order."""
        return self._curves(pixel_ranks(values, self.job.seed)) if has_order(values) else None

    def _curves(self, ranks: NDArray[np.int64]) -> Curves:
        photo = self.job.input
        deletion = self._session.run(photo, self._deleted, ranks, self.counts)
        insertion = self._session.run(self._hidden, photo, ranks, self.counts)
        return Curves(deletion, insertion, area(deletion, self.counts), area(insertion, self.counts))


@dataclass(frozen=True)
class Changed:
    """A map after `layers` of `of` layers were re-initialised, down to `down_to`: its likeness to the original.

    `rank` is Spearman's rank correlation, NaN where the map came out constant; `ssim` as the maps are drawn.
    """

    layers: int
    of: int
    down_to: str
    rank: float
    ssim: float
    values: NDArray[np.float32]


def randomisation_test(
    job: Job[Any],
    explained: ClassOrUnit,
    originals: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Mapping[str, Any]],
    stages: int,
    progress: Progress,
) -> dict[str, list[Changed]]:
    """What becomes of each map as the network forgets, from the top layer down; the network itself is left alone.

    A map that cannot be drawn for a changed copy has no stage. Raises NetworkError for an ONNX file, which has no
    torch module.
    """
    from fovea.engine.explain.faithfulness.randomise import cascade

    testable = {name: values for name, values in originals.items() if family()[name].draws_copies}
    calls = [layer.name for layer in job.card.layers]
    changed: dict[str, list[Changed]] = {name: [] for name in originals}
    for stage in cascade(job.network.module(job.device), calls, stages, job.seed):
        of_stage = progress.saying(f"{stage.layers} of {stage.of} layers re-initialised")
        of_stage = of_stage.span((stage.layers - 1) / stage.of, stage.layers / stage.of)
        for number, (name, original) in enumerate(testable.items()):
            part = of_stage.span(number / len(testable), (number + 1) / len(testable))
            values = draw(job, name, explained, settings.get(name), module=stage.module, progress=part)
            rank, ssim = rank_correlation(original, values), similarity(original, values)
            changed[name].append(Changed(stage.layers, stage.of, stage.down_to, rank, ssim, values))
    return changed
