"""How well neighbours tell the label: each labelled image is left out in turn, and the nearest others vote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.look.feature_space.search import Metric, Space, leave_one_out
from fovea.engine.panels import CurvePanel

if TYPE_CHECKING:
    from fovea.engine.data.dataset import Dataset
    from fovea.engine.look.feature_space.store import Features
    from fovea.engine.method import Result
    from fovea.engine.progress import Progress

COMPARED = 20_000_000
"""Images that are classified times images that are compared with each stay below this."""
ASKED_LIMIT = 2000
"""At most so many images are classified."""
MOST_VOTES = 10
"""At most so many neighbours vote."""


@dataclass(frozen=True)
class LabelVotes:
    """Of `asked` images the share whose label the majority of their 1 … k nearest others has, by `features` and by
    `pixels` (k,); and the features' `votes` (n,) by row, as positions in the data set's classes, -1 where an image was
    not asked."""

    asked: int
    features: NDArray[np.float64]
    pixels: NDArray[np.float64]
    votes: NDArray[np.int64]


def label_votes(dataset: Dataset, features: Features, metric: Metric, progress: Progress) -> LabelVotes | None:
    """The votes, computed once for kept features; None where fewer than two labels or three images are known."""
    names = dataset.classes
    if len(names) < 2 or len(features) < 3:
        return None
    number = {name: index for index, name in enumerate(names)}
    labels = np.array([number.get(dataset.label(int(index)), -1) for index in features.indices])
    labelled = np.nonzero(labels >= 0)[0]
    if len(labelled) < 3:
        return None
    count = max(10, min(len(labelled), ASKED_LIMIT, COMPARED // len(features)))
    asked = labelled[np.unique(np.linspace(0, len(labelled) - 1, count).astype(int))]
    most = min(MOST_VOTES, len(features) - 1)

    def compute() -> Mapping[str, NDArray[Any]]:
        spaces: dict[str, Space] = {
            "features": features.space(metric, progress),
            "pixels": features.pixel_space(progress),
        }
        votes = np.full(len(labels), -1, np.int64)
        shares: dict[str, NDArray[Any]] = {}
        for name, space in spaces.items():
            progress(0.8, f"neighbours by {name} tell the label")
            shares[name], predicted = leave_one_out(space, labels, asked, most)
            if name == "features":
                votes[asked] = predicted
        return shares | {"votes": votes}

    kept = features.remembered(f"accuracy-{metric}", compute)
    return LabelVotes(len(asked), kept["features"], kept["pixels"], kept["votes"])


def add_accuracy(votes: LabelVotes, result: Result) -> None:
    """Table `accuracy` (k, features, pixels), its chart, and its first row in the summary."""
    import pandas as pd

    most = len(votes.features)
    result.tables["accuracy"] = pd.DataFrame(
        {"k": np.arange(1, most + 1), "features": votes.features, "pixels": votes.pixels}
    )
    result.panels.append(
        CurvePanel(
            title="How well neighbours tell the label",
            help=f"Each of {votes.asked:,} images is left out in turn. The curves show the share of them whose label "
            "the majority of their k nearest others has. Where the network has understood the classes, its features "
            "are far above the pixels.",
            table="accuracy",
            x="k",
            y=("features", "pixels"),
            units="share that is right",
        )
    )
    result.summary["right by 1 neighbour"] = round(float(votes.features[0]), 4)
    result.summary["by pixels"] = round(float(votes.pixels[0]), 4)
