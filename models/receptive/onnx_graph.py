"""Following an ONNX graph node by node: the coordinates, the axes and the receptive field of each of its tensors.

The shapes of all tensors and the values of those that do not depend on the image come from one real pass, so that what
only moves data is moved by the operator itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor

from fovea.models.receptive.coordinates import PLANES, pixels, reach
from fovea.models.receptive.onnx_rules import RULES, Call, everything

Layout = tuple[int, int, int]
"""The axes of channels, rows and columns."""
NCHW: Layout = (1, 2, 3)
NHWC: Layout = (3, 1, 2)


CHANNELS_FIRST = frozenset(
    ("Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool",
     "GlobalMaxPool", "GlobalLpPool", "BatchNormalization", "InstanceNormalization", "GroupNormalization", "LRN",
     "DepthToSpace", "SpaceToDepth")
)  # fmt: skip
"""Operators that take and give channels as the first axis after the batch, by their definition."""


@dataclass(frozen=True)
class Graph:
    """What one pass told of a graph: every tensor's shape, the values of those that do not depend on the image."""

    nodes: Sequence[onnx.NodeProto]
    image: str
    shapes: Mapping[str, tuple[int, ...]]
    constants: Mapping[str, NDArray[Any]]
    opset: int


def coordinates(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """Each tensor that depends on the image, as its node comes, with its coordinates (4, *its shape).

    What no later node reads is let go of: memory stays that of a few layers.
    """
    batch, channels, height, width = graph.shapes[graph.image]
    image = pixels(height, width).view(PLANES, 1, 1, height, width)
    seen = {graph.image: image.expand(PLANES, batch, channels, height, width)}
    last = {name: index for index, node in enumerate(graph.nodes) for name in node.input}
    for index, node in enumerate(graph.nodes):
        if any(name in seen for name in node.input) and node.op_type not in ("Shape", "Size"):
            for name, coordinates_of in zip(node.output, _answers(node, graph, seen), strict=False):
                if name and coordinates_of is not None:
                    seen[name] = coordinates_of
                    yield name, coordinates_of
        for name in {*node.input, *node.output}:
            if last.get(name, -1) <= index:
                seen.pop(name, None)


def _answers(node: onnx.NodeProto, graph: Graph, seen: Mapping[str, Tensor]) -> list[Tensor | None]:
    shapes = [graph.shapes.get(name) for name in node.output]
    call = Call(
        node.op_type,
        {a.name: helper.get_attribute_value(a) for a in node.attribute},
        [seen.get(name) for name in node.input],
        [graph.constants.get(name) for name in node.input],
        [graph.shapes.get(name, ()) for name in node.input],
        [() if shape is None else shape for shape in shapes],
        graph.opset,
        node,
    )
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    try:
        answers = (rule or everything)(call)
        if any(f is not None and tuple(f.shape[1:]) != s for f, s in zip(answers, call.out, strict=False)):
            raise ValueError("a shape that the pass did not have")
    except (ValueError, RuntimeError, IndexError, TypeError, NotImplementedError):
        answers = everything(call)
    return [None if shape is None else f for f, shape in zip(answers, shapes, strict=False)]


def layout(seen: Tensor) -> Layout | None:
    """The axes of channels, rows and columns of a tensor with four of them, from its coordinates (4, N, a, b, c).

    None where they do not tell: every element sees the same, or the tensor is no map.
    """
    if seen.dim() != 5:
        return None
    for guess in (NCHW, NHWC):
        planes = reach(seen, [guess[0] + 1])
        rows, columns = (_varies(part) for part in (planes[:2], planes[2:]))
        if rows | columns and rows <= {guess[1]} and columns <= {guess[2]}:
            return guess
    return None


def _varies(planes: Tensor) -> set[int]:
    """The axes of the tensor (batch is 0) along which its coordinates change."""
    return {
        dim - 1
        for dim in range(2, planes.dim())
        if planes.shape[dim] > 1 and planes.stride(dim) and not bool((planes == planes.narrow(dim, 0, 1)).all())
    }
