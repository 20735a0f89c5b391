"""Tiny networks with cards and graphs of their own, for tests of what is asked of a network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import fovea.models.torchvision_compat  # noqa: F401  (before torchvision)
from fovea.models import onnx_net, torch_net
from fovea.models.card import Card, Preprocessing


class Tiny(nn.Module):
    """Two convolutions, a pooling between them, and a linear head on the mean."""

    def __init__(self, channels: int = 3, classes: int = 7) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)
        self.second = nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.norm = nn.LayerNorm(10)
        self.head = nn.Linear(10, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.relu(self.first(x)))
        x = torch.relu(self.second(x))
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class TinyTokens(nn.Module):
    """A patch embedding, a class token, one transformer layer, a head on the class token."""

    def __init__(self, channels: int = 3, classes: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, 8, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1)
        return self.head(self.block(tokens)[:, 0])


@dataclass
class TinyNetwork:
    """What methods need of `fovea.models.zoo.Network`."""

    name: str
    card: Card
    torch_module: nn.Module
    tapped: onnx_net.TappedGraph

    def module(self, device: str = "cpu") -> nn.Module:
        return self.torch_module.to(device)

    def graph(self) -> onnx_net.TappedGraph:
        return self.tapped


def tiny_network(
    folder: Path,
    module: nn.Module,
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    classes: int = 7,
    preprocessing: dict[str, Any] | None = None,
    output: str = "logits",
) -> TinyNetwork:
    """`module` with weights drawn from a fixed seed, exported into `folder`."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    module = torch_net.prepare(module)
    facts: dict[str, Any] = {"size": size, "resize": min(size), "channels": channels}
    facts |= {"mean": (0.45,) * channels, "std": (0.25,) * channels} | (preprocessing or {})
    card = Card(
        name="tiny",
        title="Tiny",
        architecture="tiny",
        preprocessing=Preprocessing(**facts),
        classes=tuple(f"class {index}" for index in range(classes)),
        layers=torch_net.trace_layers(module, (channels, *size)),
        parameters=0,
        sha256="0" * 64,
        weights="random",
        random=True,
        output=output,
    )
    path = folder / "tiny.onnx"
    onnx_net.export(module, card, path)
    return TinyNetwork("tiny", card, module, onnx_net.TappedGraph.open(path, (channels, *size)))


def random_resnet18(folder: Path, size: tuple[int, int]) -> TinyNetwork:
    """torchvision's resnet18 with random weights and an input of any size."""
    import torchvision

    torch.manual_seed(0)
    module = torch_net.prepare(torchvision.models.resnet18(weights=None))
    return _network(folder, "resnet18", module, size)


def real_squeezenet(data: Path, folder: Path, size: tuple[int, int]) -> TinyNetwork:
    """The real squeezenet of the data folder."""
    import torchvision
    from safetensors.torch import load_file

    module = torchvision.models.squeezenet1_1(weights=None)
    module.load_state_dict(load_file(data / "weights" / "squeezenet1_1_caffe.safetensors"))
    return _network(folder, "squeezenet1_1", torch_net.prepare(module), size)


def _network(folder: Path, name: str, module: nn.Module, size: tuple[int, int]) -> TinyNetwork:
    card = Card(
        name=name,
        title=name,
        architecture=f"torchvision:{name}",
        preprocessing=Preprocessing(size=size, resize=min(size) * 256 // 224),
        classes=tuple(str(index) for index in range(1000)),
        layers=torch_net.trace_layers(module, (3, *size)),
        parameters=0,
        sha256="0" * 64,
        weights="",
    )
    path = folder / f"{name}.onnx"
    onnx_net.export(module, card, path)
    return TinyNetwork(name, card, module, onnx_net.TappedGraph.open(path, (3, *size)))
