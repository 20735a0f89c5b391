"""The network as the loop runs it gives what the network gives, with fewer steps, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fovea.engine.make.optimise.adapted_network import AdaptedModule
from fovea.engine.make.optimise.folded_network import FoldedNetwork
from fovea.models.card import OUTPUT
from fovea.models.torch_net import forward_taps, prepare, randomise
from tests.networks.tiny import TinyNetwork, state_of


def shaken(module: nn.Module) -> nn.Module:
    """With statistics and gains of batch norm that do something."""
    randomise(module)
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for values, low in ((child.running_mean, -1.0), (child.running_var, 0.2), (child.weight, 0.5)):
                if values is not None:
                    values.data.uniform_(low, low + 1, generator=torch.Generator().manual_seed(0))
    return prepare(module)


def check(module: nn.Module, taps: Sequence[str], shape: tuple[int, ...] = (2, 3, 16, 18)) -> FoldedNetwork:
    """Both the first call and those that follow agree with the network, also on the way back."""
    network, x = FoldedNetwork(module, taps), torch.rand(shape, generator=torch.Generator().manual_seed(1))
    x.requires_grad_(True)
    expected = forward_taps(module, x, taps)
    (down,) = torch.autograd.grad(torch.stack([value.square().mean() for value in expected.values()]).sum(), x)
    for _ in range(3):
        found = network(x)
        assert list(found) == list(taps)
        for tap in taps:
            largest = float(expected[tap].detach().abs().max())
            torch.testing.assert_close(found[tap], expected[tap], atol=1e-4 * largest, rtol=0)
        (again,) = torch.autograd.grad(torch.stack([value.square().mean() for value in found.values()]).sum(), x)
        torch.testing.assert_close(again, down, atol=1e-3 * float(down.abs().max()), rtol=0)
    return network


def folded(network: FoldedNetwork) -> int:
    return 0 if network.run is None else len(network.run.passed)


class Block(nn.Module):
    """A convolution whose batch norm folds, one whose output is read twice, one that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.plain, self.bn1 = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.twice, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False), nn.BatchNorm2d(4, affine=False)
        self.shared, self.bn3 = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu_(self.bn1(self.plain(x)))
        read = self.twice(x)
        x = self.bn2(read) + read
        x = self.bn3(self.shared(self.shared(x)))
        return x.mean((2, 3))


def test_a_batch_norm_folds_where_it_alone_reads_the_convolution() -> None:
    module = shaken(Block())
    assert folded(check(module, ["bn1", "bn3", OUTPUT])) == 1
    assert folded(check(module, ["plain", OUTPUT])) == 0, "a convolution that is asked for keeps its own output"
    assert FoldedNetwork(module, [])(torch.zeros(1, 3, 16, 18)) == {}


def test_every_network_agrees_and_is_left_as_it_was(tiny: TinyNetwork) -> None:
    before = state_of(tiny.torch_module)
    shape = (1, tiny.card.preprocessing.channels, *tiny.card.preprocessing.size)
    check(tiny.torch_module, [tiny.card.layers[0].name, OUTPUT], shape)
    assert state_of(tiny.torch_module) == before


class Views(nn.Module):
    """Relies on the order of its maps in memory, as users' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x.view(len(x), -1)


class Unfoldable(Views):
    """Refuses weights that are not its own."""

    def forward(self, x: Tensor) -> Tensor:
        out = F.conv2d(x, self.conv.weight, self.conv.bias)
        if self.calls and not torch.equal(out, F.conv2d(x, self.conv.weight.clone(), self.conv.bias)):
            raise RuntimeError("other weights")
        self.calls += 1
        return self.bn(out)

    calls = 0


def test_a_view_of_maps_still_works_and_folds() -> None:
    network = check(shaken(Views()), [OUTPUT])
    assert folded(network) == 1
    assert not network.plain
    assert network.run is not None
    assert network.run.layout == torch.contiguous_format


def test_a_network_that_cannot_be_run_otherwise_runs_as_it_is() -> None:
    assert check(shaken(Unfoldable()), [OUTPUT]).plain


def test_recipes_own_ways_go_on(tiny_networks: Mapping[str, TinyNetwork]) -> None:
    module = tiny_networks["residual"].torch_module
    for recompute in (False, True):
        check(AdaptedModule(module, average=True, circular=True, recompute=recompute), ["relu", OUTPUT])


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "densenet121", "googlenet"])
def test_torchvisions_networks_fold(name: str) -> None:
    from fovea.models.zoo import load

    module = load(f"torchvision:{name}@random").module("cpu")
    norms = sum(isinstance(child, nn.BatchNorm2d) for child in module.modules())
    count = folded(check(module, [OUTPUT], (1, 3, 64, 64)))
    assert count > (0.4 if name == "densenet121" else 0.95) * norms
