"""Tiny networks of every kind that a method with gradients has to bear, and jobs on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fovea.engine.method import Job, find_method
from fovea.engine.progress import Progress
from fovea.engine.store import Store
from fovea.models.card import Card, Preprocessing
from fovea.models.torch_net import prepare, trace_layers
from tests.engine import fakes


@pytest.fixture
def store(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store in a home of its own, with methods that need no network."""
    fakes.install(monkeypatch.setattr)
    return Store()


class Residual(nn.Module):
    """A shortcut around a convolution, and one ReLU module called twice, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.bn = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(8, 8, 3, 1, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn(self.stem(x)))
        x = self.relu(x + self.conv(x))
        out: Tensor = self.fc(self.pool(x).flatten(1))
        return out


class Branching(nn.Module):
    """Three branches side by side, joined by channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU())
        self.one = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())
        self.five = nn.Sequential(nn.Conv2d(8, 4, 5, padding=2), nn.ReLU())
        self.pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(8, 4, 1))
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.one(x), self.five(x), self.pooled(x)], 1)
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Depthwise(nn.Module):
    """A depthwise convolution between ReLU6s."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.ReLU6(),
            nn.Conv2d(8, 12, 1),
        )
        self.fc = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1))
        return out


class Functional(nn.Module):
    """ReLUs that are function calls and a tensor method, one of them in place."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 5, 2, 2)
        self.conv2 = nn.Conv2d(8, 8, 3, 1, 1)
        self.conv3 = nn.Conv2d(8, 8, 3, 1, 1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = self.conv2(x).relu()
        x = F.relu_(self.conv3(x))
        out: Tensor = self.fc(F.max_pool2d(x, 2).mean((2, 3)))
        return out


class Smooth(nn.Module):
    """No ReLU at all."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.SiLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.Hardswish())
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.net(x).mean((2, 3)))
        return out


@dataclass
class TinyNetwork:
    """A card and a prepared module: all that a method with gradients asks of a network."""

    card: Card
    torch_module: nn.Module

    @property
    def name(self) -> str:
        return self.card.name

    def module(self, device: str = "cpu") -> nn.Module:
        return self.torch_module.to(device)


def tiny_network(name: str, module: nn.Module, size: tuple[int, int] = (32, 32), **facts: Any) -> TinyNetwork:
    """A network of this module for inputs of `size` (H, W); `facts` replace fields of its card."""
    channels = facts.pop("channels", 3)
    preprocessing = Preprocessing(
        size=size, resize=None, mean=(0.5, 0.4, 0.45)[:channels], std=(0.25, 0.2, 0.3)[:channels], channels=channels
    )
    prepare(module)
    fields: dict[str, Any] = {
        "name": name,
        "title": name,
        "architecture": type(module).__name__,
        "preprocessing": preprocessing,
        "classes": ("cat", "dog", "cup", "face", "boat"),
        "layers": trace_layers(module, (channels, *size)),
        "parameters": sum(p.numel() for p in module.parameters()),
        "sha256": "0" * 64,
        "weights": "random",
    }
    return TinyNetwork(Card(**(fields | facts)), module)


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
        return Job(network=network, options=options, photo=photo, **fields)  # type: ignore[arg-type]

    return make


def state_of(module: nn.Module) -> tuple[Any, ...]:
    """What a method could leave on a network: hooks, gradients, flags, mode, and the weights' bytes."""
    return tuple(
        (
            path,
            child.training,
            len(child._forward_hooks),
            len(child._forward_pre_hooks),
            len(child._backward_hooks),
            len(child._backward_pre_hooks),
            getattr(child, "inplace", None),
            "forward" in vars(child),
        )
        for path, child in module.named_modules()
    ) + tuple(
        (name, p.requires_grad, p.grad is None, p.detach().cpu().numpy().tobytes())
        for name, p in [*module.named_parameters()]
    )
