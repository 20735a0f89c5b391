"""The backward rules of ReLUs against the hand-written chain rule, and what they leave behind: nothing."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fovea.engine.explain.backward.attribution import explain
from fovea.engine.explain.backward.rules import ReluRule, backward_rule
from fovea.engine.scores import Score
from fovea.models.card import OUTPUT
from fovea.models.torch_net import prepare
from tests.networks.tiny import TinyNetwork, state_of
from tests.oracles.explain_chain_rule import functional_network_backward

RULES = ("gradient", "deconvnet", "guided")


def logit(target: int) -> Score:
    return Score(OUTPUT, lambda out: out[:, target], f"logit {target}", {})


def gradient(module: nn.Module, x: Tensor, rule: Any, target: int = 2) -> Tensor:
    return explain(module, x, OUTPUT, lambda out: logit(target), rule).gradient


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["functional", "grey"])
def test_rules_equal_a_hand_written_chain_rule(rule: str, name: str, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    module = tiny_networks[name].torch_module
    x = torch.randn(1, module.conv1.in_channels, 16, 20, generator=torch.Generator().manual_seed(3))
    expected = functional_network_backward(module, x, 2, rule)
    got = gradient(module, x, rule)
    assert expected.abs().max() > 0
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("rule", RULES)
def test_rules_equal_captum_on_modules(rule: str) -> None:
    captum = pytest.importorskip("captum.attr")
    make = {"gradient": captum.Saliency, "deconvnet": captum.Deconvolution, "guided": captum.GuidedBackprop}[rule]
    torch.manual_seed(0)

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, 6, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(4),
        )

    ours, theirs = build(), build()
    x = torch.randn(2, 3, 14, 14)
    with torch.no_grad():
        ours(x), theirs(x)
    theirs.load_state_dict(ours.state_dict())
    prepare(ours)
    settings = {"abs": False} if rule == "gradient" else {}
    with pytest.warns(UserWarning, match="hooks") if rule != "gradient" else torch.enable_grad():
        expected = make(theirs).attribute(x.clone().requires_grad_(True), target=2, **settings)
    torch.testing.assert_close(gradient(ours, x, rule), expected.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.Hardtanh(0.0, 6.0),
        F.relu,
        lambda x: F.relu(x, True),
        F.relu_,
        F.relu6,
        lambda x: F.hardtanh(x, 0, 6),
        torch.relu,
        torch.relu_,
        lambda x: x.relu(),
        lambda x: x.relu_(),
        lambda x: x.clamp(min=0),
        lambda x: x.clamp(0, 6),
        lambda x: torch.clamp_min(x, 0),
        lambda x: (x.relu_(), x)[1],
    ],
)
def test_every_way_to_call_a_relu_is_met(call: Any) -> None:
    x = torch.tensor([-2.0, -1.0, 1.0, 2.0])
    above = torch.tensor([1.0, -1.0, 1.0, -1.0])
    expected = {
        "gradient": [0, 0, 1, -1],
        "deconvnet": [1, 0, 1, 0],
        "guided": [0, 0, 1, 0],
        "redirected": [1, -1, 1, -1],
    }
    for rule, values in expected.items():
        leaf = x.clone().requires_grad_(True)
        with ReluRule(rule) as mode:  # type: ignore[arg-type]
            y = call(leaf * 1)
        assert mode.relus == 1
        torch.testing.assert_close(y.detach(), x.clamp_min(0))
        (got,) = torch.autograd.grad(y, leaf, above)
        torch.testing.assert_close(got, torch.tensor(values, dtype=torch.float32), msg=f"{rule}: {got}")


def test_a_relu6_is_shut_above_its_second_bend() -> None:
    x = torch.tensor([-1.0, 3.0, 7.0], requires_grad=True)
    with ReluRule("guided"):
        y = F.relu6(x)
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0, 1, 0]
    assert y.tolist() == [0, 3, 6]


def test_what_is_no_rectifier_keeps_its_derivative() -> None:
    x = torch.linspace(-3, 3, 7, requires_grad=True)
    for call in (F.hardtanh, F.silu, F.hardswish, lambda v: v.clamp(min=0.5), F.leaky_relu):
        expected = torch.autograd.grad(call(x).sum(), x)[0]
        with ReluRule("guided") as mode:
            y = call(x)
        assert mode.relus == 0
        torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], expected)


def test_a_network_without_relus_is_told(tiny_networks: Mapping[str, TinyNetwork]) -> None:
    module = tiny_networks["smooth"].torch_module
    x = torch.randn(1, 3, 32, 32)
    guided = explain(module, x, OUTPUT, lambda out: logit(0), "guided")
    assert "no ReLU" in guided.notes[0]
    assert "SiLU" in guided.notes[0]
    torch.testing.assert_close(guided.gradient, gradient(module, x, "gradient", 0))


class Mixed(nn.Module):
    """ReLU6, hardtanh, hard-swish and SiLU in one network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.acts = nn.Sequential(nn.ReLU6(), nn.Hardtanh(0, 2), nn.Hardtanh(), nn.Hardswish(), nn.SiLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.acts(self.conv(x)).mean((2, 3))
        return out


@pytest.mark.parametrize(("rule", "does"), [("guided", "below 0 or above 6"), ("deconvnet", "does not ask")])
def test_every_kind_of_activation_is_told(rule: Any, does: str) -> None:
    notes = explain(prepare(Mixed()), torch.randn(1, 3, 8, 8), OUTPUT, lambda out: logit(0), rule).notes
    assert notes[0] == f"the {rule} rule acts on 2 ReLUs; 1 SiLU, 1 hard-swish, 1 hardtanh keep their own derivative"
    assert "1 of the ReLUs end at 2 " in notes[1]
    assert "1 of the ReLUs end at 6 " in notes[2]
    assert does in notes[2]


def test_the_rule_ends_with_its_context() -> None:
    x = torch.tensor([-1.0, 1.0], requires_grad=True)
    with backward_rule("deconvnet"):
        pass
    assert torch.autograd.grad(F.relu(x).sum(), x)[0].tolist() == [0, 1]


@pytest.mark.parametrize("rule", RULES)
def test_nothing_is_left_on_the_network(rule: str, tiny: TinyNetwork) -> None:
    before = state_of(tiny.torch_module)
    channels, height, width = len(tiny.card.preprocessing.mean), *tiny.card.preprocessing.size
    gradient(tiny.torch_module, torch.randn(1, channels, height, width), rule)
    assert state_of(tiny.torch_module) == before


def test_two_threads_get_what_each_gets_alone(tiny_networks: Mapping[str, TinyNetwork]) -> None:
    module = tiny_networks["residual"].torch_module
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    alone = {rule: gradient(module, x, rule) for rule in RULES}
    wrong: list[str] = []

    def many(rule: str) -> None:
        for _ in range(20):
            if not torch.equal(gradient(module, x, rule), alone[rule]):
                wrong.append(rule)

    threads = [threading.Thread(target=many, args=(rule,)) for rule in RULES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
