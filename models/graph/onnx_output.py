"""The outputs of a user's ONNX graph: every node's, as taps, and the one that is the network's, with what it means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT
from fovea.models.errors import NetworkError
from fovea.models.meaning import Seen, Stance, told_kind
from fovea.models.output import MEANINGS, OutputKind
from fovea.models.output_end import Step, ancestors, end_of, kind_of
from fovea.models.outputs import Choice, choose, find_entry, note_of
from fovea.models.outputs import Output as Entry

if TYPE_CHECKING:
    import onnx

    from fovea.models.graph.trial import Trial

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
        """The tensor of scores (N, units), or (N, 2) of one number: `tensor` itself, or what new nodes make of it."""
        from onnx import TensorProto, helper, numpy_helper

        meaning = MEANINGS[self.kind]
        if not self.squeezed and not meaning.sides:
            return tensor
        name = f"{tensor}_scores"
        nodes, initial = model.graph.node, model.graph.initializer
        rows = f"{name}_rows" if meaning.sides else name
        initial.append(numpy_helper.from_array(np.array([-1, self.units], np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [tensor, f"{name}_shape"], [rows]))
        if meaning.sides:
            whole = 0.0 if meaning.knows_logits else 1.0
            initial.append(numpy_helper.from_array(np.array(whole, np.float32), f"{name}_whole"))
            nodes.append(helper.make_node("Sub", [f"{name}_whole", rows], [f"{name}_no"]))
            nodes.append(helper.make_node("Concat", [f"{name}_no", rows], [name], axis=1))
        width = 2 if meaning.sides else self.units
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width]))
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


def steps_of(model: onnx.ModelProto) -> dict[str, Step]:
    """The operation that made each tensor of a graph, for the walk back from its end."""
    return {
        output: Step(kind_of(node.op_type), tuple(value for value in node.input if value))
        for node in model.graph.node
        for output in node.output
        if output and node.op_type != "Constant"
    }


def read_output(
    model: onnx.ModelProto,
    own: Sequence[str],
    names: Mapping[str, str],
    trial: Trial,
    named: Named | None,
    declared: OutputKind | None,
    output_name: str,
    classes: int,
    rows_of: Callable[[str], Sequence[NDArray[np.float64]]],
) -> Output:
    """Which output is the network's, what it is, and what to tell. `own`: the file's outputs, in order; `declared`,
    `output_name`: what a registration says; `classes`: how many names there are; `rows_of(tensor)`: its values for some
    images. Raises NetworkError where none can be read."""
    taps = {tensor: tap for tap, tensor in names.items()}
    floats = [t for t in own if t in taps and t in trial.values and trial.values[t].dtype.kind == "f"]
    if not floats:
        raise NetworkError("none of the outputs of the file are numbers that depend on the image")
    steps = steps_of(model)
    ends = {tensor: end_of(steps, tensor) for tensor in floats}
    above = {tensor: ancestors(steps, tensor) for tensor in floats}
    shapes = {t: trial.values[t].shape[1:] if t in trial.stacked else trial.values[t].shape for t in floats}

    def is_inner(tensor: str) -> bool:
        """Whether another output was made of it, and says more than which of its classes are likely."""
        return any(tensor in above[t] and not (shapes[t] == shapes[tensor] and ends[t]) for t in floats if t != tensor)

    outputs = [Entry(tensor, shapes[tensor], True, is_inner(tensor)) for tensor in floats]
    if output_name:
        choice = Choice(find_entry(outputs, output_name, "the file"), "")
    elif named is not None and named.tensor in floats:
        choice = Choice(outputs[floats.index(named.tensor)], "the file names the classes of it")
    else:
        choice = choose(outputs, classes, declared == "features")
    tensor = choice.output.path
    notes = [note_of(choice, outputs, bool(output_name))] if len(outputs) > 1 else []
    units = choice.output.width
    if not units or declared == "features":
        if declared not in (None, "features"):
            raise NetworkError(
                f"its output has shape {shapes[tensor]}, not one score for each class: register it with "
                "output = 'features'"
            )
        units = units or int(shapes[tensor][-1] if shapes[tensor] else 1)
        return Output(taps[tensor], units, "features", notes=tuple(notes))
    kind, told = told_kind(Seen(ends[tensor], Stance.of(rows_of(tensor)), units), declared)
    notes.append(told)
    given = named.classes if named is not None and named.tensor == tensor and len(named.classes) == units else ()
    if given:
        notes.append("The file itself names the classes.")
    squeezed = not MEANINGS[kind].sides and trial.values[tensor].shape[1:] != (units,)
    return Output(taps[tensor], units, kind, squeezed, given, tuple(notes))
