"""A user's ONNX file as a network: its card read from the graph, every node's output a tap, forward methods only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT, Card, OutputKind, Preprocessing
from fovea.models.entry import preprocessing_from
from fovea.models.errors import NetworkError
from fovea.models.graph.cut import OWN, TappedGraph, own_names
from fovea.models.graph.export import LARGEST_BYTES
from fovea.models.graph.onnx_layers import count, layers_of
from fovea.models.graph.trial import try_graph

if TYPE_CHECKING:
    import onnx
    from torch import nn

# The standard's own operators, and ONNX Runtime's built-in ones.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_FIXED_BATCH = "fovea.batch"
GRADIENTS_NOTE = "This is an ONNX file: methods that only look work on it; gradients need the network as torch code."
USUAL_SIDE = 224
"""Height and width in pixels that are taken where a file leaves them free."""


@dataclass(frozen=True)
class Hints:
    """What a registration says of a file: `input` as in networks.toml, class names, what the output is, a title."""

    input: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    output: str | None = None
    title: str = ""


class OnnxNetwork:
    """A network that is an ONNX file: a card and a graph, but no torch module and so no gradients."""

    def __init__(self, name: str, card: Card, graph: TappedGraph) -> None:
        self.name = name
        self.card = card
        self._graph = graph

    def module(self, device: str = "cpu") -> nn.Module:
        """There is none: always raises NetworkError."""
        raise NetworkError(
            f"{self.name} is an ONNX file, for which gradients cannot be computed: "
            "use a look method, or register the network as torch code"
        )

    def graph(self) -> TappedGraph:
        """The file's graph, every layer a named output."""
        return self._graph


def load(name: str, path: Path, hints: Hints) -> OnnxNetwork:
    """The network in the file at `path`. Raises NetworkError, one line, for what cannot be read or is refused:
    external data, custom operators, control flow, an input that is no image."""
    path = path.expanduser()
    model = _read(path)
    _refuse(model, path)
    preprocessing, channels_last = _preprocessing(name, model, path, hints)
    input_name = _adapt_input(model, path, preprocessing, channels_last)
    shape = (preprocessing.channels, *preprocessing.size)
    own = [o.name for o in model.graph.output]
    declared = _declared_batches(model)
    names = _expose_outputs(model, input_name)
    trial = try_graph(model, input_name, shape, own, declared, path)
    values = {tensor: trial.values[tensor] for tensor in names.values() if tensor in trial.values}
    values = {tensor: value for tensor, value in values.items() if value.dtype.kind == "f"}
    layers = layers_of(model, names, input_name, values, trial)
    taps = _widen(model, {tap: tensor for tap, tensor in names.items() if tensor in values}, values)
    output, kind, more = _output(model, own, names, values, hints)
    taps[OUTPUT] = taps[output]
    units = values[names[output]].shape[-1]
    own_names(model.graph)
    taps = {tap: f"{OWN}{tensor}" for tap, tensor in taps.items()}
    if hints.classes and kind != "features" and len(hints.classes) != units:
        raise NetworkError(
            f"{name} gives {units} scores, but {len(hints.classes)} class names were given: "
            "give one name for each score"
        )
    classes = hints.classes or tuple(f"class {i}" for i in range(units))
    card = Card(
        name=name,
        title=hints.title or path.stem,
        architecture="onnx",
        preprocessing=preprocessing,
        classes=() if kind == "features" else classes,
        layers=layers,
        parameters=sum(count(t) for t in model.graph.initializer),
        sha256=hashlib.sha256(path.read_bytes() + f"{preprocessing.model_dump_json()} {kind}".encode()).hexdigest(),
        weights=path.name,
        gradients=False,
        output=kind,
        notes=(GRADIENTS_NOTE, *trial.notes, *more),
    )
    graph = TappedGraph(path, taps, f"{OWN}{input_name}", shape, model=model, batch=trial.batch)
    return OnnxNetwork(name, card, graph)


def _read(path: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise NetworkError(f"there is no ONNX file at {path}")
    if path.stat().st_size > LARGEST_BYTES:
        raise NetworkError(f"{path.name} is larger than 2 GB, which is the most that an ONNX file can hold")
    try:
        model: onnx.ModelProto = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError, RuntimeError):
        raise NetworkError(f"{path.name} is not an ONNX file, or it is damaged") from None
    if not model.graph.node or not model.graph.output:
        raise NetworkError(f"{path.name} is not an ONNX file, or it is empty")
    return model


def _refuse(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    tensors = [*model.graph.initializer, *(a.t for n in model.graph.node for a in n.attribute)]
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            places = [entry.value for entry in tensor.external_data if entry.key == "location"]
            raise NetworkError(
                f"{path.name} keeps its weights in another file ({(places or ['?'])[0]}): save it as one file"
            )
    local = {(f.domain, f.name) for f in model.functions}
    for node in model.graph.node:
        if node.domain not in _DOMAINS and (node.domain, node.op_type) not in local:
            raise NetworkError(
                f"{path.name} uses the custom operator {node.domain}::{node.op_type}, which cannot be run"
            )
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise NetworkError(f"{path.name} branches or loops ({node.op_type}): such a graph cannot be cut at a layer")


def _image_input(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    import onnx

    weights = {t.name for t in model.graph.initializer}
    inputs = [i for i in model.graph.input if i.name not in weights]
    if len(inputs) != 1:
        raise NetworkError(f"{path.name} has {len(inputs)} inputs: it must have one, the image")
    kind = inputs[0].type.tensor_type
    if len(kind.shape.dim) != 4 or kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
        raise NetworkError(
            f"{path.name}: its input {inputs[0].name} is not an image of floating point numbers (N, C, H, W)"
        )
    image: onnx.ValueInfoProto = inputs[0]
    return image


def _declared_batches(model: onnx.ModelProto) -> list[int]:
    """The batch sizes that the file names: its input's, and those of its outputs."""
    declared = [int(e.value) for e in model.metadata_props if e.key == _FIXED_BATCH]
    shapes = [o.type.tensor_type.shape.dim for o in model.graph.output]
    return list(dict.fromkeys(declared + [dims[0].dim_value for dims in shapes if dims and dims[0].dim_value]))


def _preprocessing(name: str, model: onnx.ModelProto, path: Path, hints: Hints) -> tuple[Preprocessing, bool]:
    """The card's preprocessing, and whether the file takes (N, H, W, C)."""
    _, a, b, c = [d.dim_value for d in _image_input(model, path).type.tensor_type.shape.dim]
    channels_last = c in (1, 3, 4) and a not in (1, 3, 4)
    channels, height, width = (c, a, b) if channels_last else (a, b, c)
    side: Any = (hints.input or {}).get("crop", (hints.input or {}).get("size"))
    wanted = (side, side) if isinstance(side, int) else tuple(side or (USUAL_SIDE, USUAL_SIDE))
    size = (height or wanted[0], width or wanted[1])
    if side is not None and size != wanted:
        raise NetworkError(f"{name} takes {size[0]} x {size[1]} pixels, not {wanted[0]} x {wanted[1]}")
    channels = channels or int((hints.input or {}).get("channels", 3))
    default = Preprocessing(size=size, resize=round(min(size) * 256 / 224))
    if channels != 3:
        if channels not in (1, 4):
            raise NetworkError(f"{name} takes images of {channels} channels, but only 1, 3 or 4 can be made of a photo")
        default = default.model_copy(update={"channels": channels, "mean": (0.0,) * channels, "std": (1.0,) * channels})
    return preprocessing_from(hints.input or {}, default, name), channels_last


def _adapt_input(model: onnx.ModelProto, path: Path, preprocessing: Preprocessing, channels_last: bool) -> str:
    """Make the input float32 (batch, C, H, W) of the card's size, whatever the file takes; returns its name."""
    from onnx import TensorProto, helper

    old = _image_input(model, path)
    batch = old.type.tensor_type.shape.dim[0].dim_value
    if batch:
        entry = model.metadata_props.add()
        entry.key, entry.value = _FIXED_BATCH, str(batch)
    half = old.type.tensor_type.elem_type == TensorProto.FLOAT16
    new_name, source = old.name, old.name
    nodes = []
    if channels_last or half:
        new_name = source = f"{old.name}_image"
    if channels_last:
        target = f"{old.name}_channels_last" if half else old.name
        nodes.append(helper.make_node("Transpose", [source], [target], perm=[0, 2, 3, 1]))
        source = target
    if half:
        nodes.append(helper.make_node("Cast", [source], [old.name], to=TensorProto.FLOAT16))
    shape: list[str | int | None] = ["batch", preprocessing.channels, *preprocessing.size]
    value = helper.make_tensor_value_info(new_name, TensorProto.FLOAT, shape)
    kept = [value if i.name == old.name else i for i in model.graph.input]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    # Shapes that were inferred for the file's own input size and batch need not hold any more.
    del model.graph.value_info[:]
    return new_name


def _expose_outputs(model: onnx.ModelProto, input_name: str) -> dict[str, str]:
    """Tap to tensor for every node output that depends on the image; all node outputs are made the graph's."""
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
        value.type.tensor_type.ClearField("shape")
    values = [own.get(t) or onnx.ValueInfoProto(name=t) for t in (*tensors, *others)]
    del model.graph.output[:]
    model.graph.output.extend(values)
    names: dict[str, str] = {}
    for tensor in tensors:
        short = tensor.removesuffix("_output_0")
        tap = short if short not in names and short not in (OUTPUT, "") else tensor
        names[f"{tap}#1" if tap == OUTPUT else tap] = tensor
    return names


def _widen(model: onnx.ModelProto, taps: dict[str, str], values: dict[str, NDArray[Any]]) -> dict[str, str]:
    """Taps whose tensors are float16 come out as float32; every tap gets its type for the extractor."""
    from onnx import TensorProto, helper

    wide = dict(taps)
    del model.graph.output[:]
    for tap, tensor in taps.items():
        if values[tensor].dtype == np.float16:
            wide[tap] = f"{tensor}_float32"
            model.graph.node.append(helper.make_node("Cast", [tensor], [wide[tap]], to=TensorProto.FLOAT))
        free = ["batch", *values[tensor].shape[1:]] if values[tensor].ndim else []
        model.graph.output.append(helper.make_tensor_value_info(wide[tap], TensorProto.FLOAT, free))
    return wide


def _output(
    model: onnx.ModelProto,
    own: Sequence[str],
    names: Mapping[str, str],
    values: Mapping[str, NDArray[Any]],
    hints: Hints,
) -> tuple[str, OutputKind, list[str]]:
    """The tap that is the network's output, what it is, and what to tell. `own`: the file's outputs, in order."""
    taps = {tensor: tap for tap, tensor in names.items()}
    floats = [t for t in own if t in taps and t in values]
    if not floats:
        raise NetworkError("none of the outputs of the file are numbers that depend on the image")
    scores = [t for t in floats if values[t].ndim == 2]
    # Where the file also names layers inside the network, its end is what nothing else reads.
    read = {i for n in model.graph.node for i in n.input}
    tensor = sorted(scores or floats, key=lambda t: t in read)[0]
    notes = [f"The file has {len(own)} outputs; {tensor} is read as the output of the network."] if len(own) > 1 else []
    last = next(n.op_type for n in model.graph.node if tensor in n.output)
    kind: Any = hints.output or ("features" if not scores else "probabilities" if last == "Softmax" else "logits")
    if kind != "features" and not scores:
        raise NetworkError(
            f"its output has shape {values[tensor].shape[1:]}, not one score for each class: register it with "
            "output = 'features'"
        )
    return taps[tensor], kind, notes
