"""Backward passes of one small functional-ReLU network, written out layer by layer without autograd."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
