"""The photo of a data set that excites a unit most, as a finished run of mining found it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.errors import FoveaError

if TYPE_CHECKING:
    from engine.figures import RunView
    from engine.method import Job

LOOKED_AT = 20
"""Mining runs that are looked into, newest first."""


@dataclass(frozen=True)
class Mined:
    """The photo `frame` (H, W, C) as the network sees it, its key in the data set, and the run that found it."""

    frame: NDArray[np.uint8]
    image: str
    dataset: str
    run: str


def best_mined(job: Job, layer: str, unit: int) -> Mined | None:
    """The frame of that unit's best patch in the newest run that mined it with this network, or None."""
    if job.open_dataset is None:
        return None
    for run in islice(job.finished_runs("patches"), LOOKED_AT):
        try:
            found = _best(job, run, layer, unit)
        except (FoveaError, OSError, KeyError, ValueError):  # a data set may be gone, or a run be half imported
            continue
        if found is not None:
            return found
    return None


def _best(job: Job, run: RunView, layer: str, unit: int) -> Mined | None:
    table = run.table("patches")
    rows = table[(table["layer"] == layer) & (table["unit"] == unit) & (table["rank"] == 0)]
    if rows.empty:
        return None
    key, name = str(rows["image"].iloc[0]), str(run.record.options["dataset"])
    dataset = job.dataset(name)
    photo = dataset.photo(dataset.keys.index(key))
    return Mined(job.card.preprocessing.frame(photo), key, dataset.name, run.record.id)
