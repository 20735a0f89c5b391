"""Grad-CAM against Captum and its own formula, on maps, tokens and networks that have none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fovea.engine.errors import UnsupportedError
from fovea.engine.explain.gradcam import class_activation_map
from fovea.engine.method import Job, Result, find_method
from tests.networks.tiny import TinyNetwork, state_of, tiny_network

Make = Callable[..., Job]


def run(job: Job) -> Result:
    return find_method("gradcam").run(job)


def test_equals_captum(tiny_networks: Mapping[str, TinyNetwork], make_job: Make) -> None:
    captum = pytest.importorskip("captum.attr")
    for name, layer in (("residual", "conv"), ("branching", "five"), ("wide", "conv2")):
        net = tiny_networks[name]
        for target in range(5):
            job = make_job("gradcam", net, layer=layer, target=str(target))
            x = torch.from_numpy(job.input)
            found = captum.LayerGradCam(net.torch_module, net.torch_module.get_submodule(layer))
            expected = found.attribute(x, target=target, relu_attributions=True)
            result = run(job)
            atol = 1e-5 * float(expected.detach().max())
            np.testing.assert_allclose(result.arrays["map"], expected[0, 0].detach().numpy(), rtol=1e-4, atol=atol)
            fine = F.interpolate(expected.detach(), tuple(x.shape[2:]), mode="bilinear", align_corners=False)
            np.testing.assert_allclose(result.arrays["gradcam"], fine[0, 0].numpy(), rtol=1e-4, atol=atol)


def test_plus_plus_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(3, 4, 5, generator=generator)
    gradients = torch.randn(3, 4, 5, generator=generator)
    a, g = maps.numpy(), gradients.numpy()
    expected = np.zeros((4, 5))
    for k in range(3):
        weight = 0.0
        for i in range(4):
            for j in range(5):
                alpha = g[k, i, j] ** 2 / (2 * g[k, i, j] ** 2 + (a[k] * g[k] ** 3).sum())
                weight += alpha * max(g[k, i, j], 0)
        expected += weight * a[k]
    got = class_activation_map(maps, gradients, plus_plus=True)
    np.testing.assert_allclose(got.numpy(), np.maximum(expected, 0), rtol=1e-4)


@pytest.mark.parametrize("variant", ["gradcam", "gradcam++"])
def test_every_network_gives_a_map_and_is_left_as_it_was(variant: str, tiny: TinyNetwork, make_job: Make) -> None:
    before = state_of(tiny.torch_module)
    result = run(make_job("gradcam", tiny, variant=variant))
    assert result.arrays["gradcam"].shape == tiny.card.preprocessing.size
    assert result.arrays["gradcam"].min() >= 0
    assert np.isfinite(result.arrays["guided_gradcam"]).all()
    assert state_of(tiny.torch_module) == before


class Tokens(nn.Module):
    """A patch embedding whose second layer works on tokens after a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.mix = nn.Linear(6, 6)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.new_ones(len(tokens), 1, 6), tokens], 1)
        out: torch.Tensor = self.fc(torch.tanh(self.mix(tokens)).mean(1))
        return out


def test_tokens_become_their_grid(make_job: Make) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = tiny_network("tokens", Tokens(), (32, 48))
    layer = net.card.layer("mix")
    assert (layer.axes, layer.extra_tokens, layer.grid) == ("tokens", 1, (4, 6))
    for target in range(5):
        job = make_job("gradcam", net, layer="mix", target=str(target))
        inner = net.torch_module.patches(torch.from_numpy(job.input)).flatten(2).transpose(1, 2)
        tokens = net.torch_module.mix(torch.cat([inner.new_ones(1, 1, 6), inner], 1)).detach().requires_grad_(True)
        score = net.torch_module.fc(torch.tanh(tokens).mean(1))[0, target]
        (gradient,) = torch.autograd.grad(score, tokens)
        weights = gradient[0, 1:].mean(0)
        expected = (tokens[0, 1:] @ weights).clamp_min(0).view(4, 6)
        np.testing.assert_allclose(run(job).arrays["map"], expected.detach().numpy(), atol=1e-6)


def small_vit() -> nn.Module:
    """timm's ViT with two blocks: its class is read off a token of its own, so the last maps have no influence."""
    import fovea.models.torchvision_compat  # noqa: F401 - before timm, which imports torchvision

    timm = pytest.importorskip("timm")
    module: nn.Module = timm.create_model("vit_tiny_patch16_224", img_size=(64, 80), num_classes=5, depth=2)
    return module


def small_swin() -> nn.Module:
    """torchvision's Swin with one block a stage and its channels last."""
    import fovea.models.torchvision_compat  # noqa: F401, I001
    import torchvision

    settings = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": [4, 4]}
    module: nn.Module = torchvision.models.SwinTransformer(patch_size=[4, 4], num_classes=5, **settings)
    return module


@pytest.mark.parametrize(
    ("make", "chosen", "layer", "size", "grid"),
    [
        (small_vit, "blocks.1.norm1", "blocks.1.norm1", (64, 80), (4, 5)),
        (small_swin, "permute", "norm", (64, 96), (2, 3)),
    ],
)
def test_transformers_by_their_token_grid(
    make: Callable[[], nn.Module], chosen: str, layer: str, size: tuple[int, int], grid: tuple[int, int], make_job: Make
) -> None:
    """The layer that is chosen, and the formula on a layer's tokens, taken by hand."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = tiny_network("transformer", make(), size)
    job = make_job("gradcam", net)
    assert run(job).summary["layer"] == chosen
    assert any("no ReLU" in warning for warning in job.warnings)
    kept: list[torch.Tensor] = []

    def keep(module: nn.Module, inputs: object, output: torch.Tensor) -> torch.Tensor:
        kept.append(output.detach().requires_grad_(True))
        return kept[-1]

    handle = net.torch_module.get_submodule(layer).register_forward_hook(keep)
    scores = net.torch_module(torch.from_numpy(job.input))[0]
    handle.remove()
    seen = False
    for target in range(5):
        found = run(make_job("gradcam", net, layer=layer, target=str(target))).arrays["map"]
        (gradient,) = torch.autograd.grad(scores[target], kept[0], retain_graph=True)
        places, slopes = (t[0].flatten(0, -2)[-grid[0] * grid[1] :] for t in (kept[0].detach(), gradient))
        expected = (places @ slopes.mean(0)).clamp_min(0).view(grid)
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-5 * float(expected.max()))
        seen |= bool(expected.any())
    assert seen


def test_what_has_no_maps_or_no_class_is_refused(make_job: Make, tiny_networks: Mapping[str, TinyNetwork]) -> None:
    flat = tiny_network("flat", nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 5)))
    with pytest.raises(UnsupportedError, match="no layer whose units are maps"):
        make_job("gradcam", flat)
    features = tiny_network("features", nn.Sequential(nn.Conv2d(3, 4, 3)), output="features", classes=())
    with pytest.raises(UnsupportedError, match="no classes"):
        make_job("gradcam", features)
    with pytest.raises(UnsupportedError, match="maps"):
        make_job("gradcam", tiny_networks["residual"], layer="fc")
