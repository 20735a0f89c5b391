"""At registration: how often a network is right on labelled images, and which preprocessing would do better."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fovea.engine.data.catalogue import open_dataset
from fovea.engine.look.checking.other_preprocessing import accuracy_lines, flags, ways
from fovea.models import zoo
from fovea.models.card import Preprocessing
from fovea.models.network import Network

CODE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.conv.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def build():
    net = Net()
    net.load_state_dict(net.state_dict())
    return net
"""


def test_a_better_order_is_told_with_its_flags(
    write: Callable[[str, str], Path], bring: Callable[..., Network], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for index in range(24):
        place = index % 3
        pixels = rng.integers(0, 90, (16, 16, 3), dtype=np.uint8)
        pixels[..., place] += 120
        folder = tmp_path / "set" / ("blue", "green", "red")[2 - place]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    network = bring(architecture=f"{write('net.py', CODE)}:build", classes="blue,green,red")
    lines = accuracy_lines(network, open_dataset(str(tmp_path / "set")))
    assert lines[0] == "Top-1 on set: 33.3 % of 24 images."
    assert lines[1].startswith("It would be 100.0 % with --order BGR")
    card = zoo.add_notes("mine", lines)
    assert card.notes[-len(lines) :] == tuple(lines)
    assert zoo.load("mine").card.notes == card.notes


def test_the_ways_are_others_than_the_own_one_and_have_flags() -> None:
    own = Preprocessing()
    assert own not in ways(own)
    assert len(ways(own)) == len(set(map(flags, ways(own)))) > 8
    assert ways(own.model_copy(update={"channels": 1, "mean": (0.0,), "std": (1.0,)})) == []


def test_the_gradient_of_a_module_without_any_is_told() -> None:
    import pytest

    from fovea.models.errors import NO_GRADIENT, NetworkError
    from fovea.models.torch_net import forward_taps, prepare

    class Cut(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.detach().mean((2, 3))

    with pytest.raises(NetworkError, match="No gradient reaches the photo") as error:
        forward_taps(prepare(Cut()), torch.zeros(1, 3, 4, 4, requires_grad=True), ["output"])
    assert str(error.value) == NO_GRADIENT
