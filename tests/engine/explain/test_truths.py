"""Real architectures: every backward rule equals Captum's, or a chain rule by hand where Captum's is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fovea.engine.explain.backward.attribution import explain
from fovea.engine.method import Job, find_method
from fovea.engine.scores import Score
from fovea.models.card import OUTPUT
from fovea.models.torch_net import prepare, randomise
from tests.networks.tiny import TinyNetwork, state_of, tiny_network
from tests.oracles.explain_chain_rule import traced_backward

TARGET = 3
TOLERANCE = 1e-5
"""Of the largest value."""


def build(name: str) -> nn.Module:
    """torchvision's architecture with seeded random weights; VGG's dense layers of 4096 units have 64 here."""
    import fovea.models.torchvision_compat  # noqa: F401, I001
    import torchvision

    arguments: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3", "vgg11") else {}
    with torch.device("meta"):  # the weights are drawn once, below
        module: nn.Module = getattr(torchvision.models, name)(**arguments, num_classes=10)
        if name == "vgg11":
            dense: Any = module.classifier
            dense[0], dense[3], dense[6] = nn.Linear(25088, 64), nn.Linear(64, 64), nn.Linear(64, 10)
    return randomise(module.to_empty(device="cpu")).eval().requires_grad_(False)


def rule_gradient(module: nn.Module, x: Tensor, rule: Any) -> Tensor:
    score = Score(OUTPUT, lambda out: out[:, TARGET], "logit", {})
    return explain(module, x, OUTPUT, lambda out: score, rule).gradient


def assert_same(found: Any, expected: Any) -> None:
    """Equal to 1e-5 of the largest value, which is not zero."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * float(np.abs(expected).max()))


@dataclass
class Peer:
    """A network that Captum explains rightly, and the layer for Grad-CAM."""

    net: TinyNetwork
    layer: str


@pytest.fixture(scope="module", params=["resnet18", "vgg11"])
def peer(request: pytest.FixtureRequest) -> Peer:
    pytest.importorskip("captum")
    net = tiny_network(request.param, build(request.param), (48, 64), classes=tuple("abcdefghij"))
    return Peer(net, {"resnet18": "layer4", "vgg11": "features.17"}[request.param])


@pytest.mark.parametrize("rule", ["gradient", "deconvnet", "guided"])
def test_rules_equal_captum(rule: str, peer: Peer) -> None:
    import captum.attr

    module = peer.net.torch_module
    x = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    found = rule_gradient(module, x, rule)
    leaf = x.clone().requires_grad_(True)
    if rule == "gradient":
        expected = captum.attr.Saliency(module).attribute(leaf, target=TARGET, abs=False)
    else:
        make = {"deconvnet": captum.attr.Deconvolution, "guided": captum.attr.GuidedBackprop}[rule]
        with pytest.warns(UserWarning, match="hooks"):
            expected = make(module).attribute(leaf, target=TARGET)
    assert_same(found, expected.detach())


def test_gradcam_equals_captum(peer: Peer, make_job: Callable[..., Job]) -> None:
    import captum.attr

    module = peer.net.torch_module
    captums = captum.attr.LayerGradCam(module, module.get_submodule(peer.layer))
    seen = False
    for target in (3, 4, 5, 6):
        job = make_job("gradcam", peer.net, layer=peer.layer, target=str(target))
        found = find_method("gradcam").run(job).arrays["map"]
        expected = captums.attribute(torch.from_numpy(job.input), target=target, relu_attributions=True)[0, 0].detach()
        atol = TOLERANCE * float(expected.max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        seen |= bool(expected.any())
    assert seen, "no class has a place that speaks for it: the comparison was of zeros"


def test_integrated_gradients_equal_captum(peer: Peer, make_job: Callable[..., Job]) -> None:
    import captum.attr

    options = {"sampling": "integrated", "reduction": "sum", "steps": 6}
    job = make_job("saliency", peer.net, target="3", baseline="black", **options)
    found = find_method("saliency").run(job).arrays["saliency"]
    black = torch.from_numpy(job.card.preprocessing.value_limits()[0]).view(1, 3, 1, 1)
    x = torch.from_numpy(job.input)
    integrated = captum.attr.IntegratedGradients(peer.net.torch_module)
    expected = integrated.attribute(x, black.expand_as(x), target=TARGET, n_steps=6)
    assert_same(found, expected[0].sum(0).detach())


SIZES = {"googlenet": (48, 56), "inception_v3": (75, 80), "mobilenet_v2": (48, 56), "densenet121": (40, 48)}


@pytest.mark.parametrize("name", SIZES)
def test_rules_equal_the_chain_rule_where_captum_is_wrong(name: str) -> None:
    """Captum hooks modules of the class ReLU: it misses functions and ReLU6, and hands back other gradients.

    When its last assertion fails, Captum has been mended, and the oracle may be Captum again.
    """
    captum = pytest.importorskip("captum.attr")
    module = build(name)
    ours = prepare(copy.deepcopy(module))
    before = state_of(ours)
    x = torch.randn(1, 3, *SIZES[name], generator=torch.Generator().manual_seed(0))
    expected = {rule: traced_backward(module, x, TARGET, rule) for rule in ("gradient", "deconvnet", "guided")}
    for rule, values in expected.items():
        assert_same(rule_gradient(ours, x, rule), values)
    assert state_of(ours) == before
    with pytest.warns(UserWarning, match="hooks"):
        captums = captum.GuidedBackprop(module).attribute(x.clone().requires_grad_(True), target=TARGET)
    assert float((captums - expected["guided"]).abs().max() / expected["guided"].abs().max()) > 1000 * TOLERANCE


def test_the_chain_rule_walks_networks_that_captum_gets_right() -> None:
    """The two oracles agree where both can be asked."""
    captum = pytest.importorskip("captum.attr")
    module = build("resnet18")
    x = torch.randn(1, 3, 40, 48, generator=torch.Generator().manual_seed(1))
    with pytest.warns(UserWarning, match="hooks"):
        expected = captum.GuidedBackprop(module).attribute(x.clone().requires_grad_(True), target=TARGET)
    assert_same(traced_backward(module, x, TARGET, "guided"), expected.detach())
