"""torchvision's networks with a graph and an input of any size, for tests that need something deep."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import fovea.models.torchvision_compat  # noqa: F401  (before torchvision)
from fovea.models.card import Preprocessing
from tests.networks.tiny import TinyNetwork, tiny_network


def random_resnet18(folder: Path, size: tuple[int, int]) -> TinyNetwork:
    """torchvision's resnet18 with random weights and an input of any size."""
    import torchvision

    torch.manual_seed(0)
    return _network(folder, "resnet18", torchvision.models.resnet18(weights=None), size)


def real_squeezenet(data: Path, folder: Path, size: tuple[int, int]) -> TinyNetwork:
    """The real squeezenet of the data folder."""
    import torchvision
    from safetensors.torch import load_file

    module = torchvision.models.squeezenet1_1(weights=None)
    module.load_state_dict(load_file(data / "weights" / "squeezenet1_1_caffe.safetensors"))
    return _network(folder, "squeezenet1_1", module, size)


def _network(folder: Path, name: str, module: nn.Module, size: tuple[int, int]) -> TinyNetwork:
    network = tiny_network(
        name,
        module,
        size,
        architecture=f"torchvision:{name}",
        preprocessing=Preprocessing(size=size, resize=min(size) * 256 // 224),
        classes=tuple(str(index) for index in range(1000)),
    )
    return network.export(folder)
