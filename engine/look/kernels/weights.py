"""A layer's own weights, read from the exported graph, so that torch networks and ONNX files are read alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fovea.engine.errors import UnsupportedError
from fovea.models.card import INPUT_OF, OUTPUT

if TYPE_CHECKING:
    import onnx

    from fovea.models.card import Card
    from fovea.models.network import Network

_PASSING = {"Identity", "Cast", "Pad"}
"""Operators that hand a tensor on: what is behind them is still the picture, or still the weights."""

_STILL_COLOURS = _PASSING | {"BatchNormalization", "Sub", "Div", "Mul", "Add"}
"""A picture that was normalised once more still has its colours."""

_FLAT = {"Flatten", "Reshape"}
"""A picture in one row has its pixels in the same order: all of red, row by row, then green and blue."""

_SAME_UNITS = _PASSING | {
    *("Relu", "Clip", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Softplus", "Mish", "HardSwish", "Gelu"),
    *("BatchNormalization", "LRN", "Dropout", "MaxPool"),
}
"""Operators behind which a channel is still the same unit: where it is excited most, so is what is made of it."""


@dataclass(frozen=True)
class LayerWeights:
    """`values` (units, inputs of a group, rows, columns), float32.

    Rows and columns are 1 for a linear layer, or the picture's where it reads the picture itself, pixel by pixel.
    `groups`: unit u reads the inputs of group u // (units / groups). `on_picture`: its input is the picture.
    """

    values: NDArray[np.float32]
    groups: int
    on_picture: bool

    @property
    def depthwise(self) -> bool:
        """Whether every unit reads one input channel alone."""
        return self.values.shape[1] == 1 and self.groups > 1

    @property
    def inputs(self) -> int:
        """How many channels the layer's input has."""
        return int(self.values.shape[1]) * self.groups

    @property
    def colours(self) -> bool:
        """Whether a filter can be drawn as a picture: it reads pixels of the network's input."""
        return self.on_picture and self.inputs in (1, 3, 4)

    @property
    def pictures(self) -> NDArray[np.float32]:
        """(units, inputs, rows, columns): with zeros for the channels that belong to other groups."""
        if self.groups == 1:
            return self.values
        units, own, rows, columns = self.values.shape
        whole = np.zeros((units, self.inputs, rows, columns), np.float32)
        for unit in range(units):
            first = self.input_of(unit, 0)
            whole[unit, first : first + own] = self.values[unit]
        return whole

    def input_of(self, unit: int, index: int) -> int:
        """The channel of the layer's input that is the unit's `index`-th."""
        return unit // (len(self.values) // self.groups) * int(self.values.shape[1]) + index


def weighted_layers(card: Card) -> list[str]:
    """The layers that have weights and units, in forward order: convolutions and linear layers.

    A normalisation keeps two numbers a unit, a PReLU or a layer scale one: what has no more is none of them.
    """
    return [
        layer.name
        for layer in card.layers
        if layer.leaf and layer.parameters > 2 * layer.units and layer.axes in ("NCHW", "vector")
    ]


def layer_weights(network: Network, layer: str) -> LayerWeights:
    """The weights of a convolution or linear layer.

    Raises UnknownNameError, or UnsupportedError if the layer is of another kind.
    """
    from onnx import numpy_helper

    graph = network.graph()
    if graph.reason:
        return _module_weights(network, layer)
    model = graph.cut([layer])
    producers = {name: node for node in model.graph.node for name in node.output}
    initial = {tensor.name: tensor for tensor in model.graph.initializer}

    def constant(name: str) -> NDArray[np.float32] | None:
        """What a name stands for, if that does not depend on the picture."""
        if name in initial:
            return numpy_helper.to_array(initial[name]).astype(np.float32)
        node = producers.get(name)
        if node is not None and node.op_type in ("Identity", "Cast"):
            return constant(node.input[0])
        if node is not None and node.op_type == "Transpose":
            turned = constant(node.input[0])
            order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), None)
            return None if turned is None else turned.transpose(order)
        return None

    for node in _back(graph.tensor(layer), producers):
        facts = {entry.name: entry for entry in node.attribute}
        values = constant(node.input[1]) if len(node.input) > 1 else None
        if node.op_type == "Conv" and values is not None and values.ndim == 4:
            groups = facts["group"].i if "group" in facts else 1
            return LayerWeights(values, groups, _is_picture(node.input[0], producers, graph.input))
        if node.op_type in ("Gemm", "MatMul") and values is not None and values.ndim == 2:
            turned = node.op_type == "Gemm" and "transB" in facts and facts["transB"].i
            matrix = np.ascontiguousarray(values if turned else values.T)
            shape = graph.input_shape
            if matrix.shape[1] == math.prod(shape) and _is_picture(node.input[0], producers, graph.input, _FLAT):
                return LayerWeights(matrix.reshape(-1, *shape), 1, True)
            return LayerWeights(matrix[:, :, None, None], 1, False)
    raise _no_filters(network.card, layer)


def _no_filters(card: Card, layer: str) -> UnsupportedError:
    some = ", ".join(weighted_layers(card)[:5])
    return UnsupportedError(
        f"layer {layer} of {card.name} is no convolution or linear layer, so it has no filters: "
        f"choose one such as {some}"
    )


def _module_weights(network: Network, layer: str) -> LayerWeights:
    """The weights of a layer's module, for a network that has no ONNX graph."""
    import torch

    from fovea.models.torch_net import forward_taps

    card, module = network.card, network.module("cpu")
    part = module.get_submodule(card.layer(layer).name.partition("#")[0])
    weight = getattr(part, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.ndim not in (2, 4) or layer not in weighted_layers(card):
        raise _no_filters(card, layer)
    values = weight.detach().float().numpy()
    shape = (card.preprocessing.channels, *card.preprocessing.size)
    picture = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        read = forward_taps(module, picture, [f"{INPUT_OF}{layer}"])[f"{INPUT_OF}{layer}"]
    if values.ndim == 4:
        return LayerWeights(values, int(getattr(part, "groups", 1)), torch.equal(read, picture))
    if torch.equal(read.flatten(), picture.flatten()):
        return LayerWeights(values.reshape(-1, *shape), 1, True)
    return LayerWeights(values[:, :, None, None], 1, False)


def same_units(network: Network, layer: str) -> list[str]:
    """The layers whose unit u is this layer's unit u, seen through normalisation, activation and max pooling.

    The layer itself first, then what follows it, nearest first.
    """
    graph = network.graph()
    if graph.reason:  # torch tells of activations alone what they read
        return [layer, *(each.name for each in network.card.layers if each.activates == layer)]
    model = graph.cut([OUTPUT])
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        readers.setdefault(node.input[0] if node.input else "", []).append(node)
    reached = [graph.tensor(layer)]
    for tensor in reached:
        reached += [node.output[0] for node in readers.get(tensor, ()) if node.op_type in _SAME_UNITS]
    return _taps_of(network, reached)


def input_layers(network: Network, layer: str) -> list[str]:
    """The layers whose unit c is channel c of what this layer's weights read, nearest first; none for the picture,
    or where the network has no ONNX graph.

    Raises UnsupportedError if the layer is no convolution or linear layer.
    """
    graph = network.graph()
    if graph.reason:
        return []
    model = graph.cut([layer])
    producers = {name: node for node in model.graph.node for name in node.output}
    tensor = weighted_node(model, graph.tensor(layer)).input[0]
    reached = [tensor]
    while tensor in producers and producers[tensor].op_type in _SAME_UNITS:
        tensor = producers[tensor].input[0]
        reached.append(tensor)
    return _taps_of(network, reached)


def input_tap(network: Network, layer: str) -> str:
    """The tap of what a layer's weights read, in a graph that stands apart from its questions.

    Raises UnsupportedError if the layer is no convolution or linear layer, or what it reads has no name.
    """
    graph = network.graph()
    if f"{INPUT_OF}{layer}" in graph.taps:
        return f"{INPUT_OF}{layer}"
    tensor = weighted_node(graph.cut([layer]), graph.tensor(layer)).input[0]
    for tap, name in graph.taps.items():
        if name == tensor:
            return tap
    raise UnsupportedError(f"what layer {layer} of {network.card.name} reads has no name: choose a layer instead")


def _taps_of(network: Network, tensors: Sequence[str]) -> list[str]:
    """The layers with units that these tensors are the outputs of, in the tensors' order."""
    named = {layer.name for layer in network.card.layers if layer.axes != "none"}
    taps: dict[str, list[str]] = {}
    for tap, tensor in network.graph().taps.items():
        if tap in named:
            taps.setdefault(tensor, []).append(tap)
    return [tap for tensor in dict.fromkeys(tensors) for tap in taps.get(tensor, ())]


def weighted_node(model: onnx.ModelProto, tensor: str) -> onnx.NodeProto:
    """The node that multiplies with weights to make this tensor. Raises UnsupportedError if there is none."""
    producers = {name: node for node in model.graph.node for name in node.output}
    for node in _back(tensor, producers):
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            return node
    raise UnsupportedError(f"{tensor} is not made by a convolution or linear layer: name a layer")


def _back(tensor: str, producers: dict[str, onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The node behind a tensor, and the ones before it as long as they only pass it on or add a bias."""
    while tensor in producers:
        node = producers[tensor]
        yield node
        if node.op_type not in ("Identity", "Cast", "Add"):
            return
        tensor = next((name for name in node.input if name in producers), "")


def _is_picture(
    tensor: str, producers: dict[str, onnx.NodeProto], picture: str, through: Set[str] = frozenset()
) -> bool:
    """Whether a tensor is the picture; `through` names operators that may have changed its shape."""
    while tensor in producers and producers[tensor].op_type in _STILL_COLOURS | through:
        tensor = producers[tensor].input[0]
    return tensor == picture
