"""Tiny networks of every kind that a method with gradients has to bear, and jobs on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fovea.engine.method import Job, find_method
from fovea.engine.progress import Progress
from fovea.engine.store import Store
from tests.engine import fakes
from tests.networks.modules import Branching, Depthwise, Functional, Residual, Smooth
from tests.networks.tiny import TinyNetwork, tiny_network


def _build(name: str) -> TinyNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        if name == "grey":
            return tiny_network(name, Functional(1), channels=1)
        if name == "wide":
            return tiny_network(name, Functional(), (32, 48))
        kinds: dict[str, type[nn.Module]] = {
            "residual": Residual,
            "branching": Branching,
            "depthwise": Depthwise,
            "functional": Functional,
            "smooth": Smooth,
        }
        return tiny_network(name, kinds[name]())


TINY = ("residual", "branching", "depthwise", "functional", "smooth", "grey", "wide")


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in a home of its own, with methods that need no network."""
    fakes.install(monkeypatch.setattr)
    return Store()


@pytest.fixture(scope="session")
def tiny_networks() -> Mapping[str, TinyNetwork]:
    """One network of every kind, by name; frozen, so that all tests may share them."""
    return {name: _build(name) for name in TINY}


@pytest.fixture(params=TINY)
def tiny(request: pytest.FixtureRequest, tiny_networks: Mapping[str, TinyNetwork]) -> TinyNetwork:
    """Each of the tiny networks in turn."""
    return tiny_networks[request.param]


@pytest.fixture(scope="session")
def small_photo() -> Image.Image:
    """A photo of 52 x 40 pixels: coloured noise with a bright square in it."""
    pixels = np.random.default_rng(0).integers(0, 120, (40, 52, 3), dtype=np.uint8)
    pixels[10:26, 12:28] += 100
    return Image.fromarray(pixels)


@pytest.fixture
def make_job(small_photo: Image.Image) -> Callable[..., Job]:
    """`make_job(method, network, seed=…, progress=…, photo=…, **options)`: a job with validated options."""

    def make(method: str, network: TinyNetwork, **given: Any) -> Job:
        found = find_method(method)
        fields = {key: given.pop(key) for key in ("seed", "progress", "device", "open_photo") if key in given}
        if "progress" in fields:
            fields["progress"] = Progress(fields["progress"])
        photo = given.pop("photo", small_photo)
        options = found.options.parse(given)
        found.verify(network.card, options)
        return Job(network=network, options=options, photo=photo, **fields)

    return make
