"""Units where they fire: the gradient of many at once, each at its own position, on one photo or on several."""

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
class Firing:
    """A unit at one position of its map, and how strongly it fires there."""

    unit: int
    row: int
    column: int
    activation: float


def gradients_at(module: nn.Module, inputs: Tensor, layer: Layer, firings: Sequence[Firing], rule: Rule) -> Tensor:
    """For each of the inputs (N, C, H, W) the gradient under the rule of the unit that fires there, (N, C, H, W)."""
    units, rows, columns = (
        torch.tensor([getattr(firing, name) for firing in firings], device=inputs.device)
        for name in ("unit", "row", "column")
    )
    each = torch.arange(len(firings), device=inputs.device)

    def of(output: Tensor) -> Tensor:
        return unit_maps(output, layer)[each, units, rows, columns]

    score = Score(layer.name, of, f"units of {layer.name}", {})
    return explain(module, inputs, layer.name, lambda _: score, rule).gradient


def strongest_firings(output: Tensor, layer: Layer, count: int) -> list[Firing]:
    """The `count` units that fire most in the layer's `output` (1, …), each at its maximum, the strongest first.

    Units that do not fire are left out while others do.
    """
    maps = unit_maps(output, layer)[0]
    peaks, at = maps.flatten(1).max(1)
    units = torch.argsort(peaks, descending=True, stable=True)[:count].tolist()
    if bool((peaks > 0).any()):
        units = [unit for unit in units if peaks[unit] > 0]
    positions = [divmod(int(at[unit]), maps.shape[2]) for unit in units]
    return [Firing(unit, *position, float(peaks[unit])) for unit, position in zip(units, positions, strict=True)]


def in_parts(firings: Sequence[Firing], most: int) -> Iterator[Sequence[Firing]]:
    """The firings in runs of at most `most`."""
    for start in range(0, len(firings), most):
        yield firings[start : start + most]
