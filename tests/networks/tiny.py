"""Tiny networks for tests: a card, a prepared module and, where a test asks for one, an exported graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fovea.models.card import Card, Preprocessing
from fovea.models.graph.cut import TappedGraph
from fovea.models.graph.export import export
from fovea.models.torch_net import prepare, trace


@dataclass
class TinyNetwork:
    """What methods ask of a network. `tapped` stays empty where a test has no use for a graph."""

    card: Card
    torch_module: nn.Module
    tapped: TappedGraph | None = None

    @property
    def name(self) -> str:
        return self.card.name

    def module(self, device: str = "cpu") -> nn.Module:
        return self.torch_module.to(device)

    def graph(self) -> TappedGraph:
        assert self.tapped is not None, f"{self.name} was made without a graph: use exported_network"
        return self.tapped

    def export(self, folder: Path) -> TinyNetwork:
        """Export the module, as it is now, into `folder`; returns the network."""
        path = folder / f"{self.name}.onnx"
        export(self.torch_module, self.card, path)
        preprocessing = self.card.preprocessing
        self.tapped = TappedGraph.open(path, (preprocessing.channels, *preprocessing.size))
        return self


def tiny_network(name: str, module: nn.Module, size: tuple[int, int] = (32, 32), **facts: Any) -> TinyNetwork:
    """A network of this module, with its weights as they are, for inputs of `size` (H, W); `facts` replace fields of
    its card, and `channels` says how many the input has."""
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
        "layers": trace(module, (channels, *size))[0],
        "parameters": sum(p.numel() for p in module.parameters()),
        "sha256": "0" * 64,
        "weights": "random",
    }
    return TinyNetwork(Card(**(fields | facts)), module)


def exported_network(
    folder: Path,
    module: nn.Module,
    size: tuple[int, int] = (32, 32),
    channels: int = 3,
    classes: int = 7,
    preprocessing: dict[str, Any] | None = None,
    output: str = "logits",
) -> TinyNetwork:
    """A network of this module with weights drawn from a fixed seed, its graph exported into `folder`."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    facts: dict[str, Any] = {"size": size, "resize": min(size), "channels": channels}
    facts |= {"mean": (0.45,) * channels, "std": (0.25,) * channels} | (preprocessing or {})
    network = tiny_network(
        "tiny",
        module,
        size,
        channels=channels,
        preprocessing=Preprocessing(**facts),
        classes=tuple(f"class {index}" for index in range(classes)),
        random=True,
        output=output,
    )
    return network.export(folder)


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
