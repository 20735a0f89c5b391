"""A loss is one class: written here, in one file, the loop minimises it and nothing else knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from fovea.engine.make.optimise.canvas import FourierCanvas
from fovea.engine.make.optimise.growth import Growth
from fovea.engine.make.optimise.loop import optimise
from fovea.engine.make.optimise.losses import Apiece, Loss, Term, View, ascend
from fovea.engine.make.optimise.optimisers import adam, cooled
from fovea.engine.method import Job
from fovea.engine.unit_maps import unit_maps
from fovea.models.card import Layer
from tests.networks.tiny import TinyNetwork

Make = Callable[..., Job]


@dataclass(frozen=True)
class Evenness:
    """The variance of a unit's map over its positions: a loss that the product does not have."""

    layer: Layer
    unit: int

    @property
    def taps(self) -> tuple[str, ...]:
        """The unit's layer."""
        return (self.layer.name,)

    def __call__(self, view: View) -> Tensor:
        """The variance, (N,)."""
        return unit_maps(view.features[self.layer.name], self.layer)[:, self.unit].flatten(1).var(1)


@dataclass(frozen=True)
class Darkness:
    """The mean of the picture's values: a loss that reads no layer."""

    taps: tuple[str, ...] = ()

    def __call__(self, view: View) -> Tensor:
        """The mean, (N,)."""
        return view.picture.flatten(1).mean(1)


@pytest.mark.parametrize("name", ["functional", "residual", "grey"])
def test_a_loss_written_in_one_file_is_minimised_and_told(
    name: str, tiny_networks: Mapping[str, TinyNetwork], make_job: Make
) -> None:
    net = tiny_networks[name]
    layer = next(layer for layer in net.card.spatial_layers() if layer.leaf)
    curves: list[Mapping[str, float]] = []

    def tell(fraction: float, message: str, preview: object = None, curve: Mapping[str, float] | None = None) -> None:
        curves.append(curve or {})

    losses: tuple[Loss, ...] = (Evenness(layer, 0), Evenness(layer, 1))
    shape = (2, net.card.preprocessing.channels, *net.card.preprocessing.size)
    made = optimise(
        make_job("ascent", net),
        FourierCanvas(shape, generator=torch.Generator().manual_seed(0), deviation=0.3),
        [Term("evenness", Apiece(losses)), ascend("light", Darkness(), 0.001)],
        steps=20,
        optimiser=cooled(adam(0.05), 20),
        callback=Growth(tell),
    )
    assert list(made.losses.columns) == ["step", "loss", "evenness", "light"]
    assert made.each["evenness"].shape == (20, 2)
    assert made.losses["evenness"].iloc[-1] < made.losses["evenness"].iloc[0]
    assert [curve["evenness"] for curve in curves] == made.losses["evenness"].tolist()
