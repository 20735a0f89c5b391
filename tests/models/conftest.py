"""Small networks that the tests of `models` share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from fovea.models import registry, zoo
from fovea.models.network import Network

SMALL = 64
"""Side in pixels of the small networks' input."""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks run faster on one thread than on several that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def small(fovea_home: Path) -> Callable[..., Network]:
    """`small("resnet18")`: torchvision's architecture with random weights and an input of 64 pixels."""
    made: dict[tuple[str, int], Network] = {}

    def make(architecture: str, side: int = SMALL) -> Network:
        key = (architecture, side)
        if key not in made:
            name = f"small_{architecture}_{side}"
            registry.register(name, architecture=f"torchvision:{architecture}", input={"size": [side, side]})
            made[key] = zoo.load(name)
        return made[key]

    return make
