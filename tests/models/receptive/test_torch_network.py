"""Receptive fields against the box in which the gradient is not zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fovea.models import torch_net
from fovea.models.builders import torchvision_builder
from fovea.models.card import Layer
from tests.networks.modules import FunctionalResidual, SliceWriter


class _Linear(TorchFunctionMode):
    """Every nonlinearity a straight line and every maximum a mean, so that no gradient vanishes by chance."""

    names = frozenset(("relu", "relu_", "relu6", "hardtanh", "silu", "gelu", "hardswish", "sigmoid", "hardsigmoid"))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in self.names:
            return args[0] * 1.0
        if name == "max_pool2d" and "Boolean" not in type(func).__name__:
            keep = {k: v for k, v in kwargs.items() if k in ("ceil_mode",)}
            facts = dict(zip(("kernel_size", "stride", "padding"), args[1:4], strict=False)) | kwargs
            return F.avg_pool2d(args[0], facts["kernel_size"], facts.get("stride"), facts.get("padding", 0), **keep)
        return func(*args, **kwargs)


def gradient_box(module: nn.Module, shape: tuple[int, int, int], layer: Layer, row: int, column: int) -> Any:
    """(x0, y0, x1, y1) of the input pixels that move the layer's units at (row, column): the slow, obvious way."""
    x = torch.rand(1, *shape).requires_grad_()
    with _Linear():
        value = torch_net.forward_taps(module, x, [layer.name])[layer.name]
    at = value[:, :, row, column] if layer.axes == "NCHW" else value[:, row, column]
    (gradient,) = torch.autograd.grad(at.sum(), x)
    seen = gradient[0].abs().sum(0) > 0
    if not seen.any():
        return None
    rows, columns = seen.any(1).nonzero()[:, 0], seen.any(0).nonzero()[:, 0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def positive(module: nn.Module) -> nn.Module:
    """Weights that are all positive: contributions never cancel."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.data = torch.rand_like(parameter) * 0.9 + 0.1
        if parameter.dim() > 1:
            parameter.data /= parameter[0].numel()
    return torch_net.prepare(module)


def compare(module: nn.Module, shape: tuple[int, int, int], every: int, exact: bool = True) -> None:
    layers = [x for x in torch_net.trace(module, shape)[0] if x.axes in ("NCHW", "NHWC")]
    assert layers
    for layer in layers[::every] + layers[-1:]:
        field = layer.receptive_field
        assert field is not None, layer.name
        rows, columns = layer.grid
        for row, column in {(rows // 2, columns // 2), (rows - 1, 0)}:
            box, wanted = field.box(row, column, shape[1:]), gradient_box(module, shape, layer, row, column)
            if wanted is None:  # a place in the padding
                continue
            if exact:
                assert box == wanted, (layer.name, row, column)
            else:
                contains = np.less_equal(box[:2], wanted[:2]).all() and np.greater_equal(box[2:], wanted[2:]).all()
                assert contains, (layer.name, row, column, box, wanted)


def _torchvision(name: str, **arguments: Any) -> nn.Module:
    return positive(torchvision_builder(name)(**arguments))


def test_residual() -> None:
    compare(_torchvision("resnet18"), (3, 96, 96), 15)


def test_branching() -> None:
    compare(_torchvision("googlenet", aux_logits=False, init_weights=False), (3, 96, 96), 45)


def test_depthwise() -> None:
    compare(_torchvision("mobilenet_v2"), (3, 64, 64), 45)


def test_channel_shuffle() -> None:
    compare(_torchvision("shufflenet_v2_x0_5"), (3, 64, 64), 45)


def test_squeeze_and_excite_sees_the_whole_image() -> None:
    module = _torchvision("mobilenet_v3_small")
    layers = torch_net.trace(module, (3, 96, 96))[0]
    first = next(i for i, x in enumerate(layers) if x.kind == "SqueezeExcitation")
    assert not layers[first - 8].receptive_field.whole  # type: ignore[union-attr]
    assert all(x.receptive_field is not None and x.receptive_field.whole for x in layers[first:])


@pytest.mark.parametrize("shape", [(1, 40, 40), (3, 33, 61), (4, 64, 24)])
def test_functional_code_channels_and_shapes(shape: tuple[int, int, int]) -> None:
    compare(positive(FunctionalResidual(shape[0])), shape, 1)


def test_writing_into_a_slice() -> None:
    compare(positive(SliceWriter()), (3, 32, 32), 1)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2, padding=2), nn.Conv2d(4, 4, (1, 5), stride=(1, 3))),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.AvgPool2d(3, 2, ceil_mode=True)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(4, 4, 3)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.LocalResponseNorm(5), nn.Conv2d(4, 4, 3, 1, 1, groups=2)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.PixelShuffle(2), nn.Conv2d(1, 4, 3, padding=1)),
    ],
    ids=["dilated", "ceil", "padded", "lrn and groups", "pixel shuffle"],
)
def test_geometry(build: Callable[[], nn.Module]) -> None:
    compare(positive(build()), (3, 37, 37), 1, exact=False)


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ConvTranspose2d(4, 4, 4, 2, 1), nn.Conv2d(4, 4, 3)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear")),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(5)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReflectionPad2d(2), nn.Conv2d(4, 4, 5)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.InstanceNorm2d(4)),
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.GroupNorm(2, 4)),
    ],
    ids=["transposed", "nearest", "bilinear", "adaptive", "reflected", "instance norm", "group norm"],
)
def test_never_too_small(build: Callable[[], nn.Module]) -> None:
    compare(positive(build()), (3, 37, 37), 1, exact=False)


def test_attention_sees_the_whole_image() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches = nn.Conv2d(3, 8, 8, 8)
            self.norm = nn.LayerNorm(8)
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.mlp = nn.Linear(8, 8)
            self.token = nn.Parameter(torch.zeros(1, 1, 8))

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
            y = self.norm(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return (x + self.mlp(x))[:, 0]

    layers = {x.name: x for x in torch_net.trace(torch_net.prepare(Attention()), (3, 48, 32))[0]}
    norm, mlp = layers["norm"], layers["mlp"]
    assert (norm.axes, norm.grid, norm.extra_tokens, norm.units) == ("tokens", (6, 4), 1, 8)
    assert norm.receptive_field is not None
    assert norm.receptive_field.box(2, 3, (48, 32)) == (24, 16, 32, 24)
    assert mlp.receptive_field is not None
    assert mlp.receptive_field.whole


def test_windows_of_swin_grow() -> None:
    layers = {x.name: x for x in torch_net.trace(_torchvision("swin_t"), (3, 224, 224))[0]}
    first, second = layers["features.1.0"], layers["features.1.1"]
    assert (first.axes, first.grid, first.units) == ("NHWC", (56, 56), 96)
    assert first.receptive_field is not None
    assert second.receptive_field is not None
    # A window of 7 x 7 places of 4 pixels; places in the middle of it see less than one more window each way.
    assert 28 <= first.receptive_field.size[0] <= 56
    assert second.receptive_field.size[0] > first.receptive_field.size[0]
    assert layers["features.7.1"].receptive_field.whole  # type: ignore[union-attr]


def test_rows_and_columns_are_followed_through_merged_patches() -> None:
    """Channels last, positions flattened within a block, then two by two of them joined, as timm's Swin does."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.mlp = nn.LayerNorm(6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            rows, columns = x.shape[1:3]
            return x + self.mlp(self.norm(x.flatten(1, 2))).unflatten(1, (rows, columns))

    class Merging(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.block = nn.Conv2d(3, 6, 4, 4), Block()
            self.norm, self.linear = nn.LayerNorm(24), nn.Linear(24, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.block(self.patches(x).permute(0, 2, 3, 1))
            rows, columns = x.shape[1] // 2, x.shape[2] // 2
            x = x.reshape(x.shape[0], rows, 2, columns, 2, 6).permute(0, 1, 3, 4, 2, 5).flatten(3)
            return self.linear(self.norm(x)).mean((1, 2))

    layers = {x.name: x for x in torch_net.trace(positive(Merging()), (3, 48, 32))[0]}
    block, norm, linear = layers["block"], layers["norm"], layers["linear"]
    assert (block.axes, block.grid, block.units) == ("NHWC", (12, 8), 6)
    assert (norm.axes, norm.grid, norm.units) == ("NHWC", (6, 4), 24)
    assert (linear.axes, linear.grid, linear.units) == ("NHWC", (6, 4), 5)
    assert linear.receptive_field is not None
    assert linear.receptive_field.box(2, 3, (48, 32)) == (24, 16, 32, 24)
