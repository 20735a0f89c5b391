"""The two tests of a map, as `trust` and `compare` put them: curves beside their baselines, and randomised layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from fovea.engine.explain.maps import family as maps

if TYPE_CHECKING:
    from fovea.engine.explain.maps.family import Subject
    from fovea.engine.method import Job

Told = Callable[[float, str], None]


@dataclass(frozen=True)
class Curves:
    """Scores while the pixels of one order are deleted and inserted, both (steps + 1,), and their areas."""

    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    deletion_area: float
    insertion_area: float


@dataclass
class CurveTest:
    """Deletion and insertion on one photo and subject; the baselines are run once and serve every map.

    `clean` and `empty` are the scores of the photo and of nothing left; `counts` the pixels changed at each point.
    `random` are the curves of each random order, `centre` those of the blob in the middle.
    """

    job: Job
    subject: Subject
    score: str
    steps: int
    orders: int
    deletion_fill: str
    insertion_fill: str
    told: Told
    random: list[Curves] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Open the session and run the baselines."""
        height, width = self.job.card.preprocessing.size
        self.counts = curve_counts(height * width, self.steps)
        self._session = PixelCurves(self.job, self.subject, self.score)
        self._deleted, self._hidden = cover(self.job, self.deletion_fill), cover(self.job, self.insertion_fill)
        for order in range(self.orders):
            self.told((order + 1) / (self.orders + 1), "random orders")
            self.random.append(self._of(random_ranks((height, width), self.job.seed + order)))
        self.centre = self._of(pixel_ranks(centre_blob((height, width))))

    @property
    def clean(self) -> float:
        """The score of the photo as it is."""
        return float(self.centre.deletion[0])

    @property
    def span(self) -> float:
        """How far the score can fall: from the photo to nothing of it, at least a hair."""
        return max(abs(self.clean - float(self.centre.deletion[-1])), 1e-12)

    @property
    def random_deletion(self) -> float:
        """The mean deletion area of the random orders."""
        return float(np.mean([one.deletion_area for one in self.random]))

    @property
    def random_insertion(self) -> float:
        """The mean insertion area of the random orders."""
        return float(np.mean([one.insertion_area for one in self.random]))

    def run(self, values: NDArray[Any]) -> Curves | None:
        """The curves of a map (H, W); None for a constant one, which gives its pixels no order."""
        return self._of(pixel_ranks(values, self.job.seed)) if has_order(values) else None

    def _of(self, ranks: NDArray[np.int64]) -> Curves:
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
    job: Job,
    subject: Subject,
    originals: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Mapping[str, Any]],
    stages: int,
    told: Told,
) -> dict[str, list[Changed]]:
    """What becomes of each map as the network forgets, from the top layer down; the network itself is left alone.

    Raises NetworkError for an ONNX file, which has no torch module.
    """
    from fovea.engine.explain.faithfulness.randomise import cascade

    calls = [layer.name for layer in job.card.layers]
    found: dict[str, list[Changed]] = {name: [] for name in originals}
    for stage in cascade(job.network.module(job.device), calls, stages, job.seed):
        for place, (name, original) in enumerate(originals.items()):
            share = (stage.layers - 1 + place / len(originals)) / stage.of

            def tell(fraction: float, share: float = share, layers: int = stage.layers, of: int = stage.of) -> None:
                told(share, f"{layers} of {of} layers re-initialised")

            values = maps.draw(job, name, subject, settings.get(name), stage.module, tell)
            rank, ssim = rank_correlation(original, values), similarity(original, values)
            found[name].append(Changed(stage.layers, stage.of, stage.down_to, rank, ssim, values))
    return found


def agreement_matrix(drawn: Mapping[str, NDArray[Any]], names: Sequence[str]) -> NDArray[np.float64]:
    """The agreement of every two maps, (maps, maps), 1 on the diagonal and NaN beside a constant map."""
    from fovea.engine.explain.faithfulness.metrics import agreement

    signed = {name: bool((drawn[name] < 0).any()) for name in names}
    found = np.ones((len(names), len(names)))
    for row, one in enumerate(names):
        for column, other in enumerate(names[:row]):
            worth = agreement(drawn[one], drawn[other], (signed[one], signed[other]))
            found[row, column] = found[column, row] = worth
    return found
