"""Receptive fields of ONNX files: against the box that changes when one pixel does, and against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fovea.models import registry, zoo
from fovea.models.card import Card, Layer
from fovea.models.graph.sessions import Session
from fovea.models.network import Network

SIDE = 19


def geometry() -> onnx.ModelProto:
    """What moves windows in a graph: strides, dilation, uneven padding, branches, a resize, pads, groups,
    a slice; at the end squeeze and excitation, pooling and a matrix product. Weights are positive: nothing cancels."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.uniform(0.1, 1, shape).astype(np.float32), name)

    def whole(name: str, *values: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values, np.int64), name)

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [output], **attributes)

    nodes = [
        node("Conv", "image w1", "stem", strides=[2, 1], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Relu", "stem", "stem_relu"),
        node("Conv", "stem_relu w2", "dilated", dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("Conv", "stem_relu w3", "grouped", group=2, auto_pad="SAME_LOWER"),
        node("Concat", "dilated grouped", "joined", axis=1),
        node("MaxPool", "joined", "pooled", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        node("Pad", "pooled pads", "padded"),
        node("Conv", "padded w4", "narrow"),
        node("Resize", "narrow none scales", "bigger", mode="nearest", coordinate_transformation_mode="asymmetric"),
        node("Slice", "bigger starts ends axes", "cut"),
        node("AveragePool", "cut", "average", kernel_shape=[2, 2], strides=[1, 1]),
        node("ReduceMean", "average", "excite", axes=[2, 3]),
        node("Mul", "average excite", "excited"),
        node("GlobalAveragePool", "excited", "features"),
        node("Flatten", "features", "flat"),
        node("Gemm", "flat w5", "scores"),
    ]
    weights = [weight("w1", 4, 3, 3, 3), weight("w2", 4, 4, 3, 3), weight("w3", 4, 2, 2, 2), weight("w4", 4, 8, 2, 2)]
    weights += [weight("w5", 4, 3), whole("pads", 0, 0, 1, 0, 0, 0, 0, 1), whole("starts", 1, 0), whole("ends", 99, 99)]
    weights += [whole("axes", 2, 3), numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")]
    weights += [numpy_helper.from_array(np.zeros(0, np.float32), "none")]
    graph = helper.make_graph(
        nodes,
        "geometry",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, fovea_home: Path) -> tuple[Card, dict[str, Any]]:
    """The file's card, and for each tap what one changed pixel changes: (pixels, C, h, w), the slow, obvious way."""
    path = tmp_path_factory.mktemp("geometry") / "geometry.onnx"
    path.write_bytes(geometry().SerializeToString())
    network = zoo.load(f"onnx:{path}")
    graph, taps = network.graph(), [layer.name for layer in network.card.layers]
    still = np.random.default_rng(1).uniform(0.5, 1, (1, 3, SIDE, SIDE)).astype(np.float32)
    moved = np.repeat(still, SIDE * SIDE, axis=0)
    # Large, so that a changed pixel is also its pool's maximum.
    moved.reshape(SIDE * SIDE, 3, -1)[np.arange(SIDE * SIDE), :, np.arange(SIDE * SIDE)] += 1000
    session = Session(graph.cut(taps), "cpu")
    before, after = (session.run({graph.input: x}) for x in (still, moved))
    tensors = dict(zip(session.outputs, (a - b for a, b in zip(after, before, strict=True)), strict=True))
    return network.card, {tap: tensors[graph.taps[tap]] for tap in taps}


def changed_box(change: Any, layer: Layer, row: int, column: int) -> tuple[int, int, int, int] | None:
    at = change[:, :, row, column] if layer.axes == "NCHW" else change
    rows, columns = np.nonzero(np.abs(at).max(axis=1).reshape(SIDE, SIDE) > 0)
    return (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1) if len(rows) else None


def test_the_box_that_a_changed_pixel_changes(answers: tuple[Card, dict[str, Any]]) -> None:
    card, change = answers
    assert len(card.layers) == 16
    for layer in card.layers:
        field = layer.receptive_field
        assert field is not None, layer.name
        middle = (layer.grid[0] // 2, layer.grid[1] // 2)
        for row in range(layer.grid[0]):
            for column in range(layer.grid[1]):
                # At the border a dilated window has a tap outside, and the box that is left a gap.
                exact = layer.name in ("stem", "stem_relu", "grouped") or (
                    layer.name in ("dilated", "joined", "pooled") and (row, column) == middle
                )
                box, wanted = field.box(row, column, (SIDE, SIDE)), changed_box(change[layer.name], layer, row, column)
                if wanted is None or (exact and box == wanted):
                    continue
                # Doubled maps are not evenly spaced in pixels: the field covers each of them.
                assert not exact, (layer.name, row, column, box, wanted)
                assert np.less_equal(box[:2], wanted[:2]).all(), (layer.name, row, column, box, wanted)
                assert np.greater_equal(box[2:], wanted[2:]).all(), (layer.name, row, column, box, wanted)
    for name in ("excited", "features", "flat", "scores#1" if "scores#1" in change else "scores"):
        assert card.layer(name).receptive_field.whole  # type: ignore[union-attr]
    assert not card.layer("average").receptive_field.whole  # type: ignore[union-attr]


@pytest.mark.parametrize("architecture", ["shufflenet_v2_x0_5", "mobilenet_v3_small"])
def test_a_file_tells_what_torch_tells(architecture: str, small: Callable[..., Network]) -> None:
    network = small(architecture)
    compare(network.card, network.graph())


def test_tokens_and_channels_last_of_a_file(fovea_home: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(TRANSFORMER)
    registry.register("rf_own", architecture=f"{tmp_path / 'net.py'}:Net", input={"size": [48, 32]})
    network = zoo.load("rf_own")
    axes = {layer.axes for layer in network.card.layers}
    assert {"NCHW", "NHWC", "tokens", "vector"} <= axes
    compare(network.card, network.graph())


def compare(card: Card, graph: Any) -> None:
    file = zoo.load(f"onnx:{graph.path}").card
    for layer in card.layers:
        told = file.layer(next(name for name in (graph.taps[layer.name], f"{graph.taps[layer.name]}#1")
                               if name in {other.name for other in file.layers}))  # fmt: skip
        assert (told.axes, told.units, told.grid) == (layer.axes, layer.units, layer.grid), layer.name
        assert told.receptive_field == layer.receptive_field, layer.name


TRANSFORMER = '''
import torch
from torch import nn


class Last(nn.Module):
    """A norm over the last axis, as Swin has it."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.mlp = nn.Linear(8, 8)

    def forward(self, x):
        return x + self.mlp(self.norm(x))


class Net(nn.Module):
    def __init__(self, num_classes=5):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.last = Last()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.last(self.patches(x).permute(0, 2, 3, 1)).flatten(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return self.head(x[:, 0])
'''
