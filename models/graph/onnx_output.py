"""The outputs of a user's ONNX graph: every node's, as taps, and the one that is the network's, with what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT
from fovea.models.output import OutputKind
from fovea.models.errors import NetworkError

if TYPE_CHECKING:
    import onnx

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Output:
    """The network's output: its `tap`, how many numbers it has for an image, what they are, and what to tell.

    `squeezed`: axes of length one, or a missing batch axis, stand between it and scores (N, units). `classes`: names
    that the file brings.
    """

    tap: str
    units: int
    kind: OutputKind
    squeezed: bool = False
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def scores(self, model: onnx.ModelProto, tensor: str) -> str:
        """The tensor of scores (N, units): `tensor` itself, or what a new node makes of it."""
        from onnx import TensorProto, helper, numpy_helper

        if not self.squeezed:
            return tensor
        name = f"{tensor}_scores"
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1, self.units], np.int64), f"{name}_shape"))
        model.graph.node.append(helper.make_node("Reshape", [tensor, f"{name}_shape"], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", self.units]))
        return name


@dataclass(frozen=True)
class Named:
    """Probabilities that a classifier of scikit-learn gives with the names of its classes."""

    tensor: str
    classes: tuple[str, ...]


def take_off_maps(model: onnx.ModelProto) -> Named | None:
    """Let the probabilities themselves be an output where the file gives a map of names to them (scikit-learn's way);
    returns them with the names, None where there are none."""
    named = None
    kept = list(model.graph.node)
    for node in model.graph.node:
        if node.op_type != "ZipMap":
            continue
        kept.remove(node)
        named = Named(node.input[0], _class_labels(node))
        for output in model.graph.output:
            if output.name == node.output[0]:
                output.Clear()
                output.name = node.input[0]
    if named is None:
        for node in model.graph.node:
            if node.domain == "ai.onnx.ml" and node.op_type.endswith("Classifier") and len(node.output) > 1:
                names = {node.output[1], *(n.output[0] for n in model.graph.node if node.output[1] in n.input)}
                tensor = next((o.name for o in model.graph.output if o.name in names), "")
                named = Named(tensor, _class_labels(node)) if tensor else None
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return named


def _class_labels(node: onnx.NodeProto) -> tuple[str, ...]:
    """The names of classes that a node of scikit-learn's holds."""
    names: tuple[str, ...] = ()
    for attribute in node.attribute:
        if attribute.name in ("classlabels_strings", "class_labels"):
            names = tuple(text.decode(errors="replace") for text in attribute.strings)
        elif attribute.name in ("classlabels_int64s", "classlabels_ints"):
            names = names or tuple(str(number) for number in attribute.ints)
    return names


def expose_outputs(model: onnx.ModelProto, input_name: str, image: str) -> dict[str, str]:
    """Tap to tensor for every node output that depends on the image; all node outputs are made the graph's.

    What only makes the image as the file wants it (`input_name` to `image`) is none of the network's layers.
    """
    import onnx

    depends, tensors, others = {input_name}, [], []
    for node in model.graph.node:
        made = [o for o in node.output if o]
        if any(i in depends for i in node.input) and node.op_type not in ("Shape", "Size"):
            tensors += made
            depends.update(made)
        else:
            others += made
    own = {o.name: o for o in model.graph.output}
    for value in own.values():
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    values = [own.get(t) or onnx.ValueInfoProto(name=t) for t in (*tensors, *others)]
    del model.graph.output[:]
    model.graph.output.extend(values)
    names: dict[str, str] = {}
    for tensor in tensors:
        if tensor.startswith(f"{image}_image_"):
            continue
        short = tensor.removesuffix("_output_0")
        tap = short if short not in names and short not in (OUTPUT, "") else tensor
        names[f"{tap}#1" if tap == OUTPUT else tap] = tensor
    return names


def widen(model: onnx.ModelProto, taps: Mapping[str, str], values: Arrays) -> dict[str, str]:
    """Taps whose tensors are float16 or float64 come out as float32; every tap gets its type for the extractor."""
    from onnx import TensorProto, helper

    wide = dict(taps)
    del model.graph.output[:]
    for tap, tensor in taps.items():
        if values[tensor].dtype != np.float32:
            wide[tap] = f"{tensor}_float32"
            model.graph.node.append(helper.make_node("Cast", [tensor], [wide[tap]], to=TensorProto.FLOAT))
        free = ["batch", *values[tensor].shape[1:]] if values[tensor].ndim else []
        model.graph.output.append(helper.make_tensor_value_info(wide[tap], TensorProto.FLOAT, free))
    return wide


def read_output(
    model: onnx.ModelProto,
    own: Sequence[str],
    names: Mapping[str, str],
    values: Arrays,
    named: Named | None,
    hint: str | None,
) -> Output:
    """Which output is the network's, what it is, and what to tell. `own`: the file's outputs, in order; `hint`: what a
    registration says that it is. Raises NetworkError where none can be read."""
    taps = {tensor: tap for tap, tensor in names.items()}
    floats = [t for t in own if t in taps and t in values]
    if not floats:
        raise NetworkError("none of the outputs of the file are numbers that depend on the image")
    scores = [t for t in floats if values[t].ndim == 2] or [t for t in floats if _squeezed(values[t])]
    # Where the file also names layers inside the network, its end is what nothing else reads.
    read = {i for n in model.graph.node for i in n.input}
    tensor = sorted(scores or floats, key=lambda t: t in read)[0]
    notes = (f"The file has {len(own)} outputs; {tensor} is read as the output of the network.",) * (len(own) > 1)
    last = next(n.op_type for n in model.graph.node if tensor in n.output)
    names_come = named is not None and named.tensor == tensor
    likely = "probabilities" if last == "Softmax" or names_come else "logits"
    kind: Any = hint or (likely if scores else "features")
    if kind != "features" and not scores:
        raise NetworkError(
            f"its output has shape {values[tensor].shape[1:]}, not one score for each class: register it with "
            "output = 'features'"
        )
    squeezed = kind != "features" and values[tensor].ndim != 2
    units = max(values[tensor].shape[1:] or values[tensor].shape) if squeezed else values[tensor].shape[-1]
    classes = named.classes if named is not None and names_come and len(named.classes) == units else ()
    if classes:
        notes = (*notes, "The file itself names the classes.")
    return Output(taps[tensor], int(units), kind, squeezed, classes, notes)


def _squeezed(value: NDArray[Any]) -> bool:
    """Whether an output is scores with axes of length one about them, or without its batch axis: (N, C, 1, 1), (C,)."""
    if value.ndim < 2:
        return value.ndim == 1 and value.size > 1
    return value.ndim > 2 and max(value.shape[1:]) == np.prod(value.shape[1:])
