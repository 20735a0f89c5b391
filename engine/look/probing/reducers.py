"""Questions put inside a cut ONNX graph: nodes before the network's input and behind its taps.

The network's maps never leave ONNX Runtime: what comes back is a maximum and its position, a mean, a score.
Maps are read as (N, C, rows, columns) whatever the layer's axes are (NCHW, NHWC, tokens, vectors).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from fovea.engine.errors import UnsupportedError
from fovea.engine.look.probing.layers import with_units
from fovea.models.card import OUTPUT, Card, Layer, Preprocessing

PREFIX = "look."
"""Names of added nodes and tensors begin with this, so that they cannot meet the network's own."""

_ELEMENT = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64,
}


class Editor:
    """Adds nodes to a cut graph: `before` its input, and behind its taps.

    The model is changed in place. Tensor names go in and come out as plain strings.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self._count = 0
        self._front: list[onnx.NodeProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        initial = {tensor.name for tensor in model.graph.initializer}
        self._input = next(value for value in model.graph.input if value.name not in initial)
        del model.graph.output[:]

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{PREFIX}{what}.{self._count}"

    def node(self, operator: str, *inputs: str, front: bool = False, **attributes: Any) -> str:
        """Add a node; returns the name of its output.

        `front`: it feeds the network's input, so it stands before the network's own nodes.
        """
        return self.nodes(operator, *inputs, outputs=1, front=front, **attributes)[0]

    def nodes(
        self, operator: str, *inputs: str, outputs: int, front: bool = False, **attributes: Any
    ) -> tuple[str, ...]:
        """Add a node with several outputs; returns their names."""
        names = tuple(self._name(operator) for _ in range(outputs))
        made = helper.make_node(operator, list(inputs), list(names), name=self._name(operator), **attributes)
        if front:
            self._front.append(made)
        else:
            self.model.graph.node.append(made)
        return names

    def constant(self, values: Any, dtype: str = "int64") -> str:
        """An initializer with these values; the same values are kept once."""
        array = np.asarray(values, dtype=dtype)
        key = (dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._name("constant")
            self.model.graph.initializer.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def feed(self, name: str, dtype: str, shape: Sequence[int | str]) -> str:
        """A new input of the graph; a text in `shape` is a free dimension."""
        self.model.graph.input.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], list(shape)))
        return name

    def answer(self, tensor: str, name: str, dtype: str = "float32") -> None:
        """Make a tensor an output of the graph, under `name`."""
        self.model.graph.node.append(helper.make_node("Identity", [tensor], [name], name=self._name("answer")))
        self.model.graph.output.append(helper.make_tensor_value_info(name, _ELEMENT[dtype], None))

    @property
    def input_type(self) -> str:
        """The element type of the network's input: "float32" or "float16"."""
        return "float16" if self._input.type.tensor_type.elem_type == TensorProto.FLOAT16 else "float32"

    def replace_input(self, tensor: str) -> None:
        """Let `tensor`, made by `front` nodes, stand for the network's input."""
        if self.input_type == "float16":
            tensor = self.node("Cast", tensor, front=True, to=TensorProto.FLOAT16)
        self._front.append(helper.make_node("Identity", [tensor], [self._input.name], name=self._name("replace_input")))
        self.model.graph.input.remove(self._input)

    def build(self) -> onnx.ModelProto:
        """The finished model: the front nodes first, then the network, then the reductions."""
        nodes = self._front + list(self.model.graph.node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)
        # Shapes noted for the network's own batch dimension no longer hold behind the new input.
        del self.model.graph.value_info[:]
        self._front = []
        return self.model

    def reduce(self, operator: str, tensor: str, axes: Sequence[int], keep: bool = False) -> str:
        """A reduction over `axes`; where the axes stand depends on the operator and the opset."""
        by_input = self.opset >= (13 if operator == "ReduceSum" else 18)
        if by_input:
            return self.node(operator, tensor, self.constant(list(axes)), keepdims=int(keep))
        return self.node(operator, tensor, axes=list(axes), keepdims=int(keep))

    def float32(self, tensor: str) -> str:
        """The tensor as float32 (a half-precision graph answers in float32, too)."""
        if self.input_type == "float32":
            return tensor
        return self.node("Cast", tensor, to=TensorProto.FLOAT)


def read_layer(card: Card, tap: str) -> Layer:
    """The layer behind a tap; the network's output is read as a vector of its classes.

    Raises UnknownNameError, or UnsupportedError if the layer has no units.
    """
    if tap == OUTPUT and all(layer.name != OUTPUT for layer in card.layers):
        return Layer(name=OUTPUT, kind="output", shape=(len(card.classes),), axes="vector", units=len(card.classes))
    return with_units(card, tap)


def as_maps(editor: Editor, tensor: str, layer: Layer) -> str:
    """A layer's tensor as float32 maps (N, C, rows, columns); extra tokens are dropped."""
    tensor = editor.float32(tensor)
    if layer.axes == "NCHW":
        return tensor
    if layer.axes == "NHWC":
        return editor.node("Transpose", tensor, perm=[0, 3, 1, 2])
    rows, columns = layer.grid
    if layer.axes == "tokens":
        first, last = layer.extra_tokens, layer.extra_tokens + rows * columns
        kept = editor.node("Slice", tensor, editor.constant([first]), editor.constant([last]), editor.constant([1]))
        turned = editor.node("Transpose", kept, perm=[0, 2, 1])
        return editor.node("Reshape", turned, editor.constant([0, 0, rows, columns]))
    return editor.node("Reshape", tensor, editor.constant([0, -1, 1, 1]))


@dataclass(frozen=True)
class Maximum:
    """Names of a spatial maximum's tensors: `score` (N, C), its `row` and `column` (N, C) int64."""

    score: str
    row: str
    column: str


def spatial_maximum(editor: Editor, maps: str, layer: Layer) -> Maximum:
    """The maximum of every unit's map and its position; of equal maxima the first by row, then by column.

    It goes row by row: one reduction reads the whole map, all that follows reads one value a row or one row.
    (One ArgMax over the whole map takes ten times as long on a CPU, and says nothing about ties on a GPU.)
    """
    rows, columns = layer.grid
    best_of_row = editor.reduce("ReduceMax", maps, [3])
    score = editor.reduce("ReduceMax", best_of_row, [2], keep=True)
    row = _first_equal(editor, best_of_row, score, rows)
    winner = editor.node("GatherND", maps, row, batch_dims=2)
    column = _first_equal(editor, winner, score, columns)
    last = editor.constant([2])
    return Maximum(*(editor.node("Squeeze", name, last) for name in (score, row, column)))


def _first_equal(editor: Editor, values: str, wanted: str, length: int) -> str:
    """The first index (N, C, 1) along the last axis of `values` (N, C, length) that equals `wanted` (N, C, 1).

    Where none does, because a NaN is among them, it is the last index: the caller looks for NaN itself.
    """
    equal = editor.node("Equal", values, wanted)
    places = editor.node("Where", equal, editor.constant(np.arange(length)), editor.constant(length - 1))
    return editor.reduce("ReduceMin", places, [2], keep=True)


def share_above_zero(editor: Editor, maps: str) -> str:
    """The share of every unit's positions where it is above zero, (N, C)."""
    above = editor.node("Greater", maps, editor.constant(0, "float32"))
    return editor.reduce("ReduceMean", editor.node("Cast", above, to=TensorProto.FLOAT), [2, 3])


def spatial_mean(editor: Editor, maps: str) -> str:
    """The mean of every unit's map, (N, C): a layer's pooled features. It is NaN wherever the map holds a NaN.

    (A global pooling reads ONNX Runtime's own blocked layout, where a reduction waits for it to be reordered.)
    """
    return editor.node("Squeeze", editor.node("GlobalAveragePool", maps), editor.constant([2, 3]))


def class_scores(editor: Editor, tensor: str, card: Card, score: str) -> str:
    """The scores (N, classes) of a network's output, `score` "logit" or "probability".

    What makes probabilities of logits, a softmax or a sigmoid, is added. Raises UnsupportedError if the network has no
    classes, or logits are asked of probabilities.
    """
    if not card.meaning.has_classes:
        raise UnsupportedError(f"{card.name} returns features, not classes: choose a layer and a unit instead")
    tensor = editor.float32(tensor)
    if score == "probability":
        return card.meaning.onnx_probabilities(tensor, editor.node)
    if not card.meaning.knows_logits:
        raise UnsupportedError(f"{card.name} returns probabilities, its logits are not known: choose probability")
    return tensor


def unit_values(editor: Editor, values: str, unit: int) -> str:
    """One unit of (N, C) values, as (N,)."""
    return editor.node("Gather", values, editor.constant(unit), axis=1)


def normalised_input(editor: Editor, preprocessing: Preprocessing, name: str = "pixels") -> str:
    """Feed frames as uint8 (N, H, W, C) in RGB order and normalise them inside the graph.

    The same operations in the same order as `Preprocessing.normalise`, in float32, so the bits are equal; a
    quarter of the bytes goes in, and the work is shared by ONNX Runtime's threads.
    """
    height, width = preprocessing.size
    values = editor.feed(name, "uint8", ["N", height, width, preprocessing.channels])
    values = editor.node("Transpose", values, front=True, perm=[0, 3, 1, 2])
    if preprocessing.order == "BGR":
        order = editor.constant(np.arange(preprocessing.channels)[::-1])
        values = editor.node("Gather", values, order, front=True, axis=1)
    values = editor.node("Cast", values, front=True, to=TensorProto.FLOAT)
    for operator, operand in _normalisation(preprocessing):
        values = editor.node(operator, values, editor.constant(operand, "float32"), front=True)
    editor.replace_input(values)
    return name


def _normalisation(preprocessing: Preprocessing) -> list[tuple[str, NDArray[np.float32]]]:
    """The steps from 0 … 255 to the network's input; each is left out where it would change nothing."""
    low, high = preprocessing.range
    mean = np.asarray(preprocessing.mean, np.float32).reshape(-1, 1, 1)
    std = np.asarray(preprocessing.std, np.float32).reshape(-1, 1, 1)
    steps = [("Div", np.asarray(255, np.float32))]
    if (low, high) != (0.0, 1.0):
        steps += [("Mul", np.asarray(np.float32(high - low))), ("Add", np.asarray(np.float32(low)))]
    if mean.any():
        steps.append(("Sub", mean))
    if (std != 1).any():
        steps.append(("Div", std))
    return steps


def occluded_input(editor: Editor, preprocessing: Preprocessing, window: int) -> None:
    """Occlude inside the graph: the photo once, the cover once, and a batch of windows by their corners.

    Feeds `photo` and `cover` (1, C, H, W), `ys`, `xs` (N,) int64: input n is the photo, with the window
    rows ys[n] … + window, columns xs[n] … + window, clipped to the frame, taken from the cover.

    Two windows with the same columns differ only in which rows are covered. So the photo with its columns
    covered from top to bottom is made once for each distinct x of the batch, and every input is gathered from
    whole rows of the photo and of those: one copy a row, where a comparison for each pixel costs several.
    """
    (height, width), channels = preprocessing.size, preprocessing.channels
    photo = editor.feed("photo", "float32", [1, channels, height, width])
    cover = editor.feed("cover", "float32", [1, channels, height, width])
    ys, xs = editor.feed("ys", "int64", ["N"]), editor.feed("xs", "int64", ["N"])

    def node(operator: str, *inputs: str, **attributes: Any) -> str:
        return editor.node(operator, *inputs, front=True, **attributes)

    def covered(corners: str, line: NDArray[np.int64], shape: list[int]) -> str:
        """Where a row or column lies in its window."""
        distance = node("Sub", editor.constant(line), node("Reshape", corners, editor.constant(shape)))
        inside = node("GreaterOrEqual", distance, editor.constant(0))
        return node("And", inside, node("Less", distance, editor.constant(window)))

    distinct, _, inverse, _ = editor.nodes("Unique", xs, outputs=4, front=True, sorted=1)
    columns = covered(distinct, np.arange(width).reshape(1, 1, 1, -1), [-1, 1, 1, 1])
    strips = node("Where", columns, cover, photo)
    pictures = node("Concat", photo, strips, axis=0)
    rows = node("Reshape", pictures, editor.constant([-1, width]))
    which = node("Mul", node("Add", inverse, editor.constant(1)), editor.constant(channels * height))
    which = node("Reshape", which, editor.constant([-1, 1, 1]))
    covered_rows = covered(ys, np.arange(height).reshape(1, 1, -1), [-1, 1, 1])
    picture = node("Where", covered_rows, which, editor.constant(np.zeros((1, 1, 1))))
    row = node("Add", picture, editor.constant(np.arange(channels * height).reshape(1, channels, height)))
    editor.replace_input(node("Gather", rows, row, axis=0))
