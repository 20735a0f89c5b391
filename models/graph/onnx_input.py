"""The input of a user's ONNX graph: which one is the image, how it lies in memory, of which type it is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fovea.models.card import Preprocessing
from fovea.models.errors import NetworkError

if TYPE_CHECKING:
    import onnx

_WHOLE = {**dict.fromkeys(("uint8", "uint16", "uint32", "uint64", "int16", "int32", "int64"), 255), "int8": 127}
"""Types of whole numbers, and what white is in them, as far as a file can tell."""
_FLOATS = ("float32", "float16", "double", "bfloat16")
_PASSING = ("Cast", "Identity", "Sub", "Add", "Mul", "Div", "Pad", "DequantizeLinear", "BatchNormalization")
"""What may stand between the image and the node that tells how it lies."""


@dataclass(frozen=True)
class ImageInput:
    """The image as the file takes it. `batch`, `channels`, `height`, `width`: 0 where the file leaves them free.

    `last`: channels come last. `alone`: it has no axis for the batch. `kind`: the type of its numbers.
    """

    name: str
    batch: int
    channels: int
    height: int
    width: int
    last: bool
    alone: bool
    kind: str

    @property
    def whole(self) -> bool:
        """Whether it takes whole numbers."""
        return self.kind in _WHOLE

    @property
    def limits(self) -> tuple[float, float]:
        """Black and white in whole numbers."""
        return (-128.0 if self.kind == "int8" else 0.0, float(_WHOLE[self.kind]))


def image_input(model: onnx.ModelProto, path: Path) -> ImageInput:
    """The only input that is no weight. Raises NetworkError if there is not one alone, or it is no image."""
    from onnx import TensorProto

    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if len(inputs) != 1:
        raise NetworkError(f"{path.name} has {len(inputs)} inputs: it must have one, the image")
    (value,) = inputs
    tensor = value.type.tensor_type
    kind = TensorProto.DataType.Name(tensor.elem_type).lower().replace("float32", "float")
    kind = "float32" if kind == "float" else kind
    sizes = [d.dim_value for d in tensor.shape.dim]
    if len(sizes) not in (3, 4) or kind not in (*_WHOLE, *_FLOATS):
        shown = ", ".join(str(d.dim_value or d.dim_param or "?") for d in tensor.shape.dim)
        raise NetworkError(
            f"{path.name}: its input {value.name} is not an image of numbers (N, C, H, W), but {kind} ({shown})"
        )
    alone = len(sizes) == 3
    batch, a, b, c = (1, *sizes) if alone else sizes
    colours = (1, 3, 4)
    last = c in colours and a not in colours
    if (a in colours) == (c in colours):
        last = _read_last(model, value.name) is True
    channels, height, width = (c, a, b) if last else (a, b, c)
    channels = channels or _channels_read(model, value.name)
    return ImageInput(value.name, batch, channels, height, width, last, alone, kind)


def _reader(model: onnx.ModelProto, name: str) -> onnx.NodeProto | None:
    """The node that reads the image first, with what only passes it on left out."""
    nodes: list[onnx.NodeProto] = list(model.graph.node)
    for node in nodes:
        if name in node.input:
            if node.op_type not in _PASSING:
                return node
            name = node.output[0]
    return None


def _read_last(model: onnx.ModelProto, name: str) -> bool | None:
    """Whether the image's first reader takes channels last; None where it does not tell."""
    from onnx import helper

    node = _reader(model, name)
    if node is None:
        return None
    if node.op_type == "Transpose":
        order = next((list(helper.get_attribute_value(a)) for a in node.attribute if a.name == "perm"), [])
        return order in ([0, 3, 1, 2], [2, 0, 1])
    return False if node.op_type in ("Conv", "MaxPool", "AveragePool", "GlobalAveragePool") else None


def _channels_read(model: onnx.ModelProto, name: str) -> int:
    """The channels that the first convolution reads, 0 where there is none."""
    weights = {t.name: t for t in model.graph.initializer}
    node = _reader(model, name)
    if node is not None and node.op_type == "Transpose":
        node = _reader(model, node.output[0])
    if node is None or node.op_type != "Conv" or node.input[1] not in weights:
        return 0
    groups = next((a.i for a in node.attribute if a.name == "group"), 1)
    return int(weights[node.input[1]].dims[1]) * groups


def adapt_input(model: onnx.ModelProto, image: ImageInput, preprocessing: Preprocessing) -> str:
    """Make the input float32 (batch, C, H, W) of the card's size, whatever the file takes; returns its name."""
    from onnx import TensorProto, helper, numpy_helper

    steps: list[tuple[str, list[str], dict[str, Any]]] = []

    def constant(values: Any, dtype: Any, what: str) -> str:
        name = f"{image.name}_image_{what}"
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    if image.last:
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    if image.whole:  # the nearest whole number that the type has
        low, high = (-128, 127) if image.kind == "int8" else (0, 255)
        steps += [
            ("Add", [constant(0.5, np.float32, "half")], {}),
            ("Floor", [], {}),
            ("Max", [constant(low, np.float32, "least")], {}),
            ("Min", [constant(high, np.float32, "most")], {}),
        ]
    if image.kind != "float32":
        steps.append(("Cast", [], {"to": getattr(TensorProto, image.kind.upper())}))
    if image.alone:
        height, width = preprocessing.size
        channels = preprocessing.channels
        sizes = [height, width, channels] if image.last else [channels, height, width]
        steps.append(("Reshape", [constant(sizes, np.int64, "shape")], {}))
    new_name = f"{image.name}_image" if steps else image.name
    source, nodes = new_name, []
    for index, (operator, others, attributes) in enumerate(steps):
        target = image.name if index == len(steps) - 1 else f"{image.name}_image_{index}"
        nodes.append(helper.make_node(operator, [source, *others], [target], **attributes))
        source = target
    shape: list[str | int | None] = ["batch", preprocessing.channels, *preprocessing.size]
    value = helper.make_tensor_value_info(new_name, TensorProto.FLOAT, shape)
    kept = [value if i.name == image.name else i for i in model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    # Shapes that were inferred for the file's own input size and batch need not hold any more.
    del model.graph.value_info[:]
    return new_name
