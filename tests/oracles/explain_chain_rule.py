"""Backward passes without autograd: one small network in loops, any traced network operation by operation."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn


def relu_backward(rule: str, x: Tensor, above: Tensor) -> Tensor:
    """What each rule hands down through a ReLU whose input was `x`."""
    below = torch.zeros_like(above)
    for index in range(above.numel()):
        value, r = float(x.reshape(-1)[index]), float(above.reshape(-1)[index])
        open_by_input = value > 0 or rule == "deconvnet"
        open_by_gradient = r > 0 or rule == "gradient"
        if open_by_input and open_by_gradient:
            below.view(-1)[index] = r
    return below


def convolution_backward(layer: nn.Conv2d, above: Tensor, size: tuple[int, int]) -> Tensor:
    """The transposed convolution of the gradient (1, C, h, w) to the layer's input of `size`."""
    stride, padding = layer.stride[0], int(layer.padding[0])
    kernel = layer.weight
    out = torch.zeros(1, kernel.shape[1], size[0] + 2 * padding, size[1] + 2 * padding)
    for row in range(above.shape[2]):
        for column in range(above.shape[3]):
            patch = torch.einsum("o,oihw->ihw", above[0, :, row, column], kernel)
            y, x = row * stride, column * stride
            out[0, :, y : y + kernel.shape[2], x : x + kernel.shape[3]] += patch
    return out[:, :, padding : padding + size[0], padding : padding + size[1]]


def functional_network_backward(net: nn.Module, x: Tensor, target: int, rule: str) -> Tensor:
    """d(logit of `target`)/d(x) of conftest's `Functional` network under a rule, (1, C, H, W)."""
    conv1, conv2, conv3, fc = net.conv1, net.conv2, net.conv3, net.fc
    a1 = conv1(x)
    a2 = conv2(F.relu(a1))
    a3 = conv3(F.relu(a2))
    last = F.relu(a3)
    rows, columns = last.shape[2] // 2, last.shape[3] // 2
    above = torch.zeros_like(last)
    for unit in range(last.shape[1]):
        for row in range(rows):
            for column in range(columns):
                window = last[0, unit, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                dy, dx = divmod(int(window.argmax()), 2)
                above[0, unit, 2 * row + dy, 2 * column + dx] = fc.weight[target, unit] / (rows * columns)
    above = relu_backward(rule, a3, above)
    above = relu_backward(rule, a2, convolution_backward(conv3, above, tuple(a2.shape[2:])))
    above = relu_backward(rule, a1, convolution_backward(conv2, above, tuple(a1.shape[2:])))
    return convolution_backward(conv1, above, tuple(x.shape[2:]))


# Any network that torch.fx can trace --------------------------------------------------------------------------

Back = Callable[[Tensor], list[tuple[fx.Node, Tensor]]]
"""From the gradient at an operation's output to those at its inputs."""


@torch.no_grad()
def traced_backward(network: nn.Module, x: Tensor, target: int, rule: str) -> Tensor:
    """d(logit of `target`)/d(x) under a rule: each operation of the graph is undone by its own formula."""
    graph = fx.symbolic_trace(network).graph
    values: dict[fx.Node, Any] = {}
    backs: list[tuple[fx.Node, Back]] = []
    gradients: dict[fx.Node, Tensor] = {}
    wanted: fx.Node | None = None
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = x
            wanted = node
        elif node.op == "output":
            logits = node.args[0]
            one = torch.zeros_like(values[logits])
            one[:, target] = 1
            gradients[logits] = one
        else:
            args = fx.map_arg(node.args, lambda other: values[other])
            kwargs = fx.map_arg(node.kwargs, lambda other: values[other])
            values[node], back = _step(network, node, args, kwargs, rule)
            if back is not None:
                backs.append((node, back))
    assert wanted is not None, "the graph has an input"
    for node, back in reversed(backs):
        if node in gradients:
            for below, gradient in back(gradients[node]):
                gradients[below] = gradients[below] + gradient if below in gradients else gradient
    return gradients[wanted]


def _step(network: nn.Module, node: fx.Node, args: Any, kwargs: Any, rule: str) -> tuple[Any, Back | None]:
    """The value of an operation and its way back, None where no gradient passes (a shape, a number)."""
    if node.op == "call_module":
        module = network.get_submodule(str(node.target))
        y, back = _module(module, args[0], rule)
        return y, lambda above: [(node.args[0], back(above))]
    x = args[0]
    if node.target in (F.relu, torch.relu):
        return x.clamp_min(0), lambda above: [(node.args[0], _rectifier(rule, x > 0, above))]
    if node.target in (operator.add, operator.iadd, torch.add):
        first, second = node.args
        return args[0] + args[1], lambda above: [(first, above), (second, above)]
    if node.target is torch.cat:
        axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
        sizes = [part.shape[axis] for part in x]
        return torch.cat(x, axis), lambda above: list(zip(node.args[0], above.split(sizes, axis), strict=True))
    if node.target in (torch.flatten, "flatten"):
        return torch.flatten(x, *args[1:], **kwargs), lambda above: [(node.args[0], above.reshape(x.shape))]
    if node.target in (F.adaptive_avg_pool2d, F.max_pool2d, F.avg_pool2d, F.dropout):
        module = {
            F.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
            F.max_pool2d: nn.MaxPool2d,
            F.avg_pool2d: nn.AvgPool2d,
            F.dropout: lambda *a, **k: nn.Identity(),
        }[node.target](*args[1:], **{k: v for k, v in kwargs.items() if k not in ("return_indices",) or v})
        y, back = _module(module, x, rule)
        return y, lambda above: [(node.args[0], back(above))]
    raise NotImplementedError(f"{node.op} {node.target}: its way back has not been written out")


def _rectifier(rule: str, is_open: Tensor, above: Tensor) -> Tensor:
    if rule != "gradient":
        above = torch.where(above > 0, above, 0)
    return above if rule == "deconvnet" else torch.where(is_open, above, 0)


def _module(module: nn.Module, x: Tensor, rule: str) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A module's output for `x` and the map from the gradient above it to the one below."""
    if isinstance(module, nn.Identity | nn.Dropout):
        return x, lambda above: above
    if isinstance(module, nn.ReLU6):
        return x.clamp(0, 6), lambda above: _rectifier(rule, (x > 0) & (x < 6), above)
    if isinstance(module, nn.ReLU):
        return x.clamp_min(0), lambda above: _rectifier(rule, x > 0, above)
    if isinstance(module, nn.Conv2d):
        return module(x), lambda above: _transposed(module, above, tuple(x.shape[2:]))
    if isinstance(module, nn.BatchNorm2d):
        assert module.running_var is not None
        assert module.running_mean is not None
        scale = (module.weight / (module.running_var + module.eps).sqrt())[:, None, None]
        shift = module.bias[:, None, None] - module.running_mean[:, None, None] * scale
        return x * scale + shift, lambda above: above * scale
    if isinstance(module, nn.Linear):
        return x @ module.weight.T + module.bias, lambda above: above @ module.weight
    if isinstance(module, nn.MaxPool2d):
        return _max_pool(module, x)
    if isinstance(module, nn.AvgPool2d):
        return module(x), lambda above: _spread(module, above, tuple(x.shape[2:]))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return module(x), lambda above: _spread_adaptively(above, tuple(x.shape[2:]))
    raise NotImplementedError(f"{module}: its way back has not been written out")


def _transposed(layer: nn.Conv2d, above: Tensor, size: tuple[int, ...]) -> Tensor:
    """The transposed convolution, with the rows that the stride leaves over."""
    left = [
        size[i] - ((above.shape[2 + i] - 1) * layer.stride[i] - 2 * int(layer.padding[i]) + layer.kernel_size[i])
        for i in (0, 1)
    ]
    assert tuple(layer.dilation) == (1, 1)
    return F.conv_transpose2d(above, layer.weight, None, layer.stride, layer.padding, left, layer.groups)


def _max_pool(module: nn.MaxPool2d, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    settings = (module.kernel_size, module.stride, module.padding, module.dilation, module.ceil_mode)
    y, where = F.max_pool2d(x, *settings, return_indices=True)

    def back(above: Tensor) -> Tensor:
        flat = torch.zeros_like(x).flatten(2)
        flat.scatter_add_(2, where.flatten(2), above.flatten(2))
        return flat.view_as(x)

    return y, back


def _spread(module: nn.AvgPool2d, above: Tensor, size: tuple[int, ...]) -> Tensor:
    """Every mean hands an equal share to each place of its window; padding counts as places."""
    pair = [v if isinstance(v, tuple) else (v, v) for v in (module.kernel_size, module.stride, module.padding)]
    (kernel, stride, padding), share = pair, above.new_ones(above.shape[1], 1, *pair[0])
    layer = nn.Conv2d(above.shape[1], above.shape[1], kernel, stride, padding, groups=above.shape[1], bias=False)
    layer.weight = nn.Parameter(share / (kernel[0] * kernel[1]), requires_grad=False)
    return _transposed(layer, above, size)


def _spread_adaptively(above: Tensor, size: tuple[int, ...]) -> Tensor:
    below = above.new_zeros(*above.shape[:2], *size)
    rows, columns = above.shape[2:]
    for i in range(rows):
        for j in range(columns):
            y0, y1 = i * size[0] // rows, -(-(i + 1) * size[0] // rows)
            x0, x1 = j * size[1] // columns, -(-(j + 1) * size[1] // columns)
            below[:, :, y0:y1, x0:x1] += above[:, :, i : i + 1, j : j + 1] / ((y1 - y0) * (x1 - x0))
    return below
