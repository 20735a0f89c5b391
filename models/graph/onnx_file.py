"""A user's ONNX file as a network: its card read from the graph, every node's output a tap, forward methods only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fovea.models.card import OUTPUT, Card, Preprocessing
from fovea.models.entry import preprocessing_from
from fovea.models.errors import NetworkError
from fovea.models.graph import OPSET
from fovea.models.graph.apart import ApartGraph
from fovea.models.graph.cut import OWN, TappedGraph, own_names
from fovea.models.graph.onnx_input import adapt_input, image_input
from fovea.models.graph.onnx_layers import count, layers_of
from fovea.models.graph.onnx_output import expose_outputs, read_output, take_off_maps, widen
from fovea.models.graph.onnx_read import other_files, read_model
from fovea.models.graph.trial import VARIES_NOTE, answers_differ, run_each, try_graph
from fovea.models.meaning import named_classes, trial_images

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray
    from torch import nn

    from fovea.models.graph.onnx_input import ImageInput
    from fovea.models.output import OutputKind

GRADIENTS_NOTE = "This is an ONNX file: methods that only look work on it; gradients need the network as torch code."
LEAST_OPSET = 13
"""In older sets of operators the nodes of a question mean something else, or are not there."""
USUAL_SIDE = 224
"""Height and width in pixels that are taken where a file leaves them free."""


@dataclass(frozen=True)
class Hints:
    """What a registration says of a file: `input` as in networks.toml, class names, what the output is, a title."""

    input: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    output: OutputKind | None = None
    output_name: str = ""
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
    """The network in the file at `path`. Raises NetworkError, one line, for what cannot be read or is refused: weights
    in files out of its folder, custom operators, control flow, an input that is no image."""
    path = path.expanduser()
    model = read_model(path)
    named = take_off_maps(model)
    image = image_input(model, path)
    preprocessing, notes = _preprocessing(name, image, hints)
    input_name = adapt_input(model, image, preprocessing)
    shape = (preprocessing.channels, *preprocessing.size)
    own = [o.name for o in model.graph.output]
    declared = _declared_batches(model, image.batch)
    names = expose_outputs(model, input_name, image.name)
    trial = try_graph(model, input_name, shape, own, declared, path)
    values = {tensor: trial.values[tensor] for tensor in names.values() if tensor in trial.values}
    values = {tensor: value for tensor, value in values.items() if value.dtype.kind == "f"}
    layers = layers_of(model, names, input_name, values, trial)
    taps = widen(model, {tap: tensor for tap, tensor in names.items() if tensor in values}, values)
    images = trial_images(preprocessing)

    def rows_of(tensor: str) -> list[NDArray[np.float64]]:
        return run_each(model, input_name, images, tensor, trial.batch)

    output = read_output(model, own, names, trial, named, hints.output, hints.output_name, len(hints.classes), rows_of)
    varies = answers_differ(model, input_name, images[:1], names[output.tap], trial.batch)
    taps[OUTPUT] = output.scores(model, taps[output.tap])
    own_names(model.graph)
    taps = {tap: f"{OWN}{tensor}" for tap, tensor in taps.items()}
    classes: tuple[str, ...] = ()
    told_classes = ""
    if output.kind != "features":
        classes, told_classes = named_classes(name, output.kind, output.units, hints.classes or output.classes)
    named_output = f" {hints.output_name}" if hints.output_name else ""
    card = Card(
        name=name,
        title=hints.title or path.stem,
        architecture="onnx",
        preprocessing=preprocessing,
        classes=classes,
        layers=layers,
        parameters=sum(count(t) for t in model.graph.initializer),
        sha256=_sha256(path, f"{preprocessing.model_dump_json()} {output.kind}{named_output}"),
        weights=path.name,
        gradients=False,
        output=output.kind,
        output_name=hints.output_name,
        varies=varies,
        batch=trial.batch,
        squeezed=output.squeezed,
        notes=(
            GRADIENTS_NOTE,
            *notes,
            *trial.notes,
            *output.notes,
            *filter(None, [told_classes]),
            *([VARIES_NOTE] if varies else []),
        ),
    )
    kind = ApartGraph if _opset(model) < LEAST_OPSET else TappedGraph
    return OnnxNetwork(name, card, kind(path, taps, f"{OWN}{input_name}", shape, model=model, batch=trial.batch))


def _opset(model: onnx.ModelProto) -> int:
    return max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=OPSET)


def _sha256(path: Path, facts: str) -> str:
    """Of the file, of the files beside it that hold its weights, and of how it is used."""
    digest = hashlib.sha256(path.read_bytes())
    for file in other_files(path):
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update(facts.encode())
    return digest.hexdigest()


def _declared_batches(model: onnx.ModelProto, batch: int) -> list[int]:
    """The batch sizes that the file names: its input's, and those of its outputs."""
    shapes = [o.type.tensor_type.shape.dim for o in model.graph.output]
    outputs = [dims[0].dim_value for dims in shapes if len(dims) > 1 and dims[0].dim_value]
    return list(dict.fromkeys(([batch] if batch else []) + outputs))


def _preprocessing(name: str, image: ImageInput, hints: Hints) -> tuple[Preprocessing, list[str]]:
    """How a photo becomes what the file takes, and what to tell of that."""
    fields = hints.input or {}
    side: Any = fields.get("crop", fields.get("size"))
    wanted = (side, side) if isinstance(side, int) else tuple(side or (USUAL_SIDE, USUAL_SIDE))
    size = (image.height or wanted[0], image.width or wanted[1])
    if side is not None and size != wanted:
        raise NetworkError(f"{name} takes {size[0]} x {size[1]} pixels, not {wanted[0]} x {wanted[1]}")
    channels = image.channels or int(fields.get("channels", 3))
    if channels not in (1, 3, 4):
        raise NetworkError(f"{name} takes images of {channels} channels, but only 1, 3 or 4 can be made of a photo")
    default = Preprocessing(size=size, resize=round(min(size) * 256 / 224))
    notes = []
    plain = {"channels": channels, "mean": (0.0,) * channels, "std": (1.0,) * channels}
    if image.whole:
        default = default.model_copy(update={**plain, "range": image.limits})
        low, high = image.limits
        told = (
            "as --range, --mean and --std say"
            if {"range", "mean", "std"} & set(fields)
            else (f"from {low:g} to {high:g}, without a mean and a deviation (--range, --mean and --std say otherwise)")
        )
        notes.append(f"It takes whole numbers ({image.kind}): photos are given {told}.")
    elif channels != 3:
        default = default.model_copy(update=plain)
    return preprocessing_from(fields, default, name), notes
