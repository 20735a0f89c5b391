"""Exporting a torch network to ONNX, once, with every module's output a named graph output, checked against torch.

Torch and onnx are imported inside the functions that need them.
"""

from __future__ import annotations

import json
import os
import re
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT, Card
from fovea.models.errors import NetworkError
from fovea.models.graph import OPSET
from fovea.models.graph.cut import BATCH, INPUT, OWN, TAPS, own_names
from fovea.models.graph.native import build_lock, native_output, quiet_python
from fovea.models.graph.parity import check_parity
from fovea.models.memory import out_of_memory

if TYPE_CHECKING:
    import onnx
    from torch import nn

LARGEST_BYTES = 2_000_000_000
"""An ONNX file is one protobuf message, and those end at 2 GiB."""


def export(module: nn.Module, card: Card, path: Path) -> None:
    """Write a prepared `module` to `path` as ONNX with every module call's output as a named graph output.

    The graph is not optimised and its batch size is free, unless the network takes one alone (`card.batch`). A newer
    set of operators is taken where `OPSET` lacks one. It is compared with torch at every tap before it is given its
    name. Raises NetworkError if it cannot be exported, ParityError naming the first tap that disagrees.
    """
    import onnx
    import torch

    size = sum(p.numel() * p.element_size() for p in [*module.parameters(), *module.buffers()])
    if size > LARGEST_BYTES:
        raise NetworkError(
            f"{card.name}: it has {size / 1e9:.1f} GB of weights, more than the 2 GB that an ONNX file can hold"
        )
    shape = (card.preprocessing.channels, *card.preprocessing.size)
    # Two images: with one, code that drops axes of size one would be recorded wrongly.
    x = torch.randn(card.batch or 2, *shape, generator=torch.Generator().manual_seed(0))
    names = [*(layer.name for layer in card.layers), OUTPUT]
    input_name = "input" if "input" not in names else "network_input"
    scratch = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        # The exporter takes no name that is a number, as a plain nn.Sequential gives to its layers.
        tensors = [f"layer_{name}" if name.isdecimal() else name for name in names]
        _trace(module, x, scratch, input_name, tensors, card.batch is None)
        model = onnx.load(str(scratch))
        merged = _merge_aliases(model, tensors)
        taps = {tap: f"{OWN}{merged[tensor]}" for tap, tensor in zip(names, tensors, strict=True)}
        own_names(model.graph)
        input_name = f"{OWN}{input_name}"
        facts = {TAPS: json.dumps(taps), INPUT: input_name}
        if card.batch is not None:
            facts[BATCH] = str(card.batch)
        for key, value in facts.items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.save(model, str(scratch))
        del model
        check_parity(module, scratch, taps, input_name, shape, card.name, card.batch or 1)
        # What a Python branch on values would take another way: an image of another brightness.
        output = {OUTPUT: taps[OUTPUT]}
        check_parity(module, scratch, output, input_name, shape, card.name, card.batch or 1, brightness=-2.0)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _trace(module: nn.Module, x: Any, path: Path, input_name: str, names: list[str], free: bool) -> None:
    """Record the network in the oldest set of operators that has all it needs. `free`: any batch size will do."""
    import torch
    from torch import nn

    from fovea.models import torch_net

    class AllTaps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = module

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(torch_net.all_taps(self.network, x).values())

    wrapper = AllTaps().eval()
    exporter: Any = torch.onnx
    exporter.register_custom_op_symbolic("aten::adaptive_avg_pool2d", _adaptive_average, OPSET)
    opset = OPSET
    while True:
        try:
            # The TorchScript exporter: it keeps the names of taps and needs no further package. It warns of its age and
            # of every Python branch on a shape; what a branch could break, the parity check at another batch size
            # finds. Where it fails it prints the whole graph, natively.
            with warnings.catch_warnings(), torch.no_grad(), quiet_python(), build_lock, native_output(1, 2):
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    wrapper,
                    (x,),
                    str(path),
                    dynamo=False,
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    opset_version=opset,
                    input_names=[input_name],
                    output_names=names,
                    dynamic_axes={name: {0: "batch"} for name in [input_name, *names]} if free else None,
                )
            return
        except Exception as error:
            if out_of_memory(error):
                raise
            newer = re.search(r"added in version (\d+)", str(error))
            if newer is None or int(newer[1]) <= opset:
                raise NetworkError(f"it cannot be exported to ONNX ({exporter_reason(error)})") from error
            opset = int(newer[1])


def exporter_reason(error: Exception) -> str:
    """Why the exporter failed, in a few words: the operator that it does not know, or the line that tells."""
    text = str(error)
    operator = re.search(r"operator '?((?:\w+::)?\w+)'?(?: to ONNX|, )", text)
    if operator:
        kind = re.search(r"operator '?[\w:]+'?, ([^.\n\[]+)", text)
        return f"the exporter cannot write the operator {operator[1]}{f' ({kind[1].strip()})' if kind else ''}"
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    return _words(lines[0])


def _words(line: str) -> str:
    """A line without the place in native code from which it came, at most 160 characters."""
    line = re.sub(r"\s*\(?(at|from|Triggered internally at)\s+[\w./\\-]+\.(cpp|h|cc|py):\d+.*$", "", line)
    return (line if len(line) <= 160 else f"{line[:159]}…").rstrip(". ")


def _adaptive_average(g: Any, x: Any, output_size: Any) -> Any:
    """Adaptive average pooling for the exporter, which has none where the sizes do not divide.

    Rows and columns are averaged by one product each with a constant matrix.
    """
    import torch

    height, width = x.type().varyingSizes()[-2:]
    rows, columns = output_size.node().t("value").tolist()
    if (rows, columns) == (1, 1):
        return g.op("GlobalAveragePool", x)
    if height % rows == 0 and width % columns == 0:
        kernel = [height // rows, width // columns]
        return g.op("AveragePool", x, kernel_shape_i=kernel, strides_i=kernel)
    down = g.op("Constant", value_t=torch.from_numpy(_averages(height, rows)))
    across = g.op("Constant", value_t=torch.from_numpy(_averages(width, columns).T.copy()))
    return g.op("MatMul", g.op("MatMul", down, x), across)


def _averages(length: int, cells: int) -> NDArray[np.float32]:
    """(cells, length): row i holds the weights of the i-th cell of an adaptive average pooling."""
    weights = np.zeros((cells, length), np.float32)
    for i in range(cells):
        start, end = i * length // cells, -(-(i + 1) * length // cells)
        weights[i, start:end] = 1 / (end - start)
    return weights


def _merge_aliases(model: onnx.ModelProto, names: Sequence[str]) -> dict[str, str]:
    """Tap to tensor. Two names for one tensor (a dropout in eval mode) come out of the exporter as an Identity,
    which is taken out, so that a cut holds each tensor once."""
    graph = model.graph
    outputs = {o.name for o in graph.output}
    source = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Identity" and n.output[0] in outputs}
    alias: dict[str, str] = {}
    for name in source:
        end = name
        while end in source and source[end] in outputs:
            end = source[end]
        if end != name:
            alias[name] = end
    for node in list(graph.node):
        if node.op_type == "Identity" and node.output[0] in alias:
            graph.node.remove(node)
            continue
        for index, value in enumerate(node.input):
            if value in alias:
                node.input[index] = alias[value]
    for output in [o for o in graph.output if o.name in alias]:
        graph.output.remove(output)
    return {name: alias.get(name, name) for name in names}
