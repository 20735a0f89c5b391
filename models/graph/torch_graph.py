"""Torch in the place of an ONNX graph, for networks that cannot be exported: the same questions, answered alike.

A cut holds the whole network as one node. A question adds its nodes before and behind it as it does to any graph; those
run in ONNX Runtime, and between them torch computes the taps. So every reduction is written once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fovea.models.card import OUTPUT, Card
from fovea.models.graph.cut import OPSET, OWN, TappedGraph
from fovea.models.graph.sessions import Session

if TYPE_CHECKING:
    import onnx
    from torch import nn

Array = NDArray[Any]

DOMAIN = "fovea"
"""The domain of the operator that stands for the network; no runtime knows it."""


class TorchGraph(TappedGraph):
    """A network whose taps torch computes. `module(device)` gives its module there; `reason` says why, in words."""

    def __init__(self, module: Callable[[str], nn.Module], card: Card, reason: str) -> None:
        names = [*(layer.name for layer in card.layers), OUTPUT]
        taps = {name: f"{OWN}{name}" for name in names}
        shape = (card.preprocessing.channels, *card.preprocessing.size)
        input_name = "input" if "input" not in names else "network_input"
        super().__init__(Path(card.name), taps, f"{OWN}{input_name}", shape, batch=card.batch)
        self.reason = reason
        self._module = module

    def cut(self, taps: Sequence[str]) -> onnx.ModelProto:
        """A model of one node that stands for the network, whose outputs are `taps`. Raises UnknownNameError."""
        from onnx import TensorProto, helper

        tensors = list(dict.fromkeys(self.tensor(tap) for tap in taps))
        value = helper.make_tensor_value_info(self.input, TensorProto.FLOAT, ["batch", *self.input_shape])
        outputs = [helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None) for tensor in tensors]
        node = helper.make_node("Network", [self.input], tensors, domain=DOMAIN)
        graph = helper.make_graph([node], "torch", [value], outputs)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def session(
        self, model: onnx.ModelProto, provider: str, threads: int | None = None, device: str = "cpu"
    ) -> TorchSession:
        """What runs a question: torch on `device`; no provider is asked for what stands before and behind it."""
        tap_of = {tensor: tap for tap, tensor in self.taps.items()}
        return TorchSession(self._module(device), model, tap_of, device, threads)


class TorchSession:
    """Answers a question about a `TorchGraph` as `Session` does about a graph; `provider` is "torch", or "torch:cuda"
    where it computes elsewhere than on the CPU."""

    def __init__(
        self, module: nn.Module, model: onnx.ModelProto, tap_of: Mapping[str, str], device: str, threads: int | None
    ) -> None:
        node = next(node for node in model.graph.node if node.domain == DOMAIN)
        self.provider = "torch" if device == "cpu" else f"torch:{device}"
        self.outputs = [value.name for value in model.graph.output]
        self._module, self._device = module, device
        self._input = node.input[0]
        self._tap_of = {tensor: tap_of[tensor] for tensor in node.output}
        front = _part(model, [], [self._input])
        self._front = Session(front, "cpu", threads) if front.graph.node else None
        self._tail = Session(_part(model, list(node.output), self.outputs), "cpu", threads)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs (all, unless named) for `feeds` (input name to array)."""
        import torch

        from fovea.models.torch_net import forward_taps

        values: dict[str, Array] = dict(feeds)
        if self._front is not None:
            (values[self._input],) = self._front.run({name: feeds[name] for name in self._front.inputs})
        x = torch.from_numpy(np.ascontiguousarray(values[self._input], np.float32)).to(self._device)
        with torch.no_grad():
            taps = forward_taps(self._module, x, list(self._tap_of.values()))
        values |= {tensor: taps[tap].float().cpu().numpy() for tensor, tap in self._tap_of.items()}
        return self._tail.run({name: values[name] for name in self._tail.inputs}, outputs)


def _part(model: onnx.ModelProto, starts: Sequence[str], ends: Sequence[str]) -> onnx.ModelProto:
    """The part of a question that makes `ends` from its own inputs and from `starts`; the network is in no part."""
    from onnx import TensorProto, helper

    wanted, nodes = set(ends), []
    for node in reversed(model.graph.node):
        if node.domain != DOMAIN and any(tensor in wanted for tensor in node.output):
            nodes.append(node)
            wanted.update(node.input)
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in starts if name in wanted]
    known = {value.name: value for value in model.graph.output}
    outputs = [known.get(name) or helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ends]
    graph = helper.make_graph(
        nodes[::-1],
        "part",
        [*(value for value in model.graph.input if value.name in wanted), *floats],
        outputs,
        [tensor for tensor in model.graph.initializer if tensor.name in wanted],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
