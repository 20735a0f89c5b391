"""What a GPU replays is what it was told operation by operation; elsewhere a replay is its function."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from fovea.engine.make.optimise.folded_network import FoldedNetwork
from fovea.engine.make.optimise.replay import RECORD_AT, Replay
from fovea.models.card import OUTPUT


def cubes(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    return {"cubes": x**3, "first": y.sum() * 0 + x.sum()}


def test_elsewhere_it_is_the_function() -> None:
    replay, x, y = Replay(cubes, 100), torch.arange(4.0, requires_grad=True), torch.ones(2, requires_grad=True)
    for _ in range(2 * RECORD_AT):
        assert torch.equal(replay(x, y)["cubes"], x**3)
    assert replay.recorded is None


@pytest.fixture
def cuda() -> None:
    """The test is skipped where torch finds no CUDA device."""
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")


def read(replay: Replay, x: Tensor) -> tuple[Tensor, Tensor]:
    output = replay(x)[OUTPUT]
    return output.detach().clone(), torch.autograd.grad(output.square().sum(), x)[0].clone()


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_network_replayed_gives_the_same_bits(name: str) -> None:
    """Of one input after another, of two sizes, before and after the calls are recorded."""
    from fovea.models.zoo import load

    network = FoldedNetwork(load(f"torchvision:{name}@random").module("cuda"), [OUTPUT])
    network(torch.rand(1, 3, 64, 64, device="cuda"))  # the first pass is watched, and not folded
    replay = Replay(network, 100)
    for side in (64, 96):
        for seed in range(2 * RECORD_AT):
            x = torch.rand((1, 3, side, side), generator=torch.Generator().manual_seed(seed))
            x = x.cuda().requires_grad_(True)
            pairs = zip(read(Replay(network, 100), x), read(replay, x), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs)
            assert (replay.recorded is not None) == (seed + 1 >= RECORD_AT)


class Asking(nn.Module):
    """Waits for what it computed, which no recording can."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x.mean((2, 3)) * (1 if float(x.detach().sum()) > 0 else 2)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda")
def test_a_network_that_cannot_be_recorded_goes_on_as_it_is() -> None:
    network = FoldedNetwork(Asking().eval().requires_grad_(False).cuda(), [OUTPUT])
    replay = Replay(network, 100)
    x = torch.rand((1, 3, 16, 16), device="cuda", requires_grad=True)
    found = [read(replay, x) for _ in range(2 * RECORD_AT)]
    assert all(torch.equal(one, other) for pair in found for one, other in zip(found[1], pair, strict=True))
    assert replay.refused
    assert not network.plain
