"""Taps: what they hold, that they leave the network as it was, and that threads do not meet."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from fovea.models import torch_net
from fovea.models.card import OUTPUT
from fovea.models.errors import UnknownNameError
from fovea.models.network import Network
from tests.networks.modules import FunctionalResidual, TupleOutput, Twice


def prepared(module: nn.Module) -> nn.Module:
    return torch_net.prepare(torch_net.randomise(module))


def test_a_module_called_again_is_numbered() -> None:
    module, x = prepared(Twice()), torch.randn(2, 3, 8, 8)
    names = [layer.name for layer in torch_net.trace(module, (3, 8, 8))[0]]
    assert [n for n in names if n.startswith("conv")] == ["conv", "conv#2", "conv#3"]
    taps = torch_net.forward_taps(module, x, ["conv#2", "relu", "relu#3", OUTPUT])
    assert list(taps) == ["conv#2", "relu", "relu#3", OUTPUT]
    assert torch.equal(taps["conv#2"], module.conv(taps["relu"]))  # type: ignore[operator]
    assert torch.equal(taps[OUTPUT], module(x))


def test_taps_equal_hooks_of_ones_own() -> None:
    module, x = prepared(FunctionalResidual()), torch.randn(1, 3, 16, 16)
    seen = {}
    handles = [
        child.register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out.clone()))
        for name, child in module.named_children()
    ]
    module(x)
    for handle in handles:
        handle.remove()
    for name, value in torch_net.forward_taps(module, x, list(seen)).items():
        assert torch.equal(value, seen[name]), name


def test_what_the_network_does_in_place_does_not_reach_a_tap() -> None:
    module, x = prepared(FunctionalResidual()), torch.randn(1, 3, 16, 16)
    # `y += x` follows `second`: its tap must hold the sum's first term alone.
    alone = torch_net.forward_taps(module, x, ["second"])["second"]
    with_more = torch_net.forward_taps(module, x, ["second", "third", OUTPUT])
    assert torch.equal(alone, with_more["second"])
    assert torch.equal(with_more[OUTPUT], module(x))


def test_the_forward_pass_ends_at_the_last_tap() -> None:
    module = prepared(FunctionalResidual())
    ran = []
    module.head.register_forward_hook(lambda *_: ran.append(1))  # type: ignore[union-attr]
    torch_net.forward_taps(module, torch.randn(1, 3, 16, 16), ["second"])
    assert not ran


def test_gradients_flow_from_a_tap_and_through_it() -> None:
    module, x = prepared(FunctionalResidual()), torch.randn(1, 3, 16, 16, requires_grad=True)
    taps = torch_net.forward_taps(module, x, ["third", OUTPUT])
    (through,) = torch.autograd.grad(taps[OUTPUT][0, 1], taps["third"], retain_graph=True)
    assert through.abs().sum() > 0
    (to_input,) = torch.autograd.grad(taps["third"].sum(), x)
    assert to_input.abs().sum() > 0


def test_an_unknown_tap_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean second"):
        torch_net.forward_taps(prepared(FunctionalResidual()), torch.zeros(1, 3, 16, 16), ["secnod"])


def test_tuples_and_dicts() -> None:
    module, x = prepared(TupleOutput()), torch.randn(2, 3, 8, 8)
    taps = torch_net.forward_taps(module, x, ["block", "block.conv", OUTPUT])
    assert torch.equal(taps["block"], taps["block.conv"])
    assert taps[OUTPUT].shape == (2, 3)


def test_two_threads_on_one_network(small: Callable[..., Network]) -> None:
    module = small("squeezenet1_1").module()
    inputs = [torch.randn(1, 3, 64, 64) for _ in range(4)]
    layers = ["features.0", "features.3", "features.6.squeeze", "features.12"]
    expected = [torch_net.forward_taps(module, x, [n])[n] for x, n in zip(inputs, layers, strict=True)]
    wrong: list[str] = []

    def work(index: int) -> None:
        for _ in range(10):
            got = torch_net.forward_taps(module, inputs[index], [layers[index]])
            if not torch.equal(got[layers[index]], expected[index]):
                wrong.append(layers[index])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_pass_that_fails_leaves_no_tape() -> None:
    module = prepared(FunctionalResidual())
    with pytest.raises(RuntimeError):
        torch_net.forward_taps(module, torch.zeros(1, 5, 16, 16), ["second"])
    assert torch_net._thread.tape is None


def test_random_weights_are_the_same_every_time() -> None:
    one, two = (torch_net.randomise(FunctionalResidual(), seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    state = torch.random.get_rng_state()
    torch_net.randomise(one)
    assert torch.equal(state, torch.random.get_rng_state())


def test_values_read_out_of_the_network() -> None:
    class Peeks(FunctionalResidual):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x * 2 if float(x.mean()) > 100 else x)

    layers = torch_net.trace(prepared(Peeks()), (3, 16, 16))[0]
    assert [layer.name for layer in layers] == ["first", "second", "third", "head"]
    assert all(layer.receptive_field is None for layer in layers)
    assert layers[0].axes == "NCHW"


class _Activations(nn.Module):
    """Activations of a layer itself, of one behind a normalisation, of a sum, of what was written to, of a group."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 4, 3, padding=1) for c in (3, 4, 4))
        self.norm = nn.BatchNorm2d(4)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1))
        self.relu, self.of_norm, self.of_block = nn.ReLU(inplace=True), nn.ReLU(), nn.ELU()
        self.bounded, self.head = nn.ReLU6(), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.first(x))
        y = self.of_norm(self.norm(self.second(x)))
        z = self.third(y)
        z += x
        z = self.of_block(self.block(self.relu(z)))
        z[:, :2].mul_(-1)
        return self.bounded(self.head(self.relu(z))).mean((2, 3))


def test_an_activation_names_the_layer_whose_very_output_it_reads() -> None:
    layers = torch_net.trace(prepared(_Activations()), (3, 8, 8))[0]
    # `relu#2` reads a sum that was made in place, `relu#3` what was written to through a view; ReLU6 has an end.
    assert {layer.name: layer.activates for layer in layers if layer.activates} == {
        "relu": "first",
        "of_norm": "norm",
        "of_block": "block.0",
    }
