"""A unit's best patches of a data set, as a finished mining run has them; mining itself is not repeated here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from engine.errors import FoveaError, OptionsError, UnsupportedError

if TYPE_CHECKING:
    from engine.dataset import Dataset
    from engine.method import Job
    from models.card import Layer

MINING = "patches"
"""The method whose runs are read; its table of this name has a row for each patch of each unit."""


@dataclass(frozen=True)
class Mined:
    """What one finished run found: its table, and how many patches a unit it kept."""

    table: pd.DataFrame
    top: int


def mined_over(job: Job, dataset: Dataset) -> list[Mined]:
    """What finished runs on this network found over this very data set, newest first."""
    content = dataset.manifest_sha256()
    found: list[Mined] = []
    for run in job.finished_runs(MINING):
        if any(one.kind == "dataset" and one.sha256 == content for one in run.record.inputs):
            try:
                found.append(Mined(run.table(MINING), int(run.record.options["top"])))
            except (FoveaError, KeyError):  # deleted or damaged since: another run may hold the same
                continue
    return found


def mined_layers(mined: Sequence[Mined]) -> set[str]:
    """The layers that these runs tell of."""
    return {str(name) for one in mined for name in one.table["layer"].unique()}


def best_patches(mined: Sequence[Mined], reference: str, layer: Layer, count: int) -> pd.DataFrame:
    """The `count` best patches of every unit of the layer; columns as the mining run has them: unit, rank, score, ….

    `reference` names the data set for the user. Raises UnsupportedError if no run has mined this layer, OptionsError
    if none kept so many patches.
    """
    of_layer = [one for one in mined if bool((one.table["layer"] == layer.name).any())]
    if not of_layer:
        others = sorted(mined_layers(mined))
        where = f" (only {', '.join(others)})" if others else ""
        raise UnsupportedError(
            f"layer {layer.name} has not been mined over {reference} yet{where}: run {MINING} with dataset "
            f"{reference} and layers {layer.name} first, then this again"
        )
    best = max(of_layer, key=lambda one: one.top)
    if best.top < count:
        raise OptionsError(
            f"{best.top} patches a unit were mined over {reference}: ask for at most {best.top} patches, or run "
            f"{MINING} with top {count} first"
        )
    table = best.table
    return table[(table["layer"] == layer.name) & (table["rank"] < count)].sort_values(["unit", "rank"])
