"""The layers of a user's ONNX graph: every node's output with its axes, its grid and what its units see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from torch import Tensor

from fovea.models.card import MOST_EXTRA_TOKENS, Layer
from fovea.models.graph.trial import Trial
from fovea.models.receptive import onnx_graph as receptive
from fovea.models.receptive.coordinates import receptive_field
from fovea.models.receptive.onnx_graph import Graph, Layout

# INT8 to INT64 and BOOL, as ONNX numbers its types: shapes, axes, indices.
_INTEGERS = (2, 3, 5, 6, 7, 9)
_GROWING = ("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Softplus")
"""Activations that grow with every value above zero, without end."""


def layers_of(
    model: onnx.ModelProto,
    names: Mapping[str, str],
    input_name: str,
    values: Mapping[str, NDArray[Any]],
    trial: Trial,
) -> tuple[Layer, ...]:
    """Every tap as a layer, with its axes and what its units see, which tells rows and columns from channels."""
    weights = {t.name: t for t in model.graph.initializer}
    producer = {o: n for n in model.graph.node for o in n.output}
    taps = {tensor: tap for tap, tensor in names.items()}
    layers: list[Layer] = []
    grid = (1, 1)
    layouts: dict[str, Layout] = {}
    frame = _frame(model)
    for tensor, seen in receptive.coordinates(_graph(model, input_name, trial)):
        node = producer[tensor]
        shape = tuple(int(n) for n in seen.shape[2:])
        layout = _layout(node, seen, layouts, grid) if len(shape) == 3 else None
        if layout is not None:
            layouts[tensor] = layout
        if tensor not in values or not shape:
            continue
        facts: dict[str, Any] = {"axes": "none", "units": 0}
        if tensor not in trial.stacked:
            pass
        elif len(shape) == 1:
            facts = {"axes": "vector", "units": shape[0]}
        elif layout is not None:
            channels, rows, columns = (shape[axis - 1] for axis in layout)
            axes = "NCHW" if layout == receptive.NCHW else "NHWC" if layout == receptive.NHWC else "none"
            facts = {"axes": axes, "units": channels if axes != "none" else 0, "grid": (rows, columns)}
            grid = facts["grid"] if facts["grid"] != (1, 1) else grid
        elif len(shape) == 2 and grid != (1, 1) and 0 <= shape[0] - grid[0] * grid[1] <= MOST_EXTRA_TOKENS:
            extra = shape[0] - grid[0] * grid[1]
            facts = {"axes": "tokens", "units": shape[1], "grid": grid, "extra_tokens": extra}
        field = receptive_field(
            seen[:, 0], facts["axes"], facts.get("grid", (1, 1)), facts.get("extra_tokens", 0), frame
        )
        parameters = sum(count(weights[i]) for i in node.input if i in weights)
        layers.append(
            Layer(
                name=taps[tensor],
                kind=node.op_type,
                shape=shape,
                parameters=parameters,
                activates=taps.get(node.input[0], "") if node.op_type in _GROWING else "",
                receptive_field=field,
                **facts,
            )
        )
    return tuple(layers)


def count(tensor: onnx.TensorProto) -> int:
    """How many numbers a tensor holds."""
    return math.prod(int(d) for d in tensor.dims)


def _frame(model: onnx.ModelProto) -> tuple[int, int]:
    """Height and width of the input, as `_adapt_input` left it: the only one that is no weight."""
    weights = {t.name for t in model.graph.initializer}
    dims = next(i for i in model.graph.input if i.name not in weights).type.tensor_type.shape.dim
    return dims[2].dim_value, dims[3].dim_value


def _graph(model: onnx.ModelProto, input_name: str, trial: Trial) -> Graph:
    weights = {t.name: t for t in model.graph.initializer}
    small = {name: numpy_helper.to_array(t) for name, t in weights.items() if t.data_type in _INTEGERS}
    shapes = {name: tuple(t.dims) for name, t in weights.items()}
    shapes |= {name: value.shape for name, value in trial.values.items()}
    value_info = next(i for i in model.graph.input if i.name == input_name)
    shapes[input_name] = (trial.batch or 1, *(d.dim_value for d in value_info.type.tensor_type.shape.dim[1:]))
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    return Graph(list(model.graph.node), input_name, shapes, {**small, **trial.values}, opset)


def _layout(node: onnx.NodeProto, seen: Tensor, layouts: Mapping[str, Layout], grid: tuple[int, int]) -> Layout | None:
    """The axes of a tensor of four, None if it is no map (the weights of attention): as its coordinates tell; where
    all see the same, as its node makes it, as its input has them, or as the last map's rows and columns fit."""
    told = receptive.layout(seen)
    if told is not None:
        return told
    if node.op_type in receptive.CHANNELS_FIRST:
        return receptive.NCHW
    before = next((layouts[name] for name in node.input if name in layouts), None)
    order = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "perm"), None)
    if before is not None and order is not None:
        channels, rows, columns = (list(order).index(axis) for axis in before)
        return channels, rows, columns
    if before is not None and node.op_type != "Reshape":
        return before
    shape = tuple(int(n) for n in seen.shape[2:])
    guesses = (receptive.NCHW, receptive.NHWC)
    return next((g for g in guesses if tuple(shape[axis - 1] for axis in g[1:]) == grid), None)
