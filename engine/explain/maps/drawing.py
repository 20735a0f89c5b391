"""Any map of the family drawn for any class or unit, on the network itself or on a changed copy of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import NetworkError
from fovea.engine.explain.maps.family import family, map_options, verify
from fovea.engine.progress import SILENT, Progress

if TYPE_CHECKING:
    from torch import nn

    from fovea.engine.maps import ClassOrUnit
    from fovea.engine.method import Job
    from fovea.models.card import Card
    from fovea.models.graph.cut import TappedGraph


def draw(
    job: Job[Any],
    name: str,
    explained: ClassOrUnit,
    settings: Mapping[str, Any] | None = None,
    *,
    module: nn.Module | None = None,
    progress: Progress = SILENT,
) -> NDArray[np.float32]:
    """The map `name` of the job's photo, float32 (H, W) in the input frame; of several channels the largest |·|.

    `module` stands for the job's network where a changed copy of it is asked; what the method has to say of its
    map is then left unsaid. Raises what the method raises.
    """
    member, settings = family()[name], settings or {}
    if module is None:
        verify(job.card, name, explained, settings)
    own: Job[Any] = dataclasses.replace(
        job,
        options=map_options(name, explained, settings),
        progress=progress,
        warnings=[],
        ran={},
        network=job.network if module is None else _Copy(job.card, module),
    )
    drawn = member.map.draw
    if module is not None and not member.method.gradients:
        drawn = member.map.draw_copy
        assert drawn is not None, "asked only where the map draws copies"
    values = member.method.run(own).arrays[member.map.array] if drawn is None else drawn(own, explained)
    if module is None:
        for line in own.warnings:
            job.warn(line)
    return np.asarray(np.abs(values).max(0) if values.ndim == 3 else values, np.float32)


@dataclass(frozen=True)
class _Copy:
    """A network that is a changed copy of another: its card and its module, on the device where that is."""

    card: Card
    torch_module: nn.Module

    @property
    def name(self) -> str:
        return self.card.name

    def module(self, device: str = "cpu") -> nn.Module:
        return self.torch_module

    def graph(self) -> TappedGraph:
        raise NetworkError(f"a changed copy of {self.name} has no ONNX graph")
