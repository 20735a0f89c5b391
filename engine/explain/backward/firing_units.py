"""Many units at many places at once: the gradient of each at its own, on one photo or on several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fovea.engine.explain.backward.attribution import explain
from fovea.engine.explain.backward.rules import Rule
from fovea.engine.scores import Score
from fovea.engine.unit_maps import unit_maps

if TYPE_CHECKING:
    from fovea.models.card import Layer


@dataclass(frozen=True)
class Place:
    """A unit at one position of its map, and how strongly it fires there."""

    unit: int
    row: int
    column: int
    activation: float


def gradients_at(module: nn.Module, inputs: Tensor, layer: Layer, places: Sequence[Place], rule: Rule) -> Tensor:
    """For each of the inputs (N, C, H, W) the gradient under the rule of the unit at its place, (N, C, H, W)."""
    units, rows, columns = (
        torch.tensor([getattr(place, name) for place in places], device=inputs.device)
        for name in ("unit", "row", "column")
    )
    each = torch.arange(len(places), device=inputs.device)

    def of(output: Tensor) -> Tensor:
        return unit_maps(output, layer)[each, units, rows, columns]

    score = Score(layer.name, of, f"units of {layer.name}", {})
    return explain(module, inputs, layer.name, lambda _: score, rule).gradient


def strongest_places(output: Tensor, layer: Layer, count: int) -> list[Place]:
    """The `count` units that fire most in the layer's `output` (1, …), each at its maximum, the strongest first.

    Units that do not fire are left out while others do.
    """
    maps = unit_maps(output, layer)[0]
    peaks, at = maps.flatten(1).max(1)
    units = torch.argsort(peaks, descending=True, stable=True)[:count].tolist()
    if bool((peaks > 0).any()):
        units = [unit for unit in units if peaks[unit] > 0]
    places = [divmod(int(at[unit]), maps.shape[2]) for unit in units]
    return [Place(unit, *place, float(peaks[unit])) for unit, place in zip(units, places, strict=True)]


def in_parts(places: Sequence[Place], most: int) -> Iterator[Sequence[Place]]:
    """The places in runs of at most `most`."""
    for start in range(0, len(places), most):
        yield places[start : start + most]
